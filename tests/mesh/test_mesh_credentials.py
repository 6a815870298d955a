"""What a gateway may hold of the secrets that its Gateways name, and what is told of those it may not."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from isthmus.api.meta import Key
from isthmus.envoy.resource import SECRET
from isthmus.identity.ca import Authority
from isthmus.identity.keys import key_pem, new_key
from isthmus.identity.spiffe import SpiffeId
from isthmus.mesh.gateways_credentials import credential, place_of
from makers import World

GATEWAY = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: gate, namespace: edge, labels: {istio: x}, annotations: {isthmus.dev/proxy: gateway}}
spec: {address: 10.0.0.9, serviceAccount: gate}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: shop}
spec:
  selector: {istio: x}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [shop.example.com]
    tls: {mode: MUTUAL, credentialName: shop}
  - port: {number: 444, name: https-other, protocol: HTTPS}
    hosts: [shop.example.com]
    tls: {mode: SIMPLE, credentialName: "kubernetes://private/other"}
---
"""


@pytest.fixture
def pair(authority: Authority) -> tuple[str, str]:
    key = new_key()
    identity = SpiffeId("cluster.local", "shop", "x")
    issued = authority.sign(key.public_key(), identity, common_name="x", ttl=timedelta(hours=1))
    return issued.chain, key_pem(key).decode()


def secret(name: str, namespace: str = "edge", **data: str) -> str:
    fields = ", ".join(f"{k}: {base64.b64encode(v.encode()).decode()}" for k, v in data.items())
    return (
        f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
        f"data: {{{fields}}}\n---\n"
    )


def told(world: World, name: str, namespace: str = "edge") -> str:
    return "; ".join(map(str, world.engine(credential, name, namespace).problems))


def test_key_chain_and_roots_come_from_one_secret_or_two(pair: tuple[str, str], authority: Authority) -> None:
    chain, key = pair
    one = secret("shop", **{"tls.crt": chain, "tls.key": key, "ca.crt": authority.roots})
    held = World().apply(GATEWAY, one).manifest(SECRET, "edge", "gate")
    assert set(held) == {"kubernetes://shop", "kubernetes://shop-cacert"}
    two = secret("shop", cert=chain, key=key) + secret("shop-cacert", cacert=authority.roots)
    assert set(World().apply(GATEWAY, two).manifest(SECRET, "edge", "gate")) == set(held)


def test_only_secrets_of_its_own_namespace_and_that_a_gateway_names(pair: tuple[str, str]) -> None:
    chain, key = pair
    data = {"tls.crt": chain, "tls.key": key}
    world = World().apply(
        GATEWAY, secret("other", "private", **data), secret("shop", "shop", **data), secret("unnamed", **data)
    )
    assert world.manifest(SECRET, "edge", "gate") == {}
    assert "is not of namespace edge" in told(world, "kubernetes://private/other")


def test_a_sidecar_holds_none(pair: tuple[str, str]) -> None:
    chain, key = pair
    plain = GATEWAY.replace(", annotations: {isthmus.dev/proxy: gateway}", "")
    world = World().apply(plain, secret("shop", **{"tls.crt": chain, "tls.key": key}))
    assert world.manifest(SECRET, "edge", "gate") == {}


def test_a_new_certificate_is_a_new_version(pair: tuple[str, str]) -> None:
    chain, key = pair
    world = World().apply(GATEWAY, secret("shop", **{"tls.crt": chain, "tls.key": key}))
    before = world.manifest(SECRET, "edge", "gate")["kubernetes://shop"].version
    world.apply(secret("shop", **{"tls.crt": chain + chain, "tls.key": key}))
    assert world.manifest(SECRET, "edge", "gate")["kubernetes://shop"].version != before


def test_what_cannot_be_used_is_told_and_not_sent(pair: tuple[str, str]) -> None:
    chain, key = pair
    stranger = key_pem(new_key()).decode()
    for data, text in (
        ({"tls.crt": chain, "tls.key": stranger}, "the key is not the certificate's"),
        ({"tls.crt": "no", "tls.key": key}, "the certificate cannot be read"),
        ({"tls.crt": chain, "tls.key": "no"}, "the key cannot be read"),
        ({"tls.crt": chain}, "should hold tls.crt and tls.key, holds tls.crt"),
    ):
        world = World().apply(GATEWAY, secret("shop", **data))
        assert text in told(world, "kubernetes://shop")
        assert world.manifest(SECRET, "edge", "gate") == {}
    assert "there is no Secret/edge/shop" in told(World().apply(GATEWAY), "kubernetes://shop")
    assert "there is no Secret/edge/shop" in told(World().apply(GATEWAY), "kubernetes://shop-cacert")


def test_revoked_certificates_are_told_with_the_roots_or_nobody_gets_in(authority: Authority) -> None:
    """A list that cannot be read is no reason to let everybody in, nor one for Envoy to wait for ever."""
    one, two = revocations(1), revocations(2)
    for crl, text in (("ca.crl", one + two), ("crl", one)):
        roots = {"ca.crt" if crl == "ca.crl" else "cacert": authority.roots}
        world = World().apply(GATEWAY, secret("shop-cacert", **roots, **{crl: text}))
        found = world.engine(credential, "kubernetes://shop-cacert", "edge").value
        assert found is not None
        assert found.revoked.decode() == text
        before = world.manifest(SECRET, "edge", "gate")["kubernetes://shop-cacert"].version
        world.apply(secret("shop-cacert", **roots, **{crl: two}))
        assert world.manifest(SECRET, "edge", "gate")["kubernetes://shop-cacert"].version != before
        for broken in ("no list", one + one.replace("M", "!", 1), authority.roots):
            world.apply(secret("shop-cacert", **roots, **{crl: broken}))
            assert f"{crl}: the list of revoked certificates cannot be read" in told(
                world, "kubernetes://shop-cacert"
            )
            assert world.manifest(SECRET, "edge", "gate") == {}


def revocations(number: int) -> str:
    """A list in which the certificate of this number is revoked."""
    now = datetime.now(UTC)
    revoked = x509.RevokedCertificateBuilder(number, now).build()
    made = x509.CertificateRevocationListBuilder(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")]), now, now + timedelta(1)
    )
    made = made.add_revoked_certificate(revoked)
    return made.sign(new_key(), hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def test_a_config_map_holds_roots_for_everybody(authority: Authority) -> None:
    text = "".join(f"    {line}\n" for line in authority.roots.splitlines())
    made = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: roots, namespace: far}\ndata:\n  ca.crt: |\n"
    world = World().apply(made + text)
    found = world.engine(credential, "configmap://far/roots", "edge").value
    assert found is not None
    assert found.certificates.decode().strip() == authority.roots.strip()


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("kubernetes://a", Key("Secret", "edge", "a")),
        ("kubernetes://edge/a", Key("Secret", "edge", "a")),
        ("kubernetes-gateway://edge/a", Key("Secret", "edge", "a")),
        ("kubernetes-gateway://far/a", None),
        ("configmap://far/a", Key("ConfigMap", "far", "a")),
        ("builtin://", None),
    ],
)
def test_names_of_secrets(name: str, place: Key | None) -> None:
    assert place_of(name, "edge") == place

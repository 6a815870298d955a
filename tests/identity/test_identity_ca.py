from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from isthmus.identity import ca, keys
from isthmus.identity.ca import Authority, AuthorityUnusable, Missigned, Template, differences
from isthmus.identity.csr import RequestRefused
from isthmus.identity.peer import certificate_identity
from isthmus.identity.spiffe import SpiffeId
from standing_clock import Clock

MYSQL = SpiffeId("cluster.local", "vms", "mysql")


def sign(authority: Authority, **changes: object) -> x509.Certificate:
    settings: dict[str, object] = {"common_name": "mysql-10.0.0.5", "ttl": timedelta(hours=1), **changes}
    issued = authority.sign(keys.new_key().public_key(), MYSQL, **settings)  # type: ignore[arg-type]
    return keys.certificates(issued.chain)[0]


def test_a_leaf_says_what_was_decided_and_nothing_more(authority: Authority, clock: Clock) -> None:
    key = keys.new_key().public_key()
    issued = authority.sign(key, MYSQL, common_name="mysql-10.0.0.5", ttl=timedelta(minutes=1))
    (leaf,) = keys.certificates(issued.chain)
    extensions = leaf.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier(str(MYSQL))]
    assert leaf.subject.rfc4514_string() == "CN=mysql-10.0.0.5"
    assert leaf.public_key() == key
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_cert_sign
    assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    ]
    assert leaf.not_valid_before_utc == clock() - timedelta(minutes=2)
    assert leaf.not_valid_after_utc == clock() + timedelta(minutes=1) == issued.not_after
    assert leaf.serial_number == issued.serial
    leaf.verify_directly_issued_by(keys.certificates(authority.roots)[0])


def test_serials_are_large_and_different(authority: Authority) -> None:
    serials = {sign(authority).serial_number for _ in range(20)}
    assert len(serials) == 20
    assert max(serials).bit_length() > 100
    assert max(serials).bit_length() <= 128


def test_a_servers_names_stand_beside_the_one_id(authority: Authority) -> None:
    leaf = sign(authority, names=["cp.example.com", "10.0.0.2", "fd00::2", "cp.example.com"])
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["cp.example.com"]
    assert names.get_values_for_type(x509.IPAddress) == [ip_address("10.0.0.2"), ip_address("fd00::2")]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [str(MYSQL)]


@pytest.mark.parametrize(
    "changes",
    [
        {"ttl": timedelta(0)},
        {"ttl": timedelta(days=91)},
        {"common_name": ""},
        {"common_name": "x" * 65},
    ],
)
def test_what_may_not_be_signed(authority: Authority, changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"may live|characters"):
        sign(authority, **changes)


def test_a_foreign_trust_domain_is_not_signed(authority: Authority) -> None:
    with pytest.raises(ValueError, match="trust domain"):
        authority.sign(
            keys.new_key().public_key(),
            SpiffeId("other.example", "vms", "mysql"),
            common_name="a",
            ttl=timedelta(hours=1),
        )


def test_a_weak_key_is_not_signed(authority: Authority) -> None:
    weak = ec.generate_private_key(ec.SECP192R1()).public_key()
    with pytest.raises(RequestRefused, match="expected P-256"):
        authority.sign(weak, MYSQL, common_name="a", ttl=timedelta(hours=1))


def test_every_difference_from_the_template_is_seen(authority: Authority) -> None:
    key = keys.new_key().public_key()
    leaf = keys.certificates(authority.sign(key, MYSQL, common_name="a", ttl=timedelta(hours=1)).chain)[0]
    meant = Template(key, MYSQL, "a", leaf.not_valid_before_utc, leaf.not_valid_after_utc)
    assert differences(leaf, meant, authority.certificate) == []
    others = [
        replace(meant, key=keys.new_key().public_key()),
        replace(meant, spiffe=SpiffeId("cluster.local", "vms", "root")),
        replace(meant, common_name="b"),
        replace(meant, not_before=meant.not_before - timedelta(seconds=1)),
        replace(meant, not_after=meant.not_after - timedelta(seconds=1)),
        replace(meant, dns=("a.example",)),
        replace(meant, addresses=(ip_address("10.0.0.1"),)),
    ]
    assert all(differences(leaf, other, authority.certificate) for other in others)


def test_a_leaf_of_another_signer_is_seen(authority: Authority, tmp_path: Path, clock: Clock) -> None:
    other = Authority.open(tmp_path / "other", "cluster.local", clock)
    leaf = sign(authority)
    assert authority.issued(leaf)
    assert not other.issued(leaf)


def test_what_was_signed_wrongly_does_not_leave(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = ca._leaf_extensions

    def swapped(template: Template, issuer: x509.Certificate) -> list[tuple[x509.ExtensionType, bool]]:
        return [(x509.BasicConstraints(ca=True, path_length=None), True), *honest(template, issuer)[1:]]

    class OneSidedAuthority(Authority):
        def _signed(self, template: Template) -> bytes:
            with monkeypatch.context() as patch:
                patch.setattr(ca, "_leaf_extensions", swapped)
                return Authority._signed(self, template)

    bad = OneSidedAuthority(
        authority.trust_domain,
        authority.certificate,
        authority.intermediates,
        authority.roots,
        authority._key,
        authority._now,
    )
    with pytest.raises(Missigned, match="extensions"):
        sign(bad)


def test_the_root_is_kept_and_its_key_is_private(tmp_path: Path, clock: Clock) -> None:
    first = Authority.open(tmp_path / "ca", "cluster.local", clock)
    again = Authority.open(tmp_path / "ca", "cluster.local", clock)
    assert first.roots == again.roots
    assert (tmp_path / "ca" / "ca-key.pem").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "ca").stat().st_mode & 0o777 == 0o700
    assert first.intermediates == ()
    assert first.expires - clock() == timedelta(days=3650)
    assert [entry.name for entry in tmp_path.iterdir()] == ["ca"]


def test_a_crash_while_making_the_root_leaves_no_half_of_one(tmp_path: Path, clock: Clock) -> None:
    left = tmp_path / ".ca.new"
    left.mkdir()
    (left / "ca-key.pem").write_text("half")
    assert Authority.open(tmp_path / "ca", "cluster.local", clock).roots
    assert not left.exists()


def test_an_incomplete_authority_is_never_overwritten(tmp_path: Path, clock: Clock) -> None:
    Authority.open(tmp_path / "ca", "cluster.local", clock)
    (tmp_path / "ca" / "ca-cert.pem").unlink()
    with pytest.raises(AuthorityUnusable, match=r"lacks ca-cert\.pem"):
        Authority.open(tmp_path / "ca", "cluster.local", clock)


def test_a_leaf_never_outlives_its_signer(authority: Authority, clock: Clock) -> None:
    clock.forward(days=3649, hours=23)
    assert sign(authority, ttl=timedelta(days=1)).not_valid_after_utc == authority.expires
    clock.forward(hours=2)
    with pytest.raises(AuthorityUnusable, match="ended at"):
        sign(authority)


def _intermediate(
    root: Authority, *, is_ca: bool = True, curve: ec.EllipticCurve | None = None
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(curve or ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "intermediate")]))
        .issuer_name(root.certificate.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(root.certificate.not_valid_before_utc)
        .not_valid_after(root.certificate.not_valid_before_utc + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), critical=True)
        .sign(root._key, hashes.SHA256())
    )
    return key, certificate


def _give(
    directory: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, roots: str
) -> None:
    directory.mkdir()
    keys.write_durably(directory / "ca-key.pem", keys.key_pem(key), 0o600)
    (directory / "ca-cert.pem").write_text(keys.certificate_pem(certificate))
    (directory / "cert-chain.pem").write_text(keys.certificate_pem(certificate) + roots)
    (directory / "root-cert.pem").write_text(roots)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_an_operators_intermediate_signs(
    authority: Authority, tmp_path: Path, clock: Clock, curve: ec.EllipticCurve
) -> None:
    key, certificate = _intermediate(authority, curve=curve)
    _give(tmp_path / "given", key, certificate, authority.roots)
    given = Authority.open(tmp_path / "given", "cluster.local", clock)
    issued = given.sign(keys.new_key().public_key(), MYSQL, common_name="a", ttl=timedelta(hours=1))
    leaf, between = keys.certificates(issued.chain)
    assert between == certificate
    assert given.roots == authority.roots
    leaf.verify_directly_issued_by(between)


def test_unusable_intermediates_are_refused_in_words(
    authority: Authority, tmp_path: Path, clock: Clock
) -> None:
    key, certificate = _intermediate(authority)
    _give(tmp_path / "swapped", keys.new_key(), certificate, authority.roots)
    with pytest.raises(AuthorityUnusable, match="is not the key of"):
        Authority.open(tmp_path / "swapped", "cluster.local", clock)

    stranger = Authority.open(tmp_path / "stranger", "cluster.local", clock)
    _give(tmp_path / "foreign", key, certificate, stranger.roots)
    with pytest.raises(AuthorityUnusable, match="hold no signer"):
        Authority.open(tmp_path / "foreign", "cluster.local", clock)

    _give(tmp_path / "leaf", *_intermediate(authority, is_ca=False), authority.roots)
    with pytest.raises(AuthorityUnusable, match="not a CA certificate"):
        Authority.open(tmp_path / "leaf", "cluster.local", clock)

    _give(tmp_path / "old", key, certificate, authority.roots)
    clock.forward(days=31)
    with pytest.raises(AuthorityUnusable, match="is valid from"):
        Authority.open(tmp_path / "old", "cluster.local", clock)


def test_the_leaf_names_its_peer(authority: Authority) -> None:
    peer = certificate_identity(sign(authority), "cluster.local")
    assert (peer.spiffe, peer.workload) == (MYSQL, "mysql-10.0.0.5")

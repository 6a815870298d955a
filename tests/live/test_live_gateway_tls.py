"""A gateway opens TLS, asks for certificates, or lets TLS through: what a client outside the mesh sees."""

import os
import ssl
import sys
from collections.abc import Iterator

import pytest
from certificates import Outside, Pair
from cryptography import x509
from gateway_world import AUTHORITY, PARTNERS, World, secret, standing

from isthmus.demo.vm import VM
from isthmus.lab import namespaces

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        bool(namespaces.preflight(root=os.geteuid() == 0)), reason="this machine can run no lab"
    ),
]

MORE = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: more, namespace: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 443, name: https-optional, protocol: HTTPS}, hosts: [optional.example.com],
     tls: {mode: OPTIONAL_MUTUAL, credentialName: optional}}
  - {port: {number: 443, name: https-rotated, protocol: HTTPS}, hosts: [rotated.example.com],
     tls: {mode: MUTUAL, credentialName: rotated}}
  - {port: {number: 7443, name: tls-bytes, protocol: TLS}, hosts: [bytes.example.com],
     tls: {mode: SIMPLE, credentialName: bytes}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: more, namespace: shop}
spec:
  hosts: [optional.example.com, rotated.example.com]
  gateways: [edge/more]
  http: [{route: [{destination: {host: web, port: {number: 80}}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bytes, namespace: shop}
spec:
  hosts: [bytes.example.com]
  gateways: [edge/more]
  tcp: [{match: [{port: 7443}], route: [{destination: {host: web, port: {number: 7000}}}]}]
---
"""
FIRST_WORD = """
import socket, ssl, sys
c = ssl.create_default_context(cafile="/srv/root-of-trust.pem")
s = c.wrap_socket(socket.create_connection((sys.argv[1], 7443), 5), server_hostname=sys.argv[2])
print(s.makefile().readline())
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with standing(tmp_path_factory, "gateway-tls") as made:
        made.open()
        yield made


def test_tls_is_opened_and_a_new_certificate_is_shown_at_once(world: World) -> None:
    assert world.call("https://secure.example.com/") == f"web saw {world.client.address} https"
    assert serial(world) == 1
    world.plane.apply(secret("shop", AUTHORITY.pair("secure.example.com", serial=2)))
    world.until(lambda: serial(world) == 2, "the second certificate")
    assert world.call("https://secure.example.com/") == f"web saw {world.client.address} https"


def test_a_key_of_another_certificate_takes_nothing_away_and_is_told(world: World) -> None:
    before = serial(world)
    one, other = (
        AUTHORITY.pair("secure.example.com", serial=8),
        AUTHORITY.pair("secure.example.com", serial=9),
    )
    good = AUTHORITY.pair("secure.example.com", serial=before)
    world.plane.apply(secret("shop", Pair(one.certificate, other.key)), wait=False)
    world.until(lambda: "the key is not the certificate's" in world.condition(), "the condition")
    assert world.call("http://shop.example.com/").startswith("web saw")
    world.plane.apply(secret("shop", good))
    world.until(lambda: serial(world) == before, "a good certificate again")


def test_clients_must_show_a_certificate_where_a_server_asks(world: World) -> None:
    bare = world.call("https://partners.example.com/")
    assert "web saw" not in bare
    shown = PARTNERS.pair("partner")
    world.client.write("/srv/partner.pem", shown.certificate + shown.key)
    assert world.call("https://partners.example.com/", "--cert", "/srv/partner.pem").startswith("web saw")
    stranger = AUTHORITY.pair("stranger")
    world.client.write("/srv/stranger.pem", stranger.certificate + stranger.key)
    assert "web saw" not in world.call("https://partners.example.com/", "--cert", "/srv/stranger.pem")


def test_tls_passes_through_to_who_owns_it(world: World) -> None:
    assert world.call("https://opaque.example.com/") == "end to end\n"


def test_a_gateway_holds_no_secret_but_those_that_its_gateways_name(world: World) -> None:
    world.plane.apply(secret("unnamed", AUTHORITY.pair("unnamed.example.com")))
    dump = VM(world.edge, world.agent).envoy("/config_dump?resource=dynamic_active_secrets")
    names = {each["name"] for each in dump["configs"]}
    assert {"default", "ROOTCA", "kubernetes://shop", "kubernetes://partners"} <= names
    assert "kubernetes://unnamed" not in names


def test_a_certificate_may_be_shown_where_a_server_leaves_it_open(world: World) -> None:
    own = AUTHORITY.pair("optional.example.com")
    world.plane.apply(MORE + secret("optional", own, PARTNERS.certificate))
    url = "https://optional.example.com/"
    world.until(lambda: world.call(url).startswith("web saw"), "the answer without a certificate")
    assert world.call(url, "--cert", shown(world, PARTNERS)).startswith("web saw")
    assert is_refused(world.call(url, "--cert", shown(world, AUTHORITY)))


def test_tls_is_opened_for_connections_that_are_no_requests(world: World) -> None:
    world.plane.apply(MORE + secret("bytes", AUTHORITY.pair("bytes.example.com")))

    def told(name: str) -> str:
        command = [sys.executable, "-c", FIRST_WORD, world.edge.address, name]
        done = world.client.run(command, check=False)
        return done.stdout.strip() or done.stderr

    world.until(lambda: told("bytes.example.com") == "first word", "the first word")
    assert "first word" not in told("other.example.com")


def test_who_may_call_changes_with_the_roots_of_a_server(world: World) -> None:
    own, successors = AUTHORITY.pair("rotated.example.com"), Outside("successors")
    old, new = shown(world, PARTNERS), shown(world, successors)
    url = "https://rotated.example.com/"
    world.plane.apply(MORE + secret("rotated", own, PARTNERS.certificate))
    world.until(lambda: world.call(url, "--cert", old).startswith("web saw"), "the answer to a partner")
    assert is_refused(world.call(url, "--cert", new))
    # both for a while, as those who rotate do it
    world.plane.apply(secret("rotated", own, PARTNERS.certificate + successors.certificate))
    world.until(lambda: world.call(url, "--cert", new).startswith("web saw"), "the answer to a successor")
    assert world.call(url, "--cert", old).startswith("web saw")
    world.plane.apply(secret("rotated", own, successors.certificate))
    world.until(lambda: is_refused(world.call(url, "--cert", old)), "the end of the partners")
    assert world.call(url, "--cert", new).startswith("web saw")


def test_a_certificate_that_was_revoked_is_not_taken_any_longer(world: World) -> None:
    own = AUTHORITY.pair("rotated.example.com")
    kept, taken_back = shown(world, PARTNERS, serial=41), shown(world, PARTNERS, serial=42)
    url = "https://rotated.example.com/"
    world.plane.apply(MORE + secret("rotated", own, PARTNERS.certificate, PARTNERS.revoked(7)))
    world.until(lambda: world.call(url, "--cert", taken_back).startswith("web saw"), "the answer before")
    world.plane.apply(secret("rotated", own, PARTNERS.certificate, PARTNERS.revoked(7, 42)))
    world.until(lambda: is_refused(world.call(url, "--cert", taken_back)), "the end of the one")
    assert world.call(url, "--cert", kept).startswith("web saw")


def is_refused(answer: str) -> bool:
    """Whether a client's certificate was not taken: an alert, or a closed connection where that is late."""
    words = ("unknown ca", "certificate revoked", "Broken pipe", "reset by peer")
    return answer.startswith("curl: (") and any(word in answer for word in words)


def shown(world: World, authority: Outside, serial: int = 1) -> str:
    """A file on the client with a certificate of this authority, and its key."""
    pair = authority.pair("somebody", serial=serial)
    path = f"/srv/shown-{sum(pair.certificate.encode())}.pem"
    world.client.write(path, pair.certificate + pair.key)
    return path


def serial(world: World) -> int:
    """The serial number of the certificate that the gateway shows."""
    script = (
        "import socket,ssl,sys; c=ssl._create_unverified_context();"
        "s=c.wrap_socket(socket.create_connection((sys.argv[1],443),5),server_hostname='secure.example.com');"
        "print(ssl.DER_cert_to_PEM_cert(s.getpeercert(True)))"
    )
    done = world.client.run([sys.executable, "-c", script, world.edge.address], check=False)
    if done.returncode:
        return 0
    assert ssl.PEM_HEADER in done.stdout
    return x509.load_pem_x509_certificate(done.stdout.encode()).serial_number

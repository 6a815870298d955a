import contextlib
import resource
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from isthmus.identity import keys
from isthmus.identity.ca import Authority
from isthmus.identity.serving import ServingIdentity
from standing_clock import Clock

NAMES = ["localhost", "127.0.0.1", "::1"]


def test_the_pin_stays_while_certificates_change(authority: Authority, tmp_path: Path, clock: Clock) -> None:
    serving = ServingIdentity.open(tmp_path / "serving", authority, NAMES, clock)
    first, pin = serving.chain, serving.pin()
    assert not serving.renew_if_due()
    clock.forward(days=16)
    assert serving.renew_if_due()
    assert serving.chain != first
    again = ServingIdentity.open(tmp_path / "serving", authority, [*NAMES, "cp.example.com"], clock)
    assert again.chain != serving.chain
    assert pin == serving.pin() == again.pin()
    assert pin == keys.pin(keys.certificates(again.chain)[0].public_key())  # type: ignore[arg-type]


def test_a_restart_keeps_the_certificate(authority: Authority, tmp_path: Path, clock: Clock) -> None:
    first = ServingIdentity.open(tmp_path / "serving", authority, NAMES, clock)
    again = ServingIdentity.open(tmp_path / "serving", authority, NAMES, clock)
    assert first.chain == again.chain == again.chain_path.read_text()
    assert again.key_path.stat().st_mode & 0o777 == 0o600


def test_another_authority_or_a_damaged_file_means_a_new_certificate(
    authority: Authority, tmp_path: Path, clock: Clock
) -> None:
    first = ServingIdentity.open(tmp_path / "serving", authority, NAMES, clock)
    other = Authority.open(tmp_path / "other", "cluster.local", clock)
    second = ServingIdentity.open(tmp_path / "serving", other, NAMES, clock)
    assert second.chain != first.chain
    second.chain_path.write_text("damaged")
    third = ServingIdentity.open(tmp_path / "serving", other, NAMES, clock)
    assert other.issued(keys.certificates(third.chain)[0])
    assert first.pin() == third.pin()


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Files cannot grow: the system refuses every write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_does_not_stop_what_can_serve(
    authority: Authority, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    first = ServingIdentity.open(tmp_path / "serving", authority, NAMES, clock)
    clock.forward(days=16)
    with full_disk():
        again = ServingIdentity.open(tmp_path / "serving", authority, [*NAMES, "new.example"], clock)
        assert again.chain == first.chain
        assert "not renewed, the old one serves" in caplog.text
        with pytest.raises(OSError, match="large"):
            again.renew_if_due()
    assert again.renew_if_due()
    clock.forward(days=31)
    with full_disk(), pytest.raises(OSError, match="large"):
        ServingIdentity.open(tmp_path / "serving", authority, NAMES, clock)


def test_it_is_the_control_plane(authority: Authority, tmp_path: Path, clock: Clock) -> None:
    serving = ServingIdentity.open(tmp_path / "serving", authority, NAMES, clock)
    (leaf,) = keys.certificates(serving.chain)
    assert leaf.subject.rfc4514_string() == "CN=isthmus"
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    assert uris == ["spiffe://cluster.local/ns/isthmus-system/sa/isthmus"] == [str(serving.spiffe)]


def test_contexts_follow_a_renewal(tmp_path: Path, clock: Clock) -> None:
    clock.forward(days=-16)  # OpenSSL looks at the real time, so the renewal must be now
    authority = Authority.open(tmp_path / "ca", "cluster.local", clock)
    serving = ServingIdentity.open(tmp_path / "serving", authority, NAMES, clock)
    server = serving.server_context(alpn=["http/1.1"], clients=False)
    client = serving.client_context(alpn=["http/1.1"])
    before = handshake(client, server)
    clock.forward(days=16)
    serving.renew_if_due()
    after = handshake(client, server)
    assert before != after
    assert keys.certificates(serving.chain)[0] == x509.load_der_x509_certificate(after)


def handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> bytes:
    """The server's certificate as the client sees it, in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    sides = [ours, theirs]
    while sides:
        for side in list(sides):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            sides.remove(side)
    certificate = ours.getpeercert(binary_form=True)
    assert certificate is not None
    return certificate

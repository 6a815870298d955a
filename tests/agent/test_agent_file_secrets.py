"""Secrets in files: read by Istio's names, and served to whoever asks."""

import asyncio
import os
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2 as tls_v3
from envoy.service.discovery.v3 import discovery_pb2 as discovery_v3

from isthmus.agent import file_secrets, sds
from isthmus.agent.membership import Credentials
from isthmus.agent.paths import Paths

CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
OTHER = b"-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n"
KEY = b"-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n"


def test_roots_and_certificates(tmp_path: Path) -> None:
    files = file_secrets.Files([tmp_path])
    (tmp_path / "ca").write_bytes(b"# a comment\n" + CERTIFICATE + KEY + OTHER)
    (tmp_path / "chain").write_bytes(CERTIFICATE)
    (tmp_path / "key").write_bytes(KEY)
    root, cert = f"file-root:{tmp_path}/ca", f"file-cert:{tmp_path}/chain~{tmp_path}/key"
    found = files.read([root, cert, "default", f"file-root:{tmp_path}/none", f"file-cert:{tmp_path}/chain"])
    assert set(found) == {root, cert}
    roots = tls_v3.Secret.FromString(found[root][1]).validation_context.trusted_ca.inline_bytes
    assert roots == CERTIFICATE + OTHER
    assert tls_v3.Secret.FromString(found[cert][1]).tls_certificate.private_key.inline_bytes == KEY
    (tmp_path / "ca").write_bytes(OTHER)
    assert files.read([root])[root][0] != found[root][0]


@pytest.mark.parametrize("path", ["/dev/zero", "/", "/proc/self/mem", "\0", "pipe"])
def test_what_is_no_plain_file_is_not_read(path: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = str(tmp_path / "pipe") if path == "pipe" else path
    assert file_secrets.Files([Path("/")]).read([f"file-root:{path}"]) == {}


def test_only_what_is_below_the_allowed_directories_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    allowed, private = tmp_path / "certs", tmp_path / "private"
    for directory in (allowed, private):
        directory.mkdir()
        (directory / "ca.pem").write_bytes(CERTIFICATE)
    (allowed / "out.pem").symlink_to(private / "ca.pem")
    (allowed / "in.pem").symlink_to("ca.pem")
    (tmp_path / "certs-of-others").mkdir()
    (tmp_path / "certs-of-others" / "ca.pem").write_bytes(CERTIFICATE)
    files = file_secrets.Files([allowed])
    good = [f"file-root:{allowed}/ca.pem", f"file-root:{allowed}/in.pem"]
    bad = [
        f"file-root:{private}/ca.pem",
        f"file-root:{allowed}/out.pem",
        f"file-root:{allowed}/../private/ca.pem",
        f"file-root:{tmp_path}/certs-of-others/ca.pem",
        "file-root:ca.pem",
    ]
    for _ in range(2):
        assert set(files.read(good + bad)) == set(good)
    assert len(caplog.messages) == len(bad)
    assert "not below" in caplog.messages[0]


def test_what_is_no_pem_or_too_big_is_not_handed_on(tmp_path: Path) -> None:
    files = file_secrets.Files([tmp_path])
    (tmp_path / "shadow").write_text("root:$6$secret:19000::::::\n")
    (tmp_path / "big").write_bytes(CERTIFICATE * 30_000)
    (tmp_path / "key").write_bytes(KEY)
    names = [f"file-root:{tmp_path}/{name}" for name in ("shadow", "big", "key")]
    assert files.read([*names, f"file-cert:{tmp_path}/key~{tmp_path}/key"]) == {}


def test_the_operator_names_the_directories() -> None:
    assert file_secrets.directories({}) == (Path("/etc/isthmus/certs"),)
    named = file_secrets.directories({file_secrets.DIRECTORIES: "/etc/mysql/tls:relative:/srv/certs"})
    assert named == (Path("/etc/mysql/tls"), Path("/srv/certs"))
    assert file_secrets.directories({file_secrets.DIRECTORIES: ""}) == ()


async def test_a_renewed_file_is_pushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_secrets, "CHECK_S", 0.02)
    monkeypatch.setattr("os.chown", lambda *_: None)
    monkeypatch.setenv(file_secrets.DIRECTORIES, str(tmp_path))
    paths = Paths(run=tmp_path)
    file = tmp_path / "ca"
    file.write_bytes(CERTIFICATE)
    name = f"file-root:{file}"
    request = discovery_v3.DeltaDiscoveryRequest(type_url=sds.SECRET, resource_names_subscribe=[name])
    async with (
        sds.serving(sds.Secrets(Credentials(chain=b"c", key=b"k", roots=b"r")), paths),
        grpc.aio.insecure_channel(f"unix:{paths.sds_socket}") as channel,
        asyncio.timeout(60),
    ):
        delta: Any = channel.stream_stream(
            "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets",
            request_serializer=discovery_v3.DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=discovery_v3.DeltaDiscoveryResponse.FromString,
        )
        stream = delta()
        await stream.write(request)
        for content in (CERTIFICATE, OTHER):
            # at once: who looks while a file is being written finds no certificate in it
            fresh = tmp_path / "fresh"
            fresh.write_bytes(content)
            fresh.replace(file)
            response = await stream.read()
            secret = tls_v3.Secret.FromString(response.resources[0].resource.value)
            assert secret.validation_context.trusted_ca.inline_bytes == content
        stream.cancel()

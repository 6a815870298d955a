"""Secrets in files: read by Istio's names, and served to whoever asks."""

import asyncio
from pathlib import Path

import grpc
import pytest
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2 as tls_v3
from envoy.service.discovery.v3 import discovery_pb2 as discovery_v3

from isthmus.agent import file_secrets, sds
from isthmus.agent.membership import Credentials
from isthmus.agent.paths import Paths


def test_roots_and_certificates(tmp_path: Path) -> None:
    (tmp_path / "ca").write_bytes(b"roots")
    (tmp_path / "chain").write_bytes(b"chain")
    (tmp_path / "key").write_bytes(b"key")
    root, cert = f"file-root:{tmp_path}/ca", f"file-cert:{tmp_path}/chain~{tmp_path}/key"
    found = file_secrets.read([root, cert, "default", "file-root:/nowhere", f"file-cert:{tmp_path}/chain"])
    assert set(found) == {root, cert}
    assert tls_v3.Secret.FromString(found[root][1]).validation_context.trusted_ca.inline_bytes == b"roots"
    assert tls_v3.Secret.FromString(found[cert][1]).tls_certificate.private_key.inline_bytes == b"key"
    (tmp_path / "ca").write_bytes(b"other")
    assert file_secrets.read([root])[root][0] != found[root][0]


@pytest.mark.parametrize("path", ["/dev/zero", "/", "/proc/self/mem", "\0"])
def test_what_is_no_plain_file_is_not_read(path: str) -> None:
    assert file_secrets.read([f"file-root:{path}"]) == {}


async def test_a_renewed_file_is_pushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_secrets, "CHECK_S", 0.02)
    monkeypatch.setattr("os.chown", lambda *_: None)
    paths = Paths(run=tmp_path)
    file = tmp_path / "ca"
    file.write_bytes(b"one")
    name = f"file-root:{file}"
    request = discovery_v3.DeltaDiscoveryRequest(type_url=sds.SECRET, resource_names_subscribe=[name])
    async with (
        sds.serving(sds.Secrets(Credentials(chain=b"c", key=b"k", roots=b"r")), paths),
        grpc.aio.insecure_channel(f"unix:{paths.sds_socket}") as channel,
        asyncio.timeout(10),
    ):
        stream = channel.stream_stream(
            "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets",
            request_serializer=discovery_v3.DeltaDiscoveryRequest.SerializeToString,
            response_deserializer=discovery_v3.DeltaDiscoveryResponse.FromString,
        )()
        await stream.write(request)
        for content in (b"one", b"two"):
            file.write_bytes(content)
            response = await stream.read()
            secret = tls_v3.Secret.FromString(response.resources[0].resource.value)
            assert secret.validation_context.trusted_ca.inline_bytes == content
        stream.cancel()

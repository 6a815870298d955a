"""TLS that a proxy opens itself: names of secrets, and whom it lets in."""

import pytest
from envoy.extensions.transport_sockets.tls.v3 import common_pb2 as tls_common_v3
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2 as tls_v3

from isthmus.api.networking.gateway import ServerTLSSettings
from isthmus.envoy import gateway_tls, tls_server
from isthmus.mesh.model import MeshSettings


def _context(**said: object) -> tls_v3.DownstreamTlsContext:
    socket = tls_server.opened(ServerTLSSettings.model_validate(said))
    return tls_v3.DownstreamTlsContext.FromString(socket.typed_config.value)


@pytest.mark.parametrize(
    ("said", "certificates", "roots"),
    [
        ({"mode": "SIMPLE", "serverCertificate": "c", "privateKey": "k"}, ["file-cert:c~k"], ""),
        (
            {"mode": "MUTUAL", "serverCertificate": "c", "privateKey": "k", "caCertificates": "r"},
            ["file-cert:c~k"],
            "file-root:r",
        ),
        ({"mode": "SIMPLE", "credentialName": "web"}, ["kubernetes://web"], ""),
        ({"mode": "MUTUAL", "credentialName": "web"}, ["kubernetes://web"], "kubernetes://web-cacert"),
        (
            {"mode": "OPTIONAL_MUTUAL", "credentialNames": ["a", "b"], "caCertCredentialName": "r"},
            ["kubernetes://a", "kubernetes://b"],
            "kubernetes://r",
        ),
    ],
)
def test_secrets(said: dict[str, object], certificates: list[str], roots: str) -> None:
    context = _context(**said)
    common = context.common_tls_context
    assert [each.name for each in common.tls_certificate_sds_secret_configs] == certificates
    assert common.combined_validation_context.validation_context_sds_secret_config.name == roots
    assert context.require_client_certificate.value is (said["mode"] == "MUTUAL")


def test_limits() -> None:
    common = _context(
        mode="MUTUAL",
        credentialName="web",
        subjectAltNames=["a.example"],
        minProtocolVersion="TLSV1_3",
        verifyCertificateSpki=["x"],
        insecureSkipVerify=True,
    ).common_tls_context
    limits = common.combined_validation_context.default_validation_context
    assert {each.matcher.exact for each in limits.match_typed_subject_alt_names} == {"a.example"}
    assert limits.verify_certificate_spki == ["x"]
    assert limits.trust_chain_verification == tls_common_v3.CertificateValidationContext.ACCEPT_UNTRUSTED
    assert common.tls_params.tls_minimum_protocol_version == tls_common_v3.TlsParameters.TLSv1_3


def test_cipher_suites_that_envoy_would_refuse_are_left_out() -> None:
    """Envoy refuses the whole listener for one name that it does not know; a warning says what is ignored."""
    suite, groups = "ECDHE-RSA-AES128-SHA", "[AES128-SHA|AES256-SHA]"
    said = ["NO-SUCH-SUITE", suite, "", groups, "ALL", suite]
    common = _context(mode="SIMPLE", serverCertificate="c", privateKey="k", cipherSuites=said)
    assert common.common_tls_context.tls_params.cipher_suites == [suite, groups, "ALL"]
    of_gateway = ServerTLSSettings.model_validate(
        {"mode": "SIMPLE", "credentialName": "c", "cipherSuites": said}
    )
    context = tls_v3.DownstreamTlsContext.FromString(
        gateway_tls.opened(of_gateway, MeshSettings()).typed_config.value
    )
    assert context.common_tls_context.tls_params.cipher_suites == [suite, groups, "ALL"]

"""ServerTLSSettings -> TLS that a proxy opens itself, for clients from outside the mesh.

Keys and certificates are secrets by name, as Istio spells the names:
    file-cert:<certificate>~<key>   file-root:<certificates>   files on the machine, which its agent hands out
    kubernetes://<name>             a Secret, from the control plane (with `<name>-cacert` for clients' roots)
"""

from collections.abc import Callable, Iterable

from envoy.config.core.v3 import base_pb2 as base_v3
from envoy.extensions.transport_sockets.tls.v3 import common_pb2 as tls_common_v3
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2 as tls_secret_v3
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2 as tls_v3

from isthmus.api.networking.gateway import ServerTLSSettings
from isthmus.api.validation.server_tls import known_ciphers
from isthmus.envoy import tls
from isthmus.envoy.message import packed

Secrets = Callable[[str], tls_secret_v3.SdsSecretConfig]

HTTP_ALPN = ("h2", "http/1.1")
_MUTUAL = frozenset({"MUTUAL", "OPTIONAL_MUTUAL"})
_PROTOCOLS = {
    "TLS_AUTO": tls_common_v3.TlsParameters.TLS_AUTO,
    "TLSV1_0": tls_common_v3.TlsParameters.TLSv1_0,
    "TLSV1_1": tls_common_v3.TlsParameters.TLSv1_1,
    "TLSV1_2": tls_common_v3.TlsParameters.TLSv1_2,
    "TLSV1_3": tls_common_v3.TlsParameters.TLSv1_3,
}
_SAN_TYPES = (
    tls_common_v3.SubjectAltNameMatcher.DNS,
    tls_common_v3.SubjectAltNameMatcher.URI,
    tls_common_v3.SubjectAltNameMatcher.IP_ADDRESS,
    tls_common_v3.SubjectAltNameMatcher.EMAIL,
)


def certificate_names(said: ServerTLSSettings) -> tuple[str, ...]:
    """The secrets with the server's own keys and certificates."""
    named = said.credential_names or ((said.credential_name,) if said.credential_name else ())
    if named:
        return tuple(f"kubernetes://{name}" for name in named)
    files = [(each.server_certificate, each.private_key) for each in said.tls_certificates]
    files = files or [(said.server_certificate, said.private_key)]
    return tuple(f"file-cert:{certificate}~{key}" for certificate, key in files)


def roots_name(said: ServerTLSSettings) -> str:
    """The secret with what clients' certificates must lead to; empty when clients show none."""
    if said.mode not in _MUTUAL:
        return ""
    if said.ca_cert_credential_name:
        return f"kubernetes://{said.ca_cert_credential_name}"
    if said.credential_name or said.credential_names:
        return f"kubernetes://{(said.credential_names or (said.credential_name,))[0]}-cacert"
    return f"file-root:{said.ca_certificates}"


def opened(
    said: ServerTLSSettings, alpn: Iterable[str] = HTTP_ALPN, secrets: Secrets = tls.secret
) -> base_v3.TransportSocket:
    """TLS as a server with certificates of its own; `secrets` says where the named ones come from."""
    common = tls_v3.CommonTlsContext(
        tls_params=_parameters(said),
        tls_certificate_sds_secret_configs=[secrets(name) for name in certificate_names(said)],
        alpn_protocols=alpn,
    )
    roots = roots_name(said)
    if roots:
        validation = common.combined_validation_context
        validation.validation_context_sds_secret_config.CopyFrom(secrets(roots))
        _limit(validation.default_validation_context, said)
    context = tls_v3.DownstreamTlsContext(
        common_tls_context=common, require_client_certificate={"value": said.mode == "MUTUAL"}
    )
    return base_v3.TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))


def _parameters(said: ServerTLSSettings) -> tls_common_v3.TlsParameters:
    oldest = _PROTOCOLS[said.min_protocol_version]
    return tls_common_v3.TlsParameters(
        tls_minimum_protocol_version=oldest or tls_common_v3.TlsParameters.TLSv1_2,
        tls_maximum_protocol_version=_PROTOCOLS[said.max_protocol_version],
        cipher_suites=known_ciphers(said),
        ecdh_curves=said.ecdh_curves,
    )


def _limit(context: tls_common_v3.CertificateValidationContext, said: ServerTLSSettings) -> None:
    for name in said.subject_alt_names:
        # a name in a certificate may be of any type; Istio asks for none in particular
        for san_type in _SAN_TYPES:
            context.match_typed_subject_alt_names.add(san_type=san_type, matcher=tls.exactly(name))
    context.verify_certificate_spki.extend(said.verify_certificate_spki)
    context.verify_certificate_hash.extend(said.verify_certificate_hash)
    if said.ca_crl:
        context.crl.filename = said.ca_crl
    if said.insecure_skip_verify:
        context.trust_chain_verification = tls_common_v3.CertificateValidationContext.ACCEPT_UNTRUSTED
    context.SetInParent()

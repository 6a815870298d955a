"""TLS of a Gateway's server -> the context in which Envoy opens it.

    ISTIO_MUTUAL               the workload's own certificate, callers of the mesh
    credentialName             secrets that come over ADS         kubernetes://<name>[-cacert]
    paths                      secrets of the agent               file-cert:<chain>~<key>  file-root:<path>

Secrets that come over ADS may be missing: then this server's connections fail, and nobody else's.
"""

from envoy.config.core.v3 import base_pb2 as base_v3
from envoy.extensions.transport_sockets.tls.v3 import common_pb2 as tls_common_v3
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2 as tls_secret_v3
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2 as tls_v3

from isthmus.api.networking.gateway import ServerTLSSettings
from isthmus.api.validation.server_tls import known_ciphers
from isthmus.envoy import tls
from isthmus.envoy.message import from_ads, packed
from isthmus.mesh.gateways_credentials import OWN, certificates, resource_name, roots
from isthmus.mesh.model import MeshSettings

_HTTP = ("h2", "http/1.1")
_VERSIONS = {
    "TLSV1_0": tls_common_v3.TlsParameters.TLSv1_0,
    "TLSV1_1": tls_common_v3.TlsParameters.TLSv1_1,
    "TLSV1_2": tls_common_v3.TlsParameters.TLSv1_2,
    "TLSV1_3": tls_common_v3.TlsParameters.TLSv1_3,
}
_ASKED = frozenset({"MUTUAL", "ISTIO_MUTUAL"})
_CHECKED = frozenset({"MUTUAL", "OPTIONAL_MUTUAL"})


def opened(said: ServerTLSSettings, settings: MeshSettings) -> base_v3.TransportSocket:
    """The socket in which TLS is opened as a server says."""
    if said.mode == "ISTIO_MUTUAL":
        # names of peers are identities of the mesh; without any, all of the mesh are meant
        peers = [tls.exactly(name) for name in said.subject_alt_names]
        mesh = [tls.beginning(f"spiffe://{domain}/") for domain in settings.trust_domains]
        return tls.server(peers or mesh, _HTTP)
    common = tls_v3.CommonTlsContext(
        alpn_protocols=_HTTP,
        tls_certificate_sds_secret_configs=[_certificate(name) for name in certificates(said)],
    )
    _parameters(common, said, settings)
    if said.mode in _CHECKED:
        _callers(common, said)
    context = tls_v3.DownstreamTlsContext(
        common_tls_context=common, require_client_certificate={"value": said.mode in _ASKED}
    )
    return base_v3.TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))


def _parameters(common: tls_v3.CommonTlsContext, said: ServerTLSSettings, settings: MeshSettings) -> None:
    oldest = _VERSIONS.get(said.min_protocol_version)
    newest = _VERSIONS.get(said.max_protocol_version)
    if oldest is not None:
        common.tls_params.tls_minimum_protocol_version = oldest
    if newest is not None:
        common.tls_params.tls_maximum_protocol_version = newest
    common.tls_params.cipher_suites.extend(known_ciphers(said))
    common.tls_params.ecdh_curves.extend(said.ecdh_curves)


def _callers(common: tls_v3.CommonTlsContext, said: ServerTLSSettings) -> None:
    """What callers' certificates are checked for."""
    combined = common.combined_validation_context
    checked = combined.default_validation_context
    checked.SetInParent()
    for name in said.subject_alt_names:
        checked.match_typed_subject_alt_names.extend(tls.named(name))
    checked.verify_certificate_spki.extend(said.verify_certificate_spki)
    checked.verify_certificate_hash.extend(said.verify_certificate_hash)
    if said.insecure_skip_verify:
        checked.trust_chain_verification = tls_common_v3.CertificateValidationContext.ACCEPT_UNTRUSTED
    if said.ca_crl:
        checked.crl.filename = said.ca_crl
    combined.validation_context_sds_secret_config.CopyFrom(_certificate(roots(said)))


def _certificate(name: str) -> tls_secret_v3.SdsSecretConfig:
    if name.startswith("file-"):
        return tls.secret(name)
    if name.startswith(OWN):
        return tls.secret("default" if name == OWN else "ROOTCA")
    return tls_secret_v3.SdsSecretConfig(name=resource_name(name), sds_config=from_ads())

"""Identities and modes -> TLS contexts. Keys and roots come from the agent's SDS, never over ADS.

A context of ours never takes any certificate: a server wants one of the trust domain (or of the identities
it is told), a client wants one of the identities that it is told, and there is always at least one.
"""

from collections.abc import Iterable

from envoy.config.core.v3 import base_pb2 as base_v3
from envoy.config.core.v3 import config_source_pb2 as config_source_v3
from envoy.config.core.v3 import grpc_service_pb2 as grpc_service_v3
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2 as raw_buffer_v3
from envoy.extensions.transport_sockets.tls.v3 import common_pb2 as tls_common_v3
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2 as tls_secret_v3
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2 as tls_v3
from envoy.type.matcher.v3 import string_pb2 as string_v3

from isthmus.envoy import naming
from isthmus.envoy.message import duration, packed

HTTP_ALPN: tuple[str, ...] = ("istio-http/1.1", "istio", "http/1.1")
HTTP2_ALPN: tuple[str, ...] = ("istio-h2", "istio", "h2")
TCP_ALPN: tuple[str, ...] = ("istio",)
"""What our clients offer. `istio-peer-exchange` is never among them: an Istio server that picks it puts a
preamble into the stream, which stock Envoy does not take out."""

MESH_ALPN = ("istio-http/1.0", "istio-http/1.1", "istio-h2", "istio-peer-exchange", "istio")
"""By what a server knows mesh callers; matching does not select."""

_CIPHERS = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
_FIRST_SECRET_TIMEOUT_S = 5.0


def exactly(identity: str) -> string_v3.StringMatcher:
    """Matches one identity."""
    return string_v3.StringMatcher(exact=identity)


def beginning(prefix: str) -> string_v3.StringMatcher:
    """Matches identities by how they begin; the prefix must end in a `/`."""
    assert prefix.endswith("/"), prefix
    return string_v3.StringMatcher(prefix=prefix)


def server(peers: Iterable[string_v3.StringMatcher], alpn: Iterable[str] = ()) -> base_v3.TransportSocket:
    """Mutual TLS as a server: callers must prove one of the identities."""
    context = tls_v3.DownstreamTlsContext(
        common_tls_context=_common(peers, alpn), require_client_certificate={"value": True}
    )
    return base_v3.TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))


def client(
    peers: Iterable[string_v3.StringMatcher], alpn: Iterable[str], sni: str
) -> base_v3.TransportSocket:
    """Mutual TLS as a client: the server must prove one of the identities."""
    context = tls_v3.UpstreamTlsContext(common_tls_context=_common(peers, alpn), sni=sni)
    return base_v3.TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))


def plaintext() -> base_v3.TransportSocket:
    """No TLS."""
    return base_v3.TransportSocket(
        name="envoy.transport_sockets.raw_buffer", typed_config=packed(raw_buffer_v3.RawBuffer())
    )


def _common(peers: Iterable[string_v3.StringMatcher], alpn: Iterable[str]) -> tls_v3.CommonTlsContext:
    matchers = [
        tls_common_v3.SubjectAltNameMatcher(san_type=tls_common_v3.SubjectAltNameMatcher.URI, matcher=matcher)
        for matcher in peers
    ]
    assert matchers, "an empty list of identities would take any certificate of the mesh"
    return tls_v3.CommonTlsContext(
        tls_params=tls_common_v3.TlsParameters(
            tls_minimum_protocol_version=tls_common_v3.TlsParameters.TLSv1_2,
            tls_maximum_protocol_version=tls_common_v3.TlsParameters.TLSv1_3,
            cipher_suites=_CIPHERS,
        ),
        tls_certificate_sds_secret_configs=[_secret(naming.CERTIFICATE_SECRET)],
        combined_validation_context=tls_v3.CommonTlsContext.CombinedCertificateValidationContext(
            default_validation_context=tls_common_v3.CertificateValidationContext(
                match_typed_subject_alt_names=matchers
            ),
            validation_context_sds_secret_config=_secret(naming.ROOTS_SECRET),
        ),
        alpn_protocols=alpn,
    )


def _secret(name: str) -> tls_secret_v3.SdsSecretConfig:
    service = grpc_service_v3.GrpcService(envoy_grpc={"cluster_name": naming.SDS_CLUSTER})
    return tls_secret_v3.SdsSecretConfig(
        name=name,
        sds_config=config_source_v3.ConfigSource(
            resource_api_version=config_source_v3.V3,
            initial_fetch_timeout=duration(_FIRST_SECRET_TIMEOUT_S),
            api_config_source=config_source_v3.ApiConfigSource(
                api_type=config_source_v3.ApiConfigSource.DELTA_GRPC,
                transport_api_version=config_source_v3.V3,
                set_node_on_first_message_only=True,
                grpc_services=[service],
            ),
        ),
    )

"""Identities and modes -> TLS contexts. Keys and roots come from the agent's SDS, never over ADS.

A context of ours never takes any certificate: a server wants one of the trust domain (or of the identities
it is told), a client wants one of the identities that it is told, and there is always at least one.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from envoy.config.core.v3 import base_pb2 as base_v3
from envoy.config.core.v3 import config_source_pb2 as config_source_v3
from envoy.config.core.v3 import grpc_service_pb2 as grpc_service_v3
from envoy.extensions.transport_sockets.proxy_protocol.v3 import (
    upstream_proxy_protocol_pb2 as proxy_protocol_v3,
)
from envoy.extensions.transport_sockets.raw_buffer.v3 import raw_buffer_pb2 as raw_buffer_v3
from envoy.extensions.transport_sockets.tls.v3 import common_pb2 as tls_common_v3
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2 as tls_secret_v3
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2 as tls_v3
from envoy.type.matcher.v3 import string_pb2 as string_v3

from isthmus.envoy import naming
from isthmus.envoy.message import duration, from_ads, packed

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
_SAN_TYPES = (
    tls_common_v3.SubjectAltNameMatcher.DNS,
    tls_common_v3.SubjectAltNameMatcher.URI,
    tls_common_v3.SubjectAltNameMatcher.IP_ADDRESS,
    tls_common_v3.SubjectAltNameMatcher.EMAIL,
)


@dataclass(frozen=True, slots=True)
class Origination:
    """TLS to a server outside: names of secrets, and whom to expect.

    Without `certificate` the client shows none; without `roots` any server is believed.
    """

    sni: str
    names: tuple[str, ...]
    certificate: str
    roots: str
    revoked: str = ""


def exactly(identity: str) -> string_v3.StringMatcher:
    """Matches one identity."""
    return string_v3.StringMatcher(exact=identity)


def beginning(prefix: str) -> string_v3.StringMatcher:
    """Matches identities by how they begin; the prefix must end in a `/`."""
    assert prefix.endswith("/"), prefix
    return string_v3.StringMatcher(prefix=prefix)


def named(name: str) -> list[tls_common_v3.SubjectAltNameMatcher]:
    """Matches a name in a certificate, of whatever type: Istio asks for none in particular."""
    matcher = exactly(name)
    return [tls_common_v3.SubjectAltNameMatcher(san_type=kind, matcher=matcher) for kind in _SAN_TYPES]


def server(
    peers: Iterable[string_v3.StringMatcher], alpn: Iterable[str] = (), *, oldest: str = "TLS_AUTO"
) -> base_v3.TransportSocket:
    """Mutual TLS as a server: callers must prove one of the identities, in no older version of TLS."""
    context = tls_v3.DownstreamTlsContext(
        common_tls_context=_common(peers, alpn), require_client_certificate={"value": True}
    )
    if oldest == "TLSV1_3":
        params = context.common_tls_context.tls_params
        params.tls_minimum_protocol_version = tls_common_v3.TlsParameters.TLSv1_3
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


def originated(said: Origination, alpn: Iterable[str] = ()) -> base_v3.TransportSocket:
    """TLS that is not the mesh's, as a client: to servers outside, with certificates of one's own or none."""
    common = tls_v3.CommonTlsContext(
        tls_params=tls_common_v3.TlsParameters(
            tls_minimum_protocol_version=tls_common_v3.TlsParameters.TLSv1_2,
            tls_maximum_protocol_version=tls_common_v3.TlsParameters.TLSv1_3,
        ),
        alpn_protocols=alpn,
    )
    if said.certificate:
        common.tls_certificate_sds_secret_configs.append(_named(said.certificate))
    if said.roots:
        validation = common.combined_validation_context
        validation.validation_context_sds_secret_config.CopyFrom(_named(said.roots))
        validation.default_validation_context.SetInParent()
        for name in said.names:
            validation.default_validation_context.match_typed_subject_alt_names.extend(named(name))
        if said.revoked:
            validation.default_validation_context.crl.filename = said.revoked
    else:
        common.validation_context.SetInParent()
    context = tls_v3.UpstreamTlsContext(common_tls_context=common, sni=said.sni)
    return base_v3.TransportSocket(name="envoy.transport_sockets.tls", typed_config=packed(context))


def _named(name: str) -> tls_secret_v3.SdsSecretConfig:
    """A secret of the agent's when it is in files, else of the control plane's."""
    if name.startswith("file-"):
        return secret(name)
    return tls_secret_v3.SdsSecretConfig(name=name, sds_config=from_ads())


def with_proxy_protocol(inner: base_v3.TransportSocket, version: int) -> base_v3.TransportSocket:
    """The socket, with the caller's address sent in front of everything."""
    outer = proxy_protocol_v3.ProxyProtocolUpstreamTransport(
        config={"version": version}, transport_socket=inner
    )
    return base_v3.TransportSocket(
        name="envoy.transport_sockets.upstream_proxy_protocol", typed_config=packed(outer)
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
        tls_certificate_sds_secret_configs=[secret(naming.CERTIFICATE_SECRET)],
        combined_validation_context=tls_v3.CommonTlsContext.CombinedCertificateValidationContext(
            default_validation_context=tls_common_v3.CertificateValidationContext(
                match_typed_subject_alt_names=matchers
            ),
            validation_context_sds_secret_config=secret(naming.ROOTS_SECRET),
        ),
        alpn_protocols=alpn,
    )


def secret(name: str) -> tls_secret_v3.SdsSecretConfig:
    """A secret of that name, as the agent of the machine hands it out."""
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

"""TLS of a policy + who answers for a service -> the sockets of a cluster's connections.

    nothing said   mutual TLS with endpoints that have a proxy, plaintext with the others (auto mTLS)
    DISABLE        plaintext            ISTIO_MUTUAL  mutual TLS with everybody
    SIMPLE         TLS                  MUTUAL        TLS with a certificate of one's own

Certificates in files are secrets of the agent: `file-root:PATH`, `file-cert:CHAIN~KEY` (Istio's names);
credentials come over ADS: `kubernetes://NAME`, `kubernetes://NAME-cacert`.
"""

from dataclasses import dataclass

from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3
from envoy.config.core.v3 import base_pb2 as base_v3
from envoy.config.core.v3 import proxy_protocol_pb2 as proxy_protocol_v3

from isthmus.api.networking.destination_rule import ClientTLSSettings, ProxyProtocol
from isthmus.envoy import marked, tls
from isthmus.envoy.pools import HttpOptions, is_http2, with_version

SYSTEM_ROOTS = "file-root:system"
_CREDENTIAL = "kubernetes://"
_CA_SUFFIX = "-cacert"


@dataclass(frozen=True, slots=True)
class Peers:
    """Who answers for a cluster: the identities of its endpoints, and of whom its service says so.

    `namespace` is the beginning of the identities that are believed when mutual TLS is asked for and nobody
    is known yet. `automatic`: whether mutual TLS may be chosen by endpoint; `all`: for all or none.
    """

    identities: tuple[str, ...]
    named: tuple[str, ...]
    namespace: str
    automatic: bool
    all: bool


def secure(
    message: cluster_v3.Cluster,
    said: ClientTLSSettings | None,
    peers: Peers,
    alpn: tuple[str, ...],
    *,
    sni: str,
    sniffed: bool = False,
) -> None:
    """Sets the sockets of mutual TLS within the mesh; `sniffed`: requests have one of their own."""
    names = said.subject_alt_names if said and said.subject_alt_names else (*peers.identities, *peers.named)
    if said is None and not (peers.automatic and peers.identities):
        return
    matchers = [tls.exactly(name) for name in dict.fromkeys(names)] or [tls.beginning(peers.namespace)]
    socket = tls.client(matchers, alpn, (said.sni if said else "") or sni)
    if said is not None or peers.all:
        message.transport_socket.CopyFrom(socket)
    else:
        sockets = message.transport_socket_matches
        sockets.add(name=marked.MUTUAL, match={"tlsMode": "istio"}, transport_socket=socket)
        sockets.add(name=marked.PLAINTEXT, match={}, transport_socket=tls.plaintext())
    if sniffed:
        marked.choose(message, tls.client(matchers, marked.ALPN, (said.sni if said else "") or sni))


def originate(
    message: cluster_v3.Cluster,
    said: ClientTLSSettings,
    options: HttpOptions | None,
    *,
    named: tuple[str, ...],
    selected: bool,
    always: bool = False,
) -> HttpOptions | None:
    """Sets the socket of TLS to servers outside (SIMPLE, MUTUAL). Returns the HTTP options that go with it.

    `selected`: whether the rule is for certain callers; only then may it name a credential. `always`: as in
    `named_by_request`.
    """
    certificate, roots = secrets_of(said, selected=selected)
    if certificate is None:
        return options
    unchecked = said.insecure_skip_verify is True
    options = named_by_request(options, said, always=always)
    socket = tls.originated(
        tls.Origination(
            sni=said.sni,
            names=said.subject_alt_names or named,
            certificate=certificate,
            roots="" if unchecked else roots,
            revoked=said.ca_crl,
        ),
        ("h2",) if is_http2(options) else (),
    )
    message.transport_socket.CopyFrom(socket)
    return options


def secrets_of(said: ClientTLSSettings, *, selected: bool) -> tuple[str | None, str]:
    """The names of the secrets: own certificate (empty: none; None: no TLS can be made), roots."""
    if said.credential_name:
        if not selected:
            return None, ""
        name = _CREDENTIAL + said.credential_name
        own = name if said.mode == "MUTUAL" else ""
        return own, name + _CA_SUFFIX
    roots = f"file-root:{said.ca_certificates}" if said.ca_certificates else SYSTEM_ROOTS
    if said.mode != "MUTUAL":
        return "", roots
    if not (said.client_certificate and said.private_key):
        return None, ""
    return f"file-cert:{said.client_certificate}~{said.private_key}", roots


def named_by_request(
    options: HttpOptions | None, said: ClientTLSSettings, *, always: bool = False
) -> HttpOptions | None:
    """Without a name for the server, the host of the request is asked for, and must be in the certificate.

    `always`: it must be there whatever the rule names, as servers differ from request to request.
    """
    asked = not said.sni
    checked = (always or (asked and not said.subject_alt_names)) and said.insecure_skip_verify is not True
    if not (asked or checked):
        return options
    named = with_version(options or HttpOptions())
    named.upstream_http_protocol_options.auto_sni |= asked
    named.upstream_http_protocol_options.auto_san_validation |= checked
    return named


def announce_caller(message: cluster_v3.Cluster, said: ProxyProtocol) -> None:
    """Makes every socket of the cluster begin with the caller's address."""
    version = proxy_protocol_v3.ProxyProtocolConfig.Version.Value(said.version)
    for match in message.transport_socket_matches:
        match.transport_socket.CopyFrom(tls.with_proxy_protocol(match.transport_socket, version))
    if message.transport_socket_matches and not message.HasField("transport_socket"):
        return
    inner = base_v3.TransportSocket()
    inner.CopyFrom(message.transport_socket if message.HasField("transport_socket") else tls.plaintext())
    message.transport_socket.CopyFrom(tls.with_proxy_protocol(inner, version))


def mesh_alpn(options: HttpOptions | None, *, http: bool) -> tuple[str, ...]:
    """What the mesh's clients offer: by the version in which requests travel; bytes say only that."""
    if is_http2(options):
        return tls.HTTP2_ALPN
    return tls.HTTP_ALPN if http else tls.TCP_ALPN

"""Services + DestinationRules -> Cluster: how Envoy connects to a host's port, or to one subset of it.

Endpoints are sent apart (EDS), so a cluster changes only when ports, policies or identities do. TLS is
chosen per endpoint: those with a proxy get mutual TLS, the others plaintext (Istio's auto mTLS).
"""

from collections.abc import Iterable

from envoy.config.cluster.v3 import circuit_breaker_pb2 as circuit_breaker_v3
from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3
from envoy.config.cluster.v3 import outlier_detection_pb2 as outlier_detection_v3
from envoy.config.core.v3 import base_pb2 as base_v3
from envoy.config.core.v3 import protocol_pb2 as protocol_v3
from envoy.extensions.clusters.common.dns.v3 import dns_pb2 as dns_v3
from envoy.extensions.clusters.dns.v3 import dns_cluster_pb2 as dns_cluster_v3
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2 as http_options_v3
from envoy.type.matcher.v3 import string_pb2 as string_v3
from google.protobuf.duration_pb2 import Duration

from isthmus.api.duration import parse_duration
from isthmus.api.meta import Key
from isthmus.api.networking.destination_rule import HTTPSettings, OutlierDetection, PortTrafficPolicy
from isthmus.engine import Reader
from isthmus.envoy import naming, tls
from isthmus.envoy.endpoints import load_assignment
from isthmus.envoy.message import address, duration, from_ads, packed, resource
from isthmus.envoy.resource import CLUSTER, Resource
from isthmus.mesh import destinations, services, workloads, world
from isthmus.mesh.model import Endpoint, Labels, Port, Protocol, Resolution, Service, Subset

HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

_UNLIMITED = 2**32 - 1
_CONNECT_TIMEOUT_S = 10.0
_DNS_REFRESH_S = 60.0
_INBOUND_IDLE_S = 60.0
_KEEPALIVE = {"keepalive_time": {"value": 300}, "keepalive_interval": {"value": 30}}
_INBOUND_SOURCES = ("127.0.0.6", "::6")
"""Connections of the sidecar to the VM's own programs come from here: capture lets them through."""

_LB_POLICIES = {
    "ROUND_ROBIN": cluster_v3.Cluster.ROUND_ROBIN,
    "RANDOM": cluster_v3.Cluster.RANDOM,
    "PASSTHROUGH": cluster_v3.Cluster.CLUSTER_PROVIDED,
}


def cluster(
    q: Reader, host: str, port_number: int, subset_name: str, rules: tuple[Key, ...]
) -> Resource | None:
    """The cluster of a host's port (or subset) for callers that obey these DestinationRules."""
    service = q(services.service, host)
    port = service.port(port_number) if service else None
    chosen = _subset(q(destinations.subsets, rules), subset_name)
    if service is None or port is None or port.protocol is Protocol.UDP or chosen is None:
        return None
    policy = q(destinations.policy, rules, subset_name, port_number)
    message = cluster_v3.Cluster(
        name=naming.outbound(host, port_number, subset_name),
        connect_timeout=_connect_timeout(policy),
        circuit_breakers=_circuit_breakers(policy),
        # an endpoint that is known to be down is never tried because too many others are down as well
        common_lb_config={"healthy_panic_threshold": {}},
        upstream_connection_options={"tcp_keepalive": _KEEPALIVE},
    )
    _discover(message, q, service, port, chosen.labels, policy)
    _secure(message, q, service, port, chosen, policy)
    if port.protocol.is_http:
        _speak_http(message, port.protocol, policy)
    if policy.outlier_detection:
        message.outlier_detection.CopyFrom(_outliers(policy.outlier_detection))
    return resource(CLUSTER, message.name, message, (service.source, *rules))


def _subset(subsets: Iterable[Subset], name: str) -> Subset | None:
    return next((s for s in subsets if s.name == name), None) if name else Subset("", ())


def _discover(
    message: cluster_v3.Cluster,
    q: Reader,
    service: Service,
    port: Port,
    labels: Labels,
    policy: PortTrafficPolicy,
) -> None:
    lb = (policy.load_balancer.simple if policy.load_balancer else None) or ""
    message.lb_policy = _LB_POLICIES.get(lb, cluster_v3.Cluster.LEAST_REQUEST)
    match service.resolution:
        case Resolution.NONE:
            message.type = cluster_v3.Cluster.ORIGINAL_DST
            message.lb_policy = cluster_v3.Cluster.CLUSTER_PROVIDED
        case _ if lb == "PASSTHROUGH":
            message.type = cluster_v3.Cluster.ORIGINAL_DST
        case Resolution.DNS:
            dns = dns_cluster_v3.DnsCluster(
                dns_refresh_rate=duration(_DNS_REFRESH_S),
                respect_dns_ttl=True,
                dns_lookup_family=dns_v3.V4_PREFERRED,
            )
            message.cluster_type.name = "envoy.clusters.dns"
            message.cluster_type.typed_config.CopyFrom(packed(dns))
            found = _dns_endpoints(q, service, port, labels)
            message.load_assignment.CopyFrom(load_assignment(message.name, [(e, True) for e in found]))
        case Resolution.ENDPOINTS:
            message.type = cluster_v3.Cluster.EDS
            message.eds_cluster_config.eds_config.CopyFrom(from_ads())


def _dns_endpoints(q: Reader, service: Service, port: Port, labels: Labels) -> tuple[Endpoint, ...]:
    if service.inline or service.selector:
        return q(workloads.endpoints, service.host, port.number, labels)
    number = port.target if isinstance(port.target, int) else port.number
    return (Endpoint(service.host, number, (), "", False, "", 1, None),)


def sends_endpoints(q: Reader, host: str, port: int, subset: str, rules: tuple[Key, ...]) -> bool:
    """Whether the endpoints of a cluster are sent apart."""
    service = q(services.service, host)
    policy = q(destinations.policy, rules, subset, port)
    passthrough = policy.load_balancer is not None and policy.load_balancer.simple == "PASSTHROUGH"
    return service is not None and service.resolution is Resolution.ENDPOINTS and not passthrough


def _secure(
    message: cluster_v3.Cluster,
    q: Reader,
    service: Service,
    port: Port,
    subset: Subset,
    policy: PortTrafficPolicy,
) -> None:
    forced = policy.tls.mode if policy.tls and policy.tls.mode in {"DISABLE", "ISTIO_MUTUAL"} else None
    if forced == "DISABLE" or service.resolution is Resolution.NONE or _follows_the_caller(message):
        return
    peers = [tls.exactly(name) for name in q(workloads.identities, service.host, port.number, subset.labels)]
    if not peers and forced is None:
        return
    trust_domain = q(world.settings).trust_domain
    peers += [tls.exactly(name) for name in service.subject_alt_names]
    # forced mTLS without any known endpoint: whoever comes must at least be of the service's namespace
    peers = peers or [tls.beginning(f"spiffe://{trust_domain}/ns/{service.namespace}/sa/")]
    socket = _mtls(peers, service.host, port, subset.name)
    if forced == "ISTIO_MUTUAL":
        message.transport_socket.CopyFrom(socket)
        return
    message.transport_socket_matches.add(
        name="tlsMode-istio", match={"tlsMode": "istio"}, transport_socket=socket
    )
    message.transport_socket_matches.add(name="tlsMode-disabled", match={}, transport_socket=tls.plaintext())


def _follows_the_caller(message: cluster_v3.Cluster) -> bool:
    return bool(message.HasField("type") and message.type == cluster_v3.Cluster.ORIGINAL_DST)


def _mtls(
    peers: list[string_v3.StringMatcher], host: str, port: Port, subset: str
) -> base_v3.TransportSocket:
    http_alpn = tls.HTTP2_ALPN if port.protocol.is_http2 else tls.HTTP_ALPN
    alpn = http_alpn if port.protocol.is_http else tls.TCP_ALPN
    return tls.client(peers, alpn, naming.sni(host, port.number, subset))


def _connect_timeout(policy: PortTrafficPolicy) -> Duration:
    tcp = policy.connection_pool.tcp if policy.connection_pool else None
    said = parse_duration(tcp.connect_timeout) if tcp and tcp.connect_timeout else 0.0
    return duration(said if said > 0 else _CONNECT_TIMEOUT_S)


def _circuit_breakers(policy: PortTrafficPolicy | None = None) -> circuit_breaker_v3.CircuitBreakers:
    pool = policy.connection_pool if policy else None
    tcp, http = (pool.tcp, pool.http) if pool else (None, None)
    thresholds = circuit_breaker_v3.CircuitBreakers.Thresholds(
        max_connections={"value": _limit(tcp.max_connections if tcp else 0)},
        max_pending_requests={"value": _limit(http.http1_max_pending_requests if http else 0)},
        max_requests={"value": _limit(http.http2_max_requests if http else 0)},
        max_retries={"value": _limit(http.max_retries if http else 0)},
        track_remaining=True,
    )
    return circuit_breaker_v3.CircuitBreakers(thresholds=[thresholds])


def _limit(said: int) -> int:
    return said if said > 0 else _UNLIMITED


def _speak_http(message: cluster_v3.Cluster, protocol: Protocol, policy: PortTrafficPolicy) -> None:
    explicit = http_options_v3.HttpProtocolOptions.ExplicitHttpConfig
    http = policy.connection_pool.http if policy.connection_pool else None
    options = http_options_v3.HttpProtocolOptions(
        explicit_http_config=(
            explicit(http2_protocol_options={}) if protocol.is_http2 else explicit(http_protocol_options={})
        )
    )
    common = _common_http(http)
    if common is not None:
        options.common_http_protocol_options.CopyFrom(common)
    message.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(packed(options))


def _common_http(http: HTTPSettings | None) -> protocol_v3.HttpProtocolOptions | None:
    if http is None:
        return None
    common = protocol_v3.HttpProtocolOptions()
    if http.idle_timeout:
        common.idle_timeout.CopyFrom(duration(max(parse_duration(http.idle_timeout), 0.0)))
    if http.max_requests_per_connection > 0:
        common.max_requests_per_connection.value = http.max_requests_per_connection
    return common


def _outliers(said: OutlierDetection) -> outlier_detection_v3.OutlierDetection:
    errors = 5 if said.consecutive_5xx_errors is None else said.consecutive_5xx_errors
    found = outlier_detection_v3.OutlierDetection(
        consecutive_5xx={"value": max(errors, 1)},
        enforcing_consecutive_5xx={"value": 100 if errors else 0},
        enforcing_success_rate={"value": 0},
        max_ejection_percent={"value": said.max_ejection_percent or 10},
    )
    if said.interval:
        found.interval.CopyFrom(duration(max(parse_duration(said.interval), 0.001)))
    if said.base_ejection_time:
        found.base_ejection_time.CopyFrom(duration(max(parse_duration(said.base_ejection_time), 0.001)))
    return found


# clusters that every proxy has, and those of its own ports


def fixed_clusters(_: Reader) -> tuple[Resource, ...]:
    """PassthroughCluster, BlackHoleCluster, InboundPassthroughCluster."""
    passthrough = _original_destination(naming.PASSTHROUGH)
    black_hole = cluster_v3.Cluster(
        name=naming.BLACK_HOLE, type=cluster_v3.Cluster.STATIC, connect_timeout=duration(1)
    )
    return tuple(
        resource(CLUSTER, message.name, message)
        for message in (black_hole, _from_loopback(naming.INBOUND_PASSTHROUGH), passthrough)
    )


def inbound_cluster(_: Reader, port: int, protocol: Protocol) -> Resource:
    """The cluster of a workload's own port: the address that the caller dialled, from a known source."""
    message = _from_loopback(naming.inbound(port))
    if protocol.is_http2:
        options = http_options_v3.HttpProtocolOptions(explicit_http_config={"http2_protocol_options": {}})
        message.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(packed(options))
    return resource(CLUSTER, message.name, message)


def _from_loopback(name: str) -> cluster_v3.Cluster:
    message = _original_destination(name)
    v4, v6 = _INBOUND_SOURCES
    message.upstream_bind_config.source_address.CopyFrom(address(v4, 0).socket_address)
    message.upstream_bind_config.extra_source_addresses.add(address=address(v6, 0).socket_address)
    message.cleanup_interval.CopyFrom(duration(_INBOUND_IDLE_S))
    return message


def _original_destination(name: str) -> cluster_v3.Cluster:
    # requests go on as they came, HTTP/1 or HTTP/2
    options = http_options_v3.HttpProtocolOptions(
        use_downstream_protocol_config={"http_protocol_options": {}, "http2_protocol_options": {}}
    )
    message = cluster_v3.Cluster(
        name=name,
        type=cluster_v3.Cluster.ORIGINAL_DST,
        lb_policy=cluster_v3.Cluster.CLUSTER_PROVIDED,
        connect_timeout=duration(_CONNECT_TIMEOUT_S),
        circuit_breakers=_circuit_breakers(),
    )
    message.typed_extension_protocol_options[HTTP_OPTIONS].CopyFrom(packed(options))
    return message

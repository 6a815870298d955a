"""Where requests and connections go -> the network filters that take them there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from envoy.config.listener.v3 import listener_components_pb2 as listener_components_v3
from envoy.config.route.v3 import route_components_pb2 as route_components_v3
from envoy.config.route.v3 import route_pb2 as route_v3
from envoy.extensions.filters.http.cors.v3 import cors_pb2 as cors_v3
from envoy.extensions.filters.http.fault.v3 import fault_pb2 as fault_v3
from envoy.extensions.filters.http.grpc_web.v3 import grpc_web_pb2 as grpc_web_v3
from envoy.extensions.filters.http.router.v3 import router_pb2 as router_v3
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_v3,
)
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2 as tcp_proxy_v3

from isthmus.engine import Reader
from isthmus.envoy import marked
from isthmus.envoy.accesslog import LogStyle, access_logs, log_style
from isthmus.envoy.message import duration, from_ads, packed
from isthmus.mesh import world

FAULT_FILTER = "envoy.filters.http.fault"
CORS_FILTER = "envoy.filters.http.cors"
GRPC_WEB_FILTER = "envoy.filters.http.grpc_web"

Filter: TypeAlias = listener_components_v3.Filter
Hcm: TypeAlias = hcm_v3.HttpConnectionManager

_TCP_IDLE_S = 24 * 3600.0
"""Longer than databases keep idle connections themselves, so that a connection pool is never cut here."""
_CONNECT_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Manner:
    """What all connections of the mesh have in common: the log, and how paths are cleaned."""

    log: LogStyle
    paths: str = "DEFAULT"


def manner(q: Reader) -> Manner:
    """As the mesh's settings say."""
    return Manner(q(log_style), q(world.settings).path_normalization)


@dataclass(frozen=True, slots=True)
class Carriage:
    """How connections are carried; times in seconds, 0 = without end."""

    idle_s: float = _TCP_IDLE_S
    longest_s: float = 0.0
    by_source: bool = False
    """Whether connections of one address keep to one endpoint."""
    tunnel: str = ""
    """`host:port` that an HTTP proxy is asked to connect to; empty without a tunnel."""
    tunnel_post: bool = False


def outbound_http(
    style: Manner,
    stat_prefix: str,
    route_name: str,
    before_router: Sequence[hcm_v3.HttpFilter] = (),
    first: Sequence[hcm_v3.HttpFilter] = (),
) -> Filter:
    """Requests by the route configuration of that name."""
    http_filters = (*first, _fault(), _cors(), *before_router, marked.mark(), _router())
    manager = _manager(style, stat_prefix, http_filters)
    manager.rds.CopyFrom(hcm_v3.Rds(config_source=from_ads(), route_config_name=route_name))
    return _http(manager)


def outbound_http_to(
    style: Manner,
    stat_prefix: str,
    host: route_components_v3.VirtualHost,
    before_router: Sequence[hcm_v3.HttpFilter] = (),
) -> Filter:
    """Requests by one virtual host."""
    manager = _manager(style, stat_prefix, (_fault(), _cors(), *before_router, _router()))
    manager.route_config.CopyFrom(
        route_v3.RouteConfiguration(
            name=host.name,
            virtual_hosts=[host],
            validate_clusters={"value": False},
            ignore_port_in_host_matching=True,
        )
    )
    return _http(manager)


@dataclass(frozen=True, slots=True)
class InboundRoute:
    """Where requests to a workload's own port go, and by what names that is known."""

    stat_prefix: str
    cluster: str
    service_port: int
    retried: bool = True
    """Whether what the workload never saw is sent again; gRPC callers do that themselves."""


def inbound_http(
    style: Manner, to: InboundRoute, *, mtls: bool, first: Sequence[hcm_v3.HttpFilter] = ()
) -> Filter:
    """Requests to a workload's own port, as far as the `first` filters let them through.

    Over mTLS the application is told who calls.
    """
    everything = route_components_v3.Route(
        name="default",
        match={"prefix": "/"},
        route={
            "cluster": to.cluster,
            "timeout": duration(0),
            "max_stream_duration": {
                "max_stream_duration": duration(0),
                "grpc_timeout_header_max": duration(0),
            },
        },
    )
    if to.retried:
        everything.route.retry_policy.retry_on = "reset-before-request"
        everything.route.retry_policy.num_retries.value = 2
    manager = _manager(style, to.stat_prefix, (*first, _router()))
    manager.route_config.CopyFrom(_routes(to.cluster, f"inbound|http|{to.service_port}", everything))
    if mtls:
        # what the caller wrote into the header itself is never passed on
        manager.forward_client_cert_details = Hcm.SANITIZE_SET
        manager.set_current_client_cert_details.CopyFrom(
            Hcm.SetCurrentClientCertDetails(subject={"value": True}, uri=True, dns=True)
        )
    return _http(manager)


def answer(stat_prefix: str, body: str) -> Filter:
    """Every request is answered with this body."""
    route = route_components_v3.Route(
        name=stat_prefix,
        match={"prefix": "/"},
        direct_response={"status": 200, "body": {"inline_string": body}},
    )
    manager = _manager(Manner(LogStyle()), stat_prefix, (_router(),))
    manager.codec_type = Hcm.HTTP1
    manager.route_config.CopyFrom(_routes(stat_prefix, f"{stat_prefix}:*", route))
    return _http(manager)


def tcp(
    style: Manner, stat_prefix: str, clusters: Sequence[tuple[str, int]], how: Carriage | None = None
) -> Filter:
    """Connections to the clusters, by weight."""
    proxy = _tcp_proxy(style, stat_prefix, clusters, how or Carriage())
    proxy.max_connect_attempts.value = _CONNECT_ATTEMPTS
    return _tcp(proxy)


def inbound_tcp(style: Manner, stat_prefix: str, cluster: str, *, mtls: bool) -> Filter:
    """Connections to a workload's own port.

    Over mTLS the application is dialled only after the handshake: a server that speaks first would
    otherwise be opened for callers whose certificate is refused a moment later.
    """
    proxy = _tcp_proxy(style, stat_prefix, [(cluster, 1)], Carriage())
    if mtls:
        proxy.upstream_connect_mode = tcp_proxy_v3.ON_DOWNSTREAM_TLS_HANDSHAKE
        proxy.max_early_data_bytes.value = 0
    return _tcp(proxy)


def _tcp_proxy(
    style: Manner, stat_prefix: str, clusters: Sequence[tuple[str, int]], how: Carriage
) -> tcp_proxy_v3.TcpProxy:
    proxy = tcp_proxy_v3.TcpProxy(
        stat_prefix=stat_prefix, idle_timeout=duration(how.idle_s), access_log=access_logs(style.log)
    )
    if how.longest_s:
        proxy.max_downstream_connection_duration.CopyFrom(duration(how.longest_s))
    if how.by_source:
        proxy.hash_policy.add(source_ip={})
    if how.tunnel:
        proxy.tunneling_config.hostname = how.tunnel
        proxy.tunneling_config.use_post = how.tunnel_post
    if len(clusters) == 1:
        proxy.cluster = clusters[0][0]
        return proxy
    for name, weight in clusters:
        proxy.weighted_clusters.clusters.add(name=name, weight=weight)
    return proxy


def _tcp(proxy: tcp_proxy_v3.TcpProxy) -> Filter:
    return Filter(name="envoy.filters.network.tcp_proxy", typed_config=packed(proxy))


def _http(manager: Hcm) -> Filter:
    return Filter(name="envoy.filters.network.http_connection_manager", typed_config=packed(manager))


def _manager(style: Manner, stat_prefix: str, http_filters: Iterable[hcm_v3.HttpFilter]) -> Hcm:
    slashes = style.paths in {"MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"}
    unescape = style.paths == "DECODE_AND_MERGE_SLASHES"
    return Hcm(
        stat_prefix=stat_prefix,
        codec_type=Hcm.AUTO,
        http_filters=http_filters,
        access_log=access_logs(style.log),
        use_remote_address={"value": False},
        normalize_path={"value": style.paths != "NONE"},
        merge_slashes=slashes,
        path_with_escaped_slashes_action=Hcm.UNESCAPE_AND_FORWARD if unescape else Hcm.KEEP_UNCHANGED,
        # long polls and streams are not cut: routes say what times out
        stream_idle_timeout=duration(0),
        upgrade_configs=[{"upgrade_type": "websocket"}],
        server_header_transformation=Hcm.PASS_THROUGH,
        # nobody's x-envoy-* headers are trusted for coming from a private address
        internal_address_config={},
    )


def _routes(name: str, host_name: str, route: route_components_v3.Route) -> route_v3.RouteConfiguration:
    host = route_components_v3.VirtualHost(name=host_name, domains=["*"], routes=[route])
    return route_v3.RouteConfiguration(name=name, virtual_hosts=[host], validate_clusters={"value": False})


def _fault() -> hcm_v3.HttpFilter:
    return hcm_v3.HttpFilter(name=FAULT_FILTER, typed_config=packed(fault_v3.HTTPFault()))


def _cors() -> hcm_v3.HttpFilter:
    return hcm_v3.HttpFilter(name=CORS_FILTER, typed_config=packed(cors_v3.Cors()))


def grpc_web() -> hcm_v3.HttpFilter:
    """Takes gRPC-Web, as browsers speak it, and passes it on as gRPC."""
    return hcm_v3.HttpFilter(name=GRPC_WEB_FILTER, typed_config=packed(grpc_web_v3.GrpcWeb()))


def _router() -> hcm_v3.HttpFilter:
    return hcm_v3.HttpFilter(name="envoy.filters.http.router", typed_config=packed(router_v3.Router()))

"""Where requests and connections go -> the network filters that take them there."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from envoy.config.listener.v3 import listener_components_pb2 as listener_components_v3
from envoy.config.route.v3 import route_components_pb2 as route_components_v3
from envoy.config.route.v3 import route_pb2 as route_v3
from envoy.extensions.filters.http.fault.v3 import fault_pb2 as fault_v3
from envoy.extensions.filters.http.router.v3 import router_pb2 as router_v3
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_v3,
)
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2 as tcp_proxy_v3

from isthmus.envoy import naming
from isthmus.envoy.message import duration, from_ads, packed

FAULT_FILTER = "envoy.filters.http.fault"

Filter: TypeAlias = listener_components_v3.Filter
Hcm: TypeAlias = hcm_v3.HttpConnectionManager

_TCP_IDLE_S = 24 * 3600.0
"""Longer than databases keep idle connections themselves, so that a connection pool is never cut here."""
_CONNECT_ATTEMPTS = 3


def outbound_http(port: int) -> Filter:
    """Requests to any HTTP service on a port, by the route configuration of that port."""
    manager = _manager(f"outbound_0.0.0.0_{port}", (_fault(), _router()))
    manager.rds.CopyFrom(hcm_v3.Rds(config_source=from_ads(), route_config_name=naming.route(port)))
    return _http(manager)


def inbound_http(port: int, *, mtls: bool) -> Filter:
    """Requests to a workload's own port; over mTLS the application is told who calls."""
    everything = route_components_v3.Route(
        name="default",
        match={"prefix": "/"},
        route={"cluster": naming.inbound(port), "timeout": duration(0)},
    )
    manager = _manager(f"inbound_0.0.0.0_{port}", (_router(),))
    manager.route_config.CopyFrom(_routes(naming.inbound(port), everything))
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
    manager = _manager(stat_prefix, (_router(),))
    manager.codec_type = Hcm.HTTP1
    manager.route_config.CopyFrom(_routes(stat_prefix, route))
    return _http(manager)


def tcp(stat_prefix: str, clusters: Sequence[tuple[str, int]]) -> Filter:
    """Connections to the clusters, by weight."""
    proxy = _tcp_proxy(stat_prefix, clusters)
    proxy.max_connect_attempts.value = _CONNECT_ATTEMPTS
    return _tcp(proxy)


def inbound_tcp(stat_prefix: str, cluster: str, *, mtls: bool) -> Filter:
    """Connections to a workload's own port.

    Over mTLS the application is dialled only after the handshake: a server that speaks first would
    otherwise be opened for callers whose certificate is refused a moment later.
    """
    proxy = _tcp_proxy(stat_prefix, [(cluster, 1)])
    if mtls:
        proxy.upstream_connect_mode = tcp_proxy_v3.ON_DOWNSTREAM_TLS_HANDSHAKE
        proxy.max_early_data_bytes.value = 0
    return _tcp(proxy)


def _tcp_proxy(stat_prefix: str, clusters: Sequence[tuple[str, int]]) -> tcp_proxy_v3.TcpProxy:
    proxy = tcp_proxy_v3.TcpProxy(stat_prefix=stat_prefix, idle_timeout=duration(_TCP_IDLE_S))
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


def _manager(stat_prefix: str, http_filters: Iterable[hcm_v3.HttpFilter]) -> Hcm:
    return Hcm(
        stat_prefix=stat_prefix,
        codec_type=Hcm.AUTO,
        http_filters=http_filters,
        use_remote_address={"value": False},
        normalize_path={"value": True},
        # long polls and streams are not cut: routes say what times out
        stream_idle_timeout=duration(0),
        upgrade_configs=[{"upgrade_type": "websocket"}],
        server_header_transformation=Hcm.PASS_THROUGH,
        # nobody's x-envoy-* headers are trusted for coming from a private address
        internal_address_config={},
    )


def _routes(name: str, route: route_components_v3.Route) -> route_v3.RouteConfiguration:
    host = route_components_v3.VirtualHost(name=f"{name}:*", domains=["*"], routes=[route])
    return route_v3.RouteConfiguration(name=name, virtual_hosts=[host], validate_clusters={"value": False})


def _fault() -> hcm_v3.HttpFilter:
    return hcm_v3.HttpFilter(name=FAULT_FILTER, typed_config=packed(fault_v3.HTTPFault()))


def _router() -> hcm_v3.HttpFilter:
    return hcm_v3.HttpFilter(name="envoy.filters.http.router", typed_config=packed(router_v3.Router()))

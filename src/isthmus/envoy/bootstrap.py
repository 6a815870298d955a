"""A workload and the control plane's addresses -> the file that Envoy starts with.

It is written once and holds everything that xDS cannot add later: internal listeners, both ends of reverse
tunnels, which statistics exist, how fast a lost stream is opened again. All the rest comes over ADS.
"""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from google.protobuf.json_format import MessageToDict

from isthmus.envoy import naming, tls
from isthmus.identity.spiffe import SpiffeId

SDS_SOCKET = "/run/isthmus/sds.sock"
ADMIN_SOCKET = "/run/isthmus/envoy/admin.sock"

_TYPE = "type.googleapis.com/envoy.extensions."
_STATS_PREFIXES = (
    "cluster_manager.",
    "control_plane.",
    "listener_manager.",
    "listener.",
    "server.",
    "sds.",
    "http.inbound",
    "http.outbound",
    "tcp.",
    f"cluster.{naming.ADS_CLUSTER}.",
    f"cluster.{naming.SDS_CLUSTER}.",
)
_STATS_SUFFIXES = (
    "membership_healthy",
    "membership_total",
    "overflow",
    "ssl.fail_verify_san",
    "ssl.handshake",
    "upstream_cx_active",
    "upstream_cx_connect_fail",
    "upstream_cx_http2_total",
    "upstream_cx_total",
    "upstream_rq_5xx",
    "upstream_rq_pending_failure_eject",
    "upstream_rq_total",
)
_MOST_CONNECTIONS = 100_000
_RUNTIME = {"re2.max_program_size.error_level": 32768}
"""As in Istio. Envoy's own limit of 100 is less than many a path of one's own."""


def bootstrap(
    *,
    node_id: str,
    cluster: str,
    metadata: Mapping[str, Any],
    ads_addresses: Sequence[tuple[str, int]],
    control_plane_id: SpiffeId,
) -> dict[str, Any]:
    """Envoy's bootstrap as JSON. Addresses of the control plane are IP addresses or DNS names."""
    ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    return {
        "node": {"id": node_id, "cluster": cluster, "metadata": dict(metadata)},
        "admin": {
            "address": {"pipe": {"path": ADMIN_SOCKET, "mode": 0o600}},
            "ignore_global_conn_limit": True,
        },
        "dynamic_resources": {"ads_config": _ads(), "cds_config": ads, "lds_config": ads},
        "static_resources": {"clusters": [_control_plane(ads_addresses, control_plane_id), _agent()]},
        "bootstrap_extensions": _extensions(),
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": _patterns()}}},
        "stats_flush_interval": "5s",
        "deferred_stat_options": {"enable_deferred_creation_stats": True},
        "overload_manager": {"resource_monitors": [_connection_limit()]},
        "layered_runtime": {"layers": [{"name": "global", "static_layer": _RUNTIME}]},
    }


def _ads() -> dict[str, Any]:
    # a fleet comes back within a second or so of a restarted control plane, and not in one instant
    retry = {"retry_back_off": {"base_interval": "0.2s", "max_interval": "1s"}}
    service = {"envoy_grpc": {"cluster_name": naming.ADS_CLUSTER, "retry_policy": retry}}
    return {
        "api_type": "DELTA_GRPC",
        "transport_api_version": "V3",
        "set_node_on_first_message_only": True,
        "grpc_services": [service],
    }


def _control_plane(addresses: Sequence[tuple[str, int]], identity: SpiffeId) -> dict[str, Any]:
    assert addresses, "a proxy needs at least one address of the control plane"
    named = [host for host, _ in addresses if not _is_ip(host)]
    socket = tls.client([tls.exactly(str(identity))], ("h2",), sni=named[0] if named else "")
    return {
        "name": naming.ADS_CLUSTER,
        **(_dns() if named else {"type": "STATIC"}),
        "connect_timeout": "2s",
        "load_assignment": _assignment(
            naming.ADS_CLUSTER,
            [{"socket_address": {"address": host, "port_value": port}} for host, port in addresses],
        ),
        # a control plane that vanished without a word is noticed within 15 seconds
        **_http2({"connection_keepalive": {"interval": "10s", "timeout": "5s"}}),
        "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 30, "keepalive_interval": 10}},
        "transport_socket": MessageToDict(socket, preserving_proto_field_name=True),
    }


def _dns() -> dict[str, Any]:
    return {
        "cluster_type": {
            "name": "envoy.clusters.dns",
            "typed_config": {
                "@type": f"{_TYPE}clusters.dns.v3.DnsCluster",
                "dns_refresh_rate": "5s",
                "dns_lookup_family": "ALL",
            },
        }
    }


def _agent() -> dict[str, Any]:
    return {
        "name": naming.SDS_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": _assignment(naming.SDS_CLUSTER, [{"pipe": {"path": SDS_SOCKET}}]),
        **_http2({}),
    }


def _assignment(name: str, addresses: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    members = [{"endpoint": {"address": address}} for address in addresses]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": members}]}


def _http2(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPE}upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": dict(options)},
            }
        }
    }


def _extensions() -> list[dict[str, Any]]:
    tunnel = "envoy.bootstrap.reverse_tunnel"
    return [
        {
            "name": "envoy.bootstrap.internal_listener",
            "typed_config": {"@type": f"{_TYPE}bootstrap.internal_listener.v3.InternalListener"},
        },
        *(
            {
                "name": f"{tunnel}.{end}_socket_interface",
                "typed_config": {
                    "@type": f"{_TYPE}bootstrap.reverse_tunnel.{end}_socket_interface.v3."
                    f"{end.capitalize()}ReverseConnectionSocketInterface",
                    "stat_prefix": f"{end}_reverse_tunnel",
                },
            }
            for end in ("downstream", "upstream")
        ),
    ]


def _patterns() -> list[dict[str, str]]:
    prefixes = [{"prefix": text} for text in _STATS_PREFIXES]
    return prefixes + [{"suffix": text} for text in _STATS_SUFFIXES]


def _connection_limit() -> dict[str, Any]:
    return {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {
            "@type": f"{_TYPE}resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            "max_active_downstream_connections": _MOST_CONNECTIONS,
        },
    }


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True

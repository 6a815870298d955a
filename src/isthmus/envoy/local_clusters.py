"""Clusters that lead to no service: to where the caller wanted to, or to nowhere."""

from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3

from isthmus.engine import Reader
from isthmus.envoy import naming
from isthmus.envoy.message import address, duration, resource
from isthmus.envoy.pools import HttpOptions, attach, limit
from isthmus.envoy.resource import CLUSTER, Resource
from isthmus.mesh import world
from isthmus.mesh.destinations import Policy
from isthmus.mesh.model import MeshSettings

_PASSTHROUGH_IDLE_S = 300.0
_INBOUND_IDLE_S = 60.0
_SOURCES = ("127.0.0.6", "::6")
"""Connections of the sidecar to the VM's own programs come from here: capture lets them through."""


def fixed_clusters(q: Reader) -> tuple[Resource, ...]:
    """PassthroughCluster, BlackHoleCluster, InboundPassthroughCluster."""
    settings = q(world.settings)
    black_hole = cluster_v3.Cluster(
        name=naming.BLACK_HOLE, type=cluster_v3.Cluster.STATIC, connect_timeout=duration(1)
    )
    inbound = _original_destination(naming.INBOUND_PASSTHROUGH, settings)
    inbound.cleanup_interval.CopyFrom(duration(_INBOUND_IDLE_S))
    _from_loopback(inbound)
    passthrough = _original_destination(naming.PASSTHROUGH, settings)
    return tuple(resource(CLUSTER, m.name, m) for m in (black_hole, inbound, passthrough))


def _from_loopback(message: cluster_v3.Cluster) -> None:
    v4, v6 = _SOURCES
    message.upstream_bind_config.source_address.CopyFrom(address(v4, 0).socket_address)
    message.upstream_bind_config.extra_source_addresses.add(address=address(v6, 0).socket_address)


def _original_destination(name: str, settings: MeshSettings) -> cluster_v3.Cluster:
    # requests go on as they came, HTTP/1 or HTTP/2
    options = HttpOptions(
        use_downstream_protocol_config={"http_protocol_options": {}, "http2_protocol_options": {}},
        common_http_protocol_options={"idle_timeout": duration(_PASSTHROUGH_IDLE_S)},
    )
    message = cluster_v3.Cluster(
        name=name,
        type=cluster_v3.Cluster.ORIGINAL_DST,
        lb_policy=cluster_v3.Cluster.CLUSTER_PROVIDED,
    )
    limit(message, Policy(), settings, own_keepalive=False)
    attach(message, options)
    return message

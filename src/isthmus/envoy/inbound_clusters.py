"""A workload's own ports -> the clusters that lead to its programs.

without an endpoint   the address that the caller dialled, from a source that capture lets through
with one              the loopback address, an address of the machine, or a Unix socket
"""

from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3

from isthmus.api.meta import Key
from isthmus.api.networking.destination_rule import ConnectionPoolSettings
from isthmus.engine import Reader
from isthmus.envoy import naming
from isthmus.envoy.message import address, duration, resource
from isthmus.envoy.pools import attach, http_options, limit
from isthmus.envoy.resource import CLUSTER, Resource
from isthmus.mesh import destinations, world
from isthmus.mesh.destinations import Policy
from isthmus.mesh.scope_inbound import Served, pool_at

_IDLE_S = 60.0
_SOURCES = ("127.0.0.6", "::6")
"""Connections of the sidecar to the machine's own programs come from here: capture lets them through."""
_LOOPBACK = frozenset({"127.0.0.1", "::1"})


def inbound_cluster(q: Reader, workload: Key, one: Served) -> Resource:
    """The cluster of a workload's own port; its limits are the Sidecar's, else the service's own rules'."""
    rules = q(destinations.rules_for, workload.namespace, one.host) if one.host else ()
    policy = q(destinations.policy, rules, "", one.service_port)
    said = q(pool_at, workload, one.number)
    policy = Policy(connection_pool=_local(said or policy.connection_pool), retry_budget=policy.retry_budget)
    message = cluster_v3.Cluster(name=naming.inbound(one.number))
    limit(message, policy, q(world.settings), own_keepalive=False)
    attach(message, http_options(one.protocol, policy))
    if one.endpoint:
        _lead_to(message, one.endpoint)
    else:
        message.type = cluster_v3.Cluster.ORIGINAL_DST
        message.lb_policy = cluster_v3.Cluster.CLUSTER_PROVIDED
        message.cleanup_interval.CopyFrom(duration(_IDLE_S))
        _from_loopback(message)
    return resource(CLUSTER, message.name, message, (*one.sources, *rules))


def _lead_to(message: cluster_v3.Cluster, endpoint: str) -> None:
    message.type = cluster_v3.Cluster.STATIC
    host, port = endpoint, 0
    if not endpoint.startswith("unix://"):
        host, _, number = endpoint.rpartition(":")
        host, port = host.strip("[]"), int(number)
    locality = message.load_assignment.endpoints.add()
    locality.lb_endpoints.add(endpoint={"address": address(host, port)})
    message.load_assignment.cluster_name = message.name
    if host not in _LOOPBACK and port:
        _from_loopback(message)


def _from_loopback(message: cluster_v3.Cluster) -> None:
    v4, v6 = _SOURCES
    message.upstream_bind_config.source_address.CopyFrom(address(v4, 0).socket_address)
    message.upstream_bind_config.extra_source_addresses.add(address=address(v6, 0).socket_address)


def _local(pool: ConnectionPoolSettings | None) -> ConnectionPoolSettings | None:
    """The limits without an upgrade to HTTP/2, which is about connections of callers."""
    if pool is None or pool.http is None:
        return pool
    http = pool.http.model_copy(update={"h2_upgrade_policy": "DEFAULT"})
    return pool.model_copy(update={"http": http})

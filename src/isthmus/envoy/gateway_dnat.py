"""What callers from other networks may reach -> clusters that TLS passes through, named by the server name.

    outbound|80|v1|ratings.shop…   --twin-->   outbound_.80_.v1_.ratings.shop…

The twin opens nothing and speaks nothing: it carries mutual TLS from afar to endpoints that take mutual TLS.
It leads to the gateway's own network only, so that two gateways never send a connection to and fro.
"""

from collections.abc import Mapping
from dataclasses import replace

from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3
from envoy.config.endpoint.v3 import endpoint_pb2 as assignment_v3

from isthmus.engine import Reader
from isthmus.envoy import clusters, naming, outbound
from isthmus.envoy.endpoints import TLS_MATCH
from isthmus.envoy.message import resource
from isthmus.envoy.resource import CLUSTER, ENDPOINTS, Resource, content_version
from isthmus.envoy.targets import Target
from isthmus.mesh.gateways import Edge
from isthmus.mesh.gateways_listeners import passed
from isthmus.mesh.gateways_plan import plan, sni_of


def dnat_clusters(q: Reader, edge: Edge) -> Mapping[str, Resource]:
    """The clusters that server names lead to."""
    found = (q(cluster, target) for target in q(targets, edge))
    return {made.name: made for made in found if made}


def dnat_endpoints(q: Reader, edge: Edge) -> Mapping[str, Resource]:
    """Their endpoints."""
    found = (q(assignment, target) for target in q(targets, edge))
    return {made.name: made for made in found if made}


def targets(q: Reader, edge: Edge) -> tuple[Target, ...]:
    """What server names lead to, in the edge's own network."""
    hosts = sni_of(s for p in q(plan, edge.gateways).places for s in p.servers if s.automatic)
    if not hosts:
        return ()
    wanted = {(to.host, to.port, to.subset) for to in q(passed, edge.scope, hosts)}
    return tuple(
        replace(target, place=replace(target.place, only_own_network=True))
        for target in q(outbound.targets, edge.scope)
        if (target.host, target.port, target.subset) in wanted
    )


def cluster(q: Reader, target: Target) -> Resource | None:
    """The twin of a cluster."""
    made = q(clusters.cluster, target)
    if made is None:
        return None
    message = cluster_v3.Cluster.FromString(made.body)
    message.name = _name(target)
    message.ClearField("transport_socket")
    message.ClearField("transport_socket_matches")
    message.ClearField("transport_socket_matcher")
    message.ClearField("typed_extension_protocol_options")
    if message.HasField("load_assignment"):
        message.load_assignment.CopyFrom(_twin(message.load_assignment, message.name))
    return resource(CLUSTER, message.name, message, made.sources)


def assignment(q: Reader, target: Target) -> Resource | None:
    """The endpoints of a twin, in a version that covers the cluster's."""
    made, own = q(outbound.cluster_endpoints, target), q(cluster, target)
    if made is None or own is None:
        return None
    message = _twin(assignment_v3.ClusterLoadAssignment.FromString(made.body), _name(target))
    found = resource(ENDPOINTS, message.cluster_name, message, made.sources)
    return replace(found, version=content_version(found.body, own.version.encode()))


def _twin(said: assignment_v3.ClusterLoadAssignment, name: str) -> assignment_v3.ClusterLoadAssignment:
    """The endpoints that take mutual TLS: nobody else can tell what passes through."""
    message = assignment_v3.ClusterLoadAssignment()
    message.CopyFrom(said)
    message.cluster_name = name
    for place in message.endpoints:
        kept = [e for e in place.lb_endpoints if TLS_MATCH in e.metadata.filter_metadata]
        del place.lb_endpoints[:]
        place.lb_endpoints.extend(kept)
        place.load_balancing_weight.value = sum(e.load_balancing_weight.value for e in kept)
    return message


def _name(target: Target) -> str:
    return naming.sni(target.host, target.port, target.subset)

"""Endpoints and their health -> ClusterLoadAssignment. A change of health changes nothing else."""

from collections.abc import Iterable

from envoy.config.core.v3 import address_pb2 as address_v3
from envoy.config.core.v3 import base_pb2 as base_v3
from envoy.config.core.v3 import health_check_pb2 as health_check_v3
from envoy.config.endpoint.v3 import endpoint_components_pb2 as endpoint_v3
from envoy.config.endpoint.v3 import endpoint_pb2 as assignment_v3

from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.envoy import naming
from isthmus.envoy.message import address, resource
from isthmus.envoy.resource import ENDPOINTS, Resource
from isthmus.envoy.targets import Target
from isthmus.mesh import destinations, endpoints, localities, networks, services, workloads, world
from isthmus.mesh.localities import Group
from isthmus.mesh.model import Endpoint

TLS_MATCH = "envoy.transport_socket_match"


def assignment(q: Reader, target: Target) -> Resource:
    """The endpoints of a target."""
    name = naming.outbound(target.host, target.port, target.subset)
    found = q(members, target)
    sources = [endpoint.workload for group in found for endpoint, _ in group.members if endpoint.workload]
    message = load_assignment(name, found)
    return resource(ENDPOINTS, name, message, (*target.sources[:1], *sources))


def members(q: Reader, target: Target) -> tuple[Group, ...]:
    """The endpoints of a target with their health, by place, in the order in which callers use them."""
    service = q(services.merged, target.host, target.sources)
    chosen = q(destinations.subset, target.rules, target.subset)
    if service is None or chosen is None:
        return ()
    policy = q(destinations.policy, target.rules, target.subset, target.port)
    found = q(endpoints.endpoints, target.host, target.port, chosen.labels, target.sources)
    if service.node_local:
        # callers on VMs are on no node of a cluster, and neither are VMs
        found = tuple(e for e in found if not e.node)
    anyhow = service.publish_not_ready
    health = [(e, anyhow or (e.ready and _is_well(q, e.workload))) for e in endpoints.unique(found)]
    place = target.place
    mutual = policy.tls.mode == "ISTIO_MUTUAL" if policy.tls else None
    health = networks.reached(q, health, place.network, only_own=place.only_own_network, mutual=mutual)
    outliers = policy.outlier_detection
    if outliers and outliers.min_health_percent > 0:
        # with a panic threshold Envoy would send requests to endpoints that are known to be down
        health = [(e, well) for e, well in health if well]
    spread = localities.spread(policy, service, q(world.settings).locality)
    labels = endpoints.topology(place.labels, place.locality, "", "") if spread.depends_on_labels else ()
    return localities.arranged(localities.groups(health), spread, place.locality, labels)


def _is_well(q: Reader, workload: Key | None) -> bool:
    return workload is None or workload.kind != workloads.KIND or q(workloads.healthy, workload)


def load_assignment(name: str, found: Iterable[Group]) -> assignment_v3.ClusterLoadAssignment:
    """Groups of endpoints as Envoy reads them."""
    return assignment_v3.ClusterLoadAssignment(
        cluster_name=name, endpoints=[_locality(group) for group in found]
    )


def _locality(group: Group) -> endpoint_v3.LocalityLbEndpoints:
    region, zone, sub_zone = (*group.place.split("/", 2), "", "", "")[:3]
    place = base_v3.Locality(region=region, zone=zone, sub_zone=sub_zone) if group.place else None
    return endpoint_v3.LocalityLbEndpoints(
        locality=place,
        priority=group.priority,
        load_balancing_weight={"value": group.weight},
        lb_endpoints=[_lb_endpoint(endpoint, health) for endpoint, health in group.members],
    )


def _lb_endpoint(endpoint: Endpoint, healthy: bool) -> endpoint_v3.LbEndpoint:
    message = endpoint_v3.LbEndpoint(
        endpoint=endpoint_v3.Endpoint(address=_address(endpoint)),
        health_status=health_check_v3.HEALTHY if healthy else health_check_v3.UNHEALTHY,
        load_balancing_weight={"value": endpoint.weight},
    )
    if endpoint.mtls:
        message.metadata.filter_metadata[TLS_MATCH].update({"tlsMode": "istio"})
    if endpoint.workload:
        workload = f"{endpoint.workload.name};{endpoint.workload.namespace}"
        message.metadata.filter_metadata["istio"].update({"workload": workload})
    return message


def _address(endpoint: Endpoint) -> address_v3.Address:
    if endpoint.port == 0:
        return address_v3.Address(pipe={"path": endpoint.address})
    return address(endpoint.address, endpoint.port)

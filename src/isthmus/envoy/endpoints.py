"""Endpoints and their health -> ClusterLoadAssignment. A change of health changes nothing else."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from envoy.config.core.v3 import base_pb2 as base_v3
from envoy.config.core.v3 import health_check_pb2 as health_check_v3
from envoy.config.endpoint.v3 import endpoint_components_pb2 as endpoint_v3
from envoy.config.endpoint.v3 import endpoint_pb2 as assignment_v3

from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.envoy import naming
from isthmus.envoy.message import address, resource
from isthmus.envoy.resource import ENDPOINTS, Resource
from isthmus.mesh import services, workloads
from isthmus.mesh.model import Endpoint, Labels

_TLS_MATCH = "envoy.transport_socket_match"


def assignment(q: Reader, host: str, port: int, subset: str, labels: Labels) -> Resource:
    """The endpoints of a host's port, or of the subset with these labels."""
    found = q(workloads.endpoints, host, port, labels)
    health = [e.workload is None or q(workloads.healthy, e.workload) for e in found]
    name = naming.outbound(host, port, subset)
    message = load_assignment(name, list(zip(found, health, strict=True)))
    sources = (*q(services.claims_of, host)[:1], *(e.workload for e in found if e.workload))
    return resource(ENDPOINTS, name, message, sources)


def load_assignment(
    name: str, members: Iterable[tuple[Endpoint, bool]]
) -> assignment_v3.ClusterLoadAssignment:
    """Endpoints with their health, by locality."""
    ordered = sorted(members, key=lambda member: (member[0].locality, _identity(member[0])))
    return assignment_v3.ClusterLoadAssignment(
        cluster_name=name,
        endpoints=[
            _locality(place, list(found)) for place, found in groupby(ordered, lambda m: m[0].locality)
        ],
    )


def _identity(endpoint: Endpoint) -> tuple[str, int, Key]:
    return endpoint.address, endpoint.port, endpoint.workload or Key("", "", "")


def _locality(place: str, members: Sequence[tuple[Endpoint, bool]]) -> endpoint_v3.LocalityLbEndpoints:
    # one address twice is one endpoint: Envoy would refuse neither, but count it twice
    unique = {(endpoint.address, endpoint.port): (endpoint, health) for endpoint, health in members}
    region, zone, sub_zone = (*place.split("/", 2), "", "", "")[:3]
    return endpoint_v3.LocalityLbEndpoints(
        locality=base_v3.Locality(region=region, zone=zone, sub_zone=sub_zone) if place else None,
        load_balancing_weight={"value": sum(endpoint.weight for endpoint, _ in unique.values())},
        lb_endpoints=[_lb_endpoint(endpoint, health) for endpoint, health in unique.values()],
    )


def _lb_endpoint(endpoint: Endpoint, healthy: bool) -> endpoint_v3.LbEndpoint:
    message = endpoint_v3.LbEndpoint(
        endpoint=endpoint_v3.Endpoint(address=address(endpoint.address, endpoint.port)),
        health_status=health_check_v3.HEALTHY if healthy else health_check_v3.UNHEALTHY,
        load_balancing_weight={"value": endpoint.weight},
    )
    if endpoint.mtls:
        message.metadata.filter_metadata[_TLS_MATCH].update({"tlsMode": "istio"})
    if endpoint.workload:
        workload = f"{endpoint.workload.name};{endpoint.workload.namespace}"
        message.metadata.filter_metadata["istio"].update({"workload": workload})
    return message

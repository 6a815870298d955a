"""Everything that declares a host -> the endpoints of its ports.

    WorkloadEntries, Pods --selector--\\
    EndpointSlices of a Service -------+--endpoints--> addresses and ports     health is asked apart
    written into a ServiceEntry ------/

All that make up a host give endpoints to it, by the name of the port (`services.parts_of`).
"""

from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.mesh import pods, services, workloads
from isthmus.mesh.model import (
    Endpoint,
    InlineEndpoint,
    Labels,
    MtlsMode,
    Port,
    Resolution,
    Service,
    Workload,
    has_labels,
    labels_of,
)
from isthmus.mesh.policy import mtls_of

UNIX = "unix://"


def endpoints(
    q: Reader, host: str, port_number: int, subset: Labels, sources: tuple[Key, ...] = ()
) -> tuple[Endpoint, ...]:
    """Where a service port can be reached, healthy or not; `subset` narrows by labels.

    `sources` are the objects that make the service up for a caller; without them, those for most callers.
    """
    service = q(services.merged, host, sources) if sources else q(services.service, host)
    port = service.port(port_number) if service else None
    if service is None or port is None:
        return ()
    found: list[Endpoint] = []
    claims = q(services.claims_in, host, service.namespace)
    first = service.source
    others = (key for key in claims if key != first and key.kind == first.kind)
    for part in q(services.parts_of, host, (first, *others)):
        if any(own.name == port.name for own in part.ports):
            found += q(_of_part, part.source, host, port.name)
    if service.resolution.asks_dns and not found and not service.selector and not service.inline:
        # the name itself is what DNS knows
        number = port.target if isinstance(port.target, int) else port.number
        found = [Endpoint(host, number, (), "", False, "", 1, None)]
    if service.resolution is Resolution.DNS_ROUND_ROBIN:
        found = found[:1]
    if not service.resolution.asks_dns:
        found = [e for e in found if _is_reachable(e.address)]
    return tuple(e for e in found if has_labels(e.labels, subset))


def identities(
    q: Reader, host: str, port_number: int, subset: Labels, sources: tuple[Key, ...] = ()
) -> tuple[str, ...]:
    """Who may answer for a service port over mTLS, sorted: the identities of its endpoints."""
    found = {e.identity for e in q(endpoints, host, port_number, subset, sources) if e.mtls and e.identity}
    return tuple(sorted(found))


def all_mtls(q: Reader, host: str, port_number: int, sources: tuple[Key, ...] = ()) -> bool:
    """Whether a proxy is in front of every endpoint, and there is any."""
    found = q(endpoints, host, port_number, (), sources)
    return bool(found) and all(e.mtls for e in found)


def addresses(q: Reader, host: str, sources: tuple[Key, ...] = ()) -> tuple[str, ...]:
    """The addresses of all endpoints of a host, sorted."""
    service = q(services.merged, host, sources) if sources else q(services.service, host)
    found = {
        e.address
        for port in (service.ports if service else ())
        for e in q(endpoints, host, port.number, (), sources)
    }
    return tuple(sorted(found, key=lambda address: (":" in address, address)))


def _of_part(q: Reader, key: Key, host: str, port_name: str) -> tuple[Endpoint, ...]:
    """What one object gives to a host's port of this name."""
    (service,) = q(services.parts_of, host, (key,))
    port = next((p for p in service.ports if p.name == port_name), None)
    if port is None:
        return ()
    known = pods.known_endpoints(q, service, port_name) if key.kind == "Service" else None
    chosen = q(workloads.selected, service.namespace, service.selector)
    found: list[Endpoint] = [_allowed(q, e, service) for e in known or ()]
    for member in chosen:
        if member.kind == workloads.KIND or known is None:
            found += _member(q, member, port, service)
    found += [e for inline in service.inline for e in _inline_member(q, service, port, inline)]
    return tuple(found)


def _member(q: Reader, key: Key, port: Port, service: Service) -> Iterator[Endpoint]:
    found = q(workloads.workload, key)
    number = workloads.target(port, dict(found.ports), pod=key.kind == pods.KIND) if found else None
    if found is not None and number is not None and found.address:
        yield _allowed(q, _endpoint(found, number), service)


def _endpoint(found: Workload, number: int) -> Endpoint:
    address = found.address.removeprefix(UNIX)
    return Endpoint(
        address=address,
        port=0 if found.address.startswith(UNIX) else number,
        labels=topology(found.labels, found.locality, found.network, found.node),
        identity=found.identity,
        mtls=found.mtls,
        locality=found.locality,
        weight=found.weight,
        workload=found.key,
        network=found.network,
        node=found.node,
        ready=found.ready,
    )


def _inline_member(q: Reader, service: Service, port: Port, said: InlineEndpoint) -> Iterator[Endpoint]:
    number = workloads.target(port, dict(said.ports))
    if number is None or not said.address:
        return
    name = workloads.identity(q, service.namespace, said.service_account)
    found = Endpoint(
        address=said.address.removeprefix(UNIX),
        port=0 if said.address.startswith(UNIX) else number,
        labels=topology(said.labels, said.locality, said.network, ""),
        identity=name,
        mtls=bool(name) and workloads.speaks_mtls(said.labels, name),
        locality=said.locality,
        weight=said.weight,
        workload=None,
        network=said.network,
    )
    yield _allowed(q, found, service)


def _allowed(q: Reader, endpoint: Endpoint, service: Service) -> Endpoint:
    """The endpoint as far as its server's rules and its service allow: mutual TLS, readiness."""
    mtls = endpoint.mtls and bool(endpoint.identity) and not service.external
    if mtls:
        mtls = q(mtls_of, service.namespace, endpoint.labels).at(endpoint.port) is not MtlsMode.DISABLE
    ready = endpoint.ready or service.publish_not_ready
    if (mtls, ready) == (endpoint.mtls, endpoint.ready):
        return endpoint
    fields = {name: getattr(endpoint, name) for name in Endpoint.__slots__}
    return Endpoint(**{**fields, "mtls": mtls, "ready": ready})


def topology(labels: Labels, locality: str, network: str, node: str) -> Labels:
    """The labels of a workload with those that say where it runs."""
    region, zone, sub_zone = (*locality.split("/", 2), "", "", "")[:3]
    where = {
        pods.REGION_LABEL: region,
        pods.ZONE_LABEL: zone,
        pods.SUBZONE_LABEL: sub_zone,
        pods.NODE_LABEL: node,
    }
    own = dict(labels)
    if network and not own.get(pods.NETWORK_LABEL):
        where[pods.NETWORK_LABEL] = network
    return labels_of(own, {name: value for name, value in where.items() if value})


def unique(found: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """One endpoint for each address and port of a network: the first."""
    by_place: dict[tuple[str, str, int], Endpoint] = {}
    for endpoint in found:
        by_place.setdefault((endpoint.network, endpoint.address, endpoint.port), endpoint)
    return tuple(by_place.values())


def _is_reachable(address: str) -> bool:
    """Whether Envoy can dial it without asking DNS: an IP address or a Unix socket."""
    if address.startswith(("/", "@")):
        return True
    try:
        ip_address(address)
    except ValueError:
        return False
    return True

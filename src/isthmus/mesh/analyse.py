"""All objects together -> what their authors should know: the mistakes that one object alone cannot show.

Nothing here refuses an object: each of these may be put right by another object that is still to come.
"""

from collections.abc import Collection, Iterator, Mapping

from isthmus.api.meta import Key, Problem
from isthmus.engine import Reader
from isthmus.mesh import (
    analyse_destinations,
    analyse_hosts,
    analyse_policies,
    analyse_proxies,
    endpoints,
    gateways_problems,
    routing_problems,
    scope,
    services,
    workloads,
    world,
)
from isthmus.mesh.model import Protocol, Resolution, Service

KINDS = (
    "Service",
    "ServiceEntry",
    "VirtualService",
    "DestinationRule",
    "Gateway",
    "Sidecar",
    "PeerAuthentication",
    "AuthorizationPolicy",
    "MeshConfig",
)


def problems(q: Reader) -> Mapping[Key, tuple[Problem, ...]]:
    """The problems of every object that has any."""
    found: dict[Key, tuple[Problem, ...]] = {}
    for kind in KINDS:
        for namespace in q(world.namespaces, kind):
            found |= q(_problems_in, namespace, kind)
    # of all proxies together: if each object asked for its own, whatever is about a proxy would be about each
    for key, lost in q(analyse_proxies.losses).items():
        found[key] = (*found.get(key, ()), *lost)
    return found


def rehearsal(q: Reader, keys: Collection[Key]) -> Iterator[None]:
    """Asks for what `problems` is made of about these objects, a little between one yield and the next.

    Small things come first: each of the few questions about everything finds them answered.
    """
    for key in keys:
        if key.kind in services.KINDS:
            q(services.declared_hosts, key)
            q(world.seniority, key)
        elif key.kind == workloads.KIND:
            q(scope.scope_of, key)
        yield
    q(services.declarations)
    yield
    for key in keys:
        for host in q(services.declared_hosts, key) if key.kind in services.KINDS else ():
            q(services.service, host)
            q(scope.called_service, scope.Called(host, key))
        yield
    yield from analyse_proxies.rehearsal(q)
    for key in keys:
        if key.kind in KINDS:
            q(problems_of, key)
        yield


def _problems_in(q: Reader, namespace: str, kind: str) -> Mapping[Key, tuple[Problem, ...]]:
    return {key: own for key in world.keys(q, kind, namespace) if (own := q(problems_of, key))}


def problems_of(q: Reader, key: Key) -> tuple[Problem, ...]:
    """The problems of one object, but for what it loses on proxies to others."""
    match key.kind:
        case "Service" | "ServiceEntry":
            own = (p for service in q(services.declared, key) for p in _of_service(q, service, key))
            return (*own, *q(analyse_proxies.of_service, key))
        case "VirtualService":
            return (*q(routing_problems.problems_of, key), *q(gateways_problems.problems_of_rule, key))
        case "Gateway":
            return q(gateways_problems.problems_of, key)
        case "DestinationRule":
            return q(analyse_destinations.of_destination_rule, key)
        case "Sidecar":
            return q(analyse_proxies.of_sidecar, key)
        case "PeerAuthentication":
            return q(analyse_proxies.of_peer_authentication, key)
        case "AuthorizationPolicy":
            return q(analyse_policies.of_authorization_policy, key)
        case "MeshConfig":
            return q(analyse_proxies.of_mesh_config, key)
    return ()


def _warning(field: str, text: str, hint: str = "") -> Problem:
    return Problem(field, text, hint, "warning")


def _of_service(q: Reader, service: Service, key: Key) -> tuple[Problem, ...]:
    if service.resolution is Resolution.ALIAS:
        return ()
    lost = analyse_hosts.losses(q, service, key)
    found = [problem for _, problem in lost]
    if any(each.port is None for each, _ in lost):
        return tuple(found)
    abroad = analyse_hosts.elsewhere(q, service, key)
    if abroad:
        return (*found, abroad)
    unused = {each.port for each, _ in lost}
    if service.resolution is Resolution.ENDPOINTS:
        for i, port in enumerate(service.ports):
            if port.number not in unused and not q(
                endpoints.endpoints, service.host, port.number, (), (key,)
            ):
                hint = _why_none(q, service)
                found.append(
                    _warning(f"spec.ports[{i}]", f"{service.host}:{port.number} has no endpoints", hint)
                )
    if service.resolution.asks_dns:
        found += _of_names(q, service)
    if any(p.protocol is Protocol.TCP for p in service.ports):
        found += _of_tcp(service)
    return tuple(found)


def _of_names(q: Reader, service: Service) -> list[Problem]:
    """Endpoints with names that only the mesh knows: Envoy asks the name servers that a machine has."""
    found = []
    for i, endpoint in enumerate(service.inline):
        named = q(services.service, endpoint.address.lower())
        if named is not None and named.source.kind == "Service":
            text = f"Envoy asks DNS for {endpoint.address}, which the mesh does not answer to it"
            hint = "route to that service with a VirtualService, or give addresses"
            found.append(_warning(f"spec.endpoints[{i}].address", text, hint))
    return found


def _why_none(q: Reader, service: Service) -> str:
    if not service.selector:
        return "it selects no workloads and lists no endpoints"
    wanted = ", ".join(f"{name}={value}" for name, value in service.selector)
    if q(workloads.selected, service.namespace, service.selector):
        return "the selected workloads name no port for it in their spec.ports"
    return f"no WorkloadEntry in namespace {service.namespace} has the labels {wanted}"


def _of_tcp(service: Service) -> list[Problem]:
    if service.headless or (not service.vips and service.resolution is not Resolution.NONE):
        return [
            _warning(
                "spec",
                f"{service.host} has no virtual address, so callers' TCP connections to it are not captured",
                "leave clusterIP (addresses) out to get one",
            )
        ]
    if any("/" in vip for vip in service.vips):
        return [
            _warning(
                "spec.addresses",
                f"TCP connections to the address ranges of {service.host} pass unchanged",
                "list single addresses for routes and mutual TLS to apply",
            )
        ]
    return []

"""All objects together -> what their authors should know: the mistakes that one object alone cannot show.

Nothing here refuses an object: each of these may be put right by another object that is still to come.
"""

from collections.abc import Mapping

from isthmus.api.meta import Key, Problem
from isthmus.api.networking.destination_rule import DestinationRuleSpec
from isthmus.engine import Reader
from isthmus.mesh import destinations, routing, services, workloads, world
from isthmus.mesh.hosts import covers, most_specific
from isthmus.mesh.model import Protocol, Resolution, Service
from isthmus.mesh.names import resolved_elsewhere

KINDS = ("Service", "ServiceEntry", "VirtualService", "DestinationRule")


def problems(q: Reader) -> Mapping[Key, tuple[Problem, ...]]:
    """The problems of every object that has any."""
    return {key: found for kind in KINDS for key in q(world.all_keys, kind) if (found := q(problems_of, key))}


def problems_of(q: Reader, key: Key) -> tuple[Problem, ...]:
    """The problems of one object."""
    match key.kind:
        case "Service" | "ServiceEntry":
            return tuple(p for service in q(services.declared, key) for p in _of_service(q, service, key))
        case "VirtualService":
            return (*q(routing.usable_routes, key).problems, *q(_of_hosts, key), *q(_of_routes, key))
        case "DestinationRule":
            return q(_of_destination_rule, key)
    return ()


def _warning(field: str, text: str, hint: str = "") -> Problem:
    return Problem(field, text, hint, "warning")


def _of_service(q: Reader, service: Service, key: Key) -> tuple[Problem, ...]:
    winner = q(services.claims_of, service.host)[0]
    if winner != key:
        return (
            _warning(
                "spec.hosts" if key.kind == "ServiceEntry" else "metadata.name",
                f"{service.host} is already declared by {winner}, which counts; this one is not used for it",
                "delete one of the two, or put all ports into one",
            ),
        )
    found: list[Problem] = []
    if service.resolution is Resolution.ENDPOINTS:
        for i, port in enumerate(service.ports):
            if not q(workloads.endpoints, service.host, port.number, ()):
                hint = _why_none(q, service)
                found.append(
                    _warning(f"spec.ports[{i}]", f"{service.host}:{port.number} has no endpoints", hint)
                )
    if any(p.protocol is Protocol.TCP or p.protocol is Protocol.TLS for p in service.ports):
        found += _of_tcp(service)
    return tuple(found)


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
    if resolved_elsewhere(service):
        return [
            _warning(
                "spec.resolution",
                f"callers reach {service.host} at its DNS addresses, outside the mesh",
                "name the target in spec.endpoints under another name than the host",
            )
        ]
    return []


def _of_hosts(q: Reader, key: Key) -> tuple[Problem, ...]:
    found: list[Problem] = []
    for i, host in enumerate(q(routing.hosts_of, key)):
        field = f"spec.hosts[{i}]"
        claims = q(routing.rules_by_host, key.namespace).get(host, ())
        if not any(covers(host, known) for known in q(services.hosts)):
            found.append(_warning(field, f"no service has the host {host}", _near(q, host)))
        elif claims and claims[0] != key:
            hint = "put the rules into one VirtualService"
            found.append(_warning(field, f"{claims[0]} already routes {host} and is older: it counts", hint))
    return tuple(found)


def _of_routes(q: Reader, key: Key) -> tuple[Problem, ...]:
    found: list[Problem] = []
    for field, said in q(routing.destinations, key):
        host = services.resolve(q, said.host, key.namespace)
        service = q(services.service, host)
        if service is None:
            text = f"no service has the host {host}: requests for it are answered with 503"
            found.append(_warning(f"{field}.host", text, _near(q, host)))
            continue
        if said.port and service.port(said.port.number) is None:
            have = ", ".join(str(port.number) for port in service.ports)
            text = f"{host} has no port {said.port.number}"
            found.append(_warning(f"{field}.port.number", text, f"it has {have}" if have else ""))
        rules = q(destinations.rules_for, key.namespace, host)
        names = [subset.name for subset in q(destinations.subsets, rules)]
        if said.subset and said.subset not in names:
            text = f"no DestinationRule defines subset {said.subset} of {host}: requests for it get 503"
            hint = f"defined are {', '.join(names)}" if names else "apply a DestinationRule that defines it"
            found.append(_warning(f"{field}.subset", text, hint))
    return tuple(found)


def _of_destination_rule(q: Reader, key: Key) -> tuple[Problem, ...]:
    spec = world.spec(q, key, DestinationRuleSpec)
    host = q(destinations.host_of, key)
    if spec is None:
        return ()
    matching = [known for known in q(services.hosts) if covers(host, known)]
    if not matching:
        return (_warning("spec.host", f"no service has the host {host}", _near(q, host)),)
    found: list[Problem] = []
    if matching == [host]:
        found += _of_subsets(q, spec, host)
    claims = most_specific(q(destinations.rules_by_host, key.namespace, key.namespace), host) or ()
    if claims and claims[0] != key and spec.traffic_policy:
        text = f"{claims[0]} is older and says the traffic policy of {host}; this one's is not used"
        found.append(_warning("spec.trafficPolicy", text, "put the policy into one DestinationRule"))
    return tuple(found)


def _of_subsets(q: Reader, spec: DestinationRuleSpec, host: str) -> list[Problem]:
    service = q(services.service, host)
    if service is None or service.resolution is not Resolution.ENDPOINTS:
        return []
    found = []
    for i, subset in enumerate(spec.subsets):
        labels = tuple(sorted(subset.labels.items()))
        if not any(q(workloads.endpoints, host, port.number, labels) for port in service.ports):
            wanted = ", ".join(f"{name}={value}" for name, value in labels)
            text = f"no endpoint of {host} has the labels {wanted}: subset {subset.name} is empty"
            found.append(
                _warning(f"spec.subsets[{i}]", text, "compare with the labels of its WorkloadEntries")
            )
    return found


def _near(q: Reader, host: str) -> str:
    """What the author may have meant: a host that begins with the same name."""
    name = host.removeprefix("*.").split(".")[0]
    found = [known for known in q(services.hosts) if known.split(".")[0] == name]
    return f"did you mean {' or '.join(found[:3])}?" if found else ""

"""A VirtualService among all other objects -> what its author should know.

Nothing here refuses it: each of these may be put right by another object that is still to come.
"""

from collections.abc import Iterator

from isthmus.api.meta import Key, Problem
from isthmus.api.networking.virtual_service import Destination, VirtualServiceSpec
from isthmus.engine import Reader
from isthmus.mesh import destinations, routing, services, world
from isthmus.mesh.hosts import covers, exported, most_specific
from isthmus.mesh.model import Service
from isthmus.mesh.routing_delegates import merged
from isthmus.mesh.routing_rules import delegate_rules, delegating, http_rules, resolved
from isthmus.mesh.routing_table import MESH, Caller

_PLAIN_HTTP_PORT = 80


def problems_of(q: Reader, key: Key) -> tuple[Problem, ...]:
    """The problems of one VirtualService."""
    spec = world.spec(q, key, VirtualServiceSpec)
    if spec is None:
        return ()
    if not spec.hosts:
        return (*q(delegate_rules, key).problems, *_of_delegate(q, key), *q(_of_destinations, key))
    return (*q(http_rules, key).problems, *q(_of_hosts, key), *q(_of_destinations, key))


def said_destinations(q: Reader, key: Key) -> tuple[tuple[str, Destination], ...]:
    """Every destination that a VirtualService names, with the path of its field."""
    spec = world.spec(q, key, VirtualServiceSpec)
    return tuple(_said(spec)) if spec else ()


def _said(spec: VirtualServiceSpec) -> Iterator[tuple[str, Destination]]:
    for i, http in enumerate(spec.http):
        for j, target in enumerate(http.route):
            yield f"spec.http[{i}].route[{j}].destination", target.destination
        if http.mirror:
            yield f"spec.http[{i}].mirror", http.mirror
        for j, policy in enumerate(http.mirrors):
            yield f"spec.http[{i}].mirrors[{j}].destination", policy.destination
    for i, tcp in enumerate(spec.tcp):
        for j, to in enumerate(tcp.route):
            yield f"spec.tcp[{i}].route[{j}].destination", to.destination
    for i, tls in enumerate(spec.tls):
        for j, to in enumerate(tls.route):
            yield f"spec.tls[{i}].route[{j}].destination", to.destination


def near(q: Reader, host: str) -> str:
    """What the author may have meant: a host that begins with the same name."""
    name = host.removeprefix("*.").split(".")[0]
    found = [known for known in q(services.hosts) if known.split(".")[0] == name]
    return f"did you mean {' or '.join(found[:3])}?" if found else ""


def _warning(field: str, text: str, hint: str = "") -> Problem:
    return Problem(field, text, hint, "warning")


def _of_hosts(q: Reader, key: Key) -> tuple[Problem, ...]:
    """Hosts that nobody serves, or that an older VirtualService routes already (both for sidecars only)."""
    if MESH not in q(routing.gateways_of, key):
        return ()
    found: list[Problem] = []
    for i, host in enumerate(q(routing.hosts_of, key)):
        field = f"spec.hosts[{i}]"
        claims = q(routing.rules_by_host, key.namespace, MESH).get(host, ())
        if not q(_is_known, host):
            text = f"no service has the host {host}: only requests to port {_PLAIN_HTTP_PORT} are routed"
            found.append(_warning(field, text, q(near, host)))
            continue
        older = claims[: claims.index(key)] if key in claims else ()
        holder, where = q(_holder, key, host, older)
        if holder is not None:
            text = f"{holder} already routes {host}{where} and counts first: its rules hold"
            found.append(_warning(field, text, "put the rules into one VirtualService"))
    return tuple(found)


def _holder(q: Reader, key: Key, host: str, older: tuple[Key, ...]) -> tuple[Key | None, str]:
    """The first of the older rules that leave this one nothing to say, and at which of the host's ports."""
    spec, service = world.spec(q, key, VirtualServiceSpec), q(services.service, host)
    ports = [port.number for port in service.ports if port.protocol.may_be_http] if service else [0]
    caller = Caller(key.namespace)
    taken = {
        port: first
        for port in ports
        if q(routing.has_rules, key, caller, port)
        if (first := next((other for other in older if q(routing.has_rules, other, caller, port)), None))
    }
    if taken:
        lost = [str(port) for port in taken]
        mine = [port for port in ports if q(routing.has_rules, key, caller, port)]
        return next(iter(taken.values())), f":{','.join(lost)}" if len(lost) < len(mine) else ""
    if spec and (spec.tcp or spec.tls):
        for other in older:
            said = world.spec(q, other, VirtualServiceSpec)
            if said and ((said.tcp and spec.tcp) or (said.tls and spec.tls)):
                return other, ""
    return None, ""


def _is_known(q: Reader, host: str) -> bool:
    """Whether some service has a host, or a name that it covers or is covered by."""
    if most_specific(q(services.declarations), host) or q(routing.concrete, host) != host:
        return True
    return host.startswith("*") and any(covers(host, known) for known in q(services.hosts))


def _of_destinations(q: Reader, key: Key) -> tuple[Problem, ...]:
    found: list[Problem] = []
    for field, said in q(said_destinations, key):
        host = q(routing.concrete, q(services.resolve, said.host, key.namespace))
        service = q(services.service, host)
        if service is None:
            text = f"no service has the host {host}: requests for it are answered with 503"
            found.append(_warning(f"{field}.host", text, q(near, host)))
            continue
        found += _of_port(q, key, field, said, service)
        rules = q(destinations.rules_for, key.namespace, host)
        names = [subset.name for subset in q(destinations.subsets, rules)] if said.subset else []
        if said.subset and said.subset not in names:
            text = f"no DestinationRule defines subset {said.subset} of {host}: requests for it get 503"
            hint = f"defined are {', '.join(names)}" if names else "apply a DestinationRule that defines it"
            found.append(_warning(f"{field}.subset", text, hint))
    return tuple(found)


def _of_port(q: Reader, key: Key, field: str, said: Destination, service: Service) -> Iterator[Problem]:
    have = ", ".join(str(port.number) for port in service.ports)
    if said.port:
        if service.port(said.port.number) is None:
            text = f"{service.host} has no port {said.port.number}"
            yield _warning(f"{field}.port.number", text, f"it has {have}" if have else "")
    elif field.startswith("spec.http") and MESH in q(routing.gateways_of, key):
        # sidecars go to the port that the request came to
        for host in q(routing.hosts_of, key):
            routed = q(services.service, host)
            ports = [port.number for port in routed.ports if port.protocol.may_be_http] if routed else []
            lost = next((number for number in ports if service.port(number) is None), None)
            if lost is not None:
                text = (
                    f"requests to {host}:{lost} go to port {lost}, which {service.host} has not: they get 503"
                )
                yield _warning(f"{field}.port", text, f"name the port; it has {have}" if have else "")
                return


def _of_delegate(q: Reader, key: Key) -> Iterator[Problem]:
    """Rules of a delegate that no root takes, because the root's conditions exclude theirs."""
    spec = world.spec(q, key, VirtualServiceSpec)
    roots = q(delegating, key)
    if spec is None or not spec.http:
        return
    if not roots:
        yield _warning("spec.hosts", "no VirtualService delegates to this one", "name hosts, or a delegate")
    for root, i in roots:
        above = world.spec(q, root, VirtualServiceSpec)
        if above is None:
            continue
        if not exported(spec.export_to, key.namespace, root.namespace):
            text = f"{root} delegates to this one, which is not exported to namespace {root.namespace}"
            yield _warning("spec.exportTo", text, f"add {root.namespace}")
            continue
        rule = resolved(q, above.http[i], root.namespace)
        for j, leaf in enumerate(spec.http):
            if leaf.delegate is None and merged(rule, resolved(q, leaf, key.namespace)) is None:
                text = f"asks for what spec.http[{i}] of {root} excludes: the rule is left out there"
                yield _warning(f"spec.http[{j}].match", text, "a delegate may only narrow its root's match")

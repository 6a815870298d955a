"""VirtualServices -> the rules for one host and port.

    host --governing--> the one VirtualService --route_table--> ordered HTTP rules
                                               --tcp_table----> destinations of connections

The most specific host wins, then the oldest object; the first rule that matches wins.
https://istio.io/latest/docs/reference/config/networking/virtual-service/
"""

import re
from collections.abc import Iterable, Mapping

from isthmus.api.meta import Key, Problem
from isthmus.api.networking.virtual_service import Destination as DestinationSpec
from isthmus.api.networking.virtual_service import (
    HTTPMatchRequest,
    HTTPRoute,
    HTTPRouteDestination,
    RouteDestination,
    VirtualServiceSpec,
)
from isthmus.api.shapes import StringMatch
from isthmus.engine import Reader
from isthmus.mesh import services, world
from isthmus.mesh.hosts import exported, most_specific
from isthmus.mesh.model import Destination, HttpRule, Judged, RouteTable, TcpTable

KIND = "VirtualService"
MESH_GATEWAY = "mesh"


def governing(q: Reader, viewer: str, host: str) -> Key | None:
    """The VirtualService that callers in namespace `viewer` obey towards a host."""
    found = most_specific(q(rules_by_host, viewer), host)
    return found[0] if found else None


def rules_by_host(q: Reader, viewer: str) -> Mapping[str, tuple[Key, ...]]:
    """The VirtualServices that `viewer` sees, by host (or wildcard); the one that counts first."""
    found: dict[str, list[Key]] = {}
    for key in sorted(world.all_keys(q, KIND), key=lambda key: q(world.seniority, key)):
        subject = q(_subject, key)
        if subject and exported(subject[1], key.namespace, viewer):
            for host in subject[0]:
                found.setdefault(host, []).append(key)
    return {host: tuple(keys) for host, keys in found.items()}


def hosts_of(q: Reader, key: Key) -> tuple[str, ...]:
    """The hosts (or wildcards) that a VirtualService is about."""
    subject = q(_subject, key)
    return subject[0] if subject else ()


def _subject(q: Reader, key: Key) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    spec = world.spec(q, key, VirtualServiceSpec)
    if spec is None or (spec.gateways and MESH_GATEWAY not in spec.gateways):
        return None
    return tuple(services.resolve(q, host, key.namespace) for host in spec.hosts), spec.export_to


def route_table(q: Reader, rule: Key | None, host: str, port: int) -> RouteTable:
    """The HTTP rules for a host and port under the VirtualService that governs it."""
    spec = world.spec(q, rule, VirtualServiceSpec) if rule else None
    if rule is None or spec is None or not spec.http:
        return RouteTable(host, port, None, ())
    rules: list[HttpRule] = []
    for route in q(usable_routes, rule).value:
        matches = [m for m in route.match if m.port in (None, 0, port)]
        if route.match and not matches:
            continue
        targets = tuple(_http_destination(q, rule, d, port) for d in route.route)
        asked: list[HTTPMatchRequest | None] = [*matches] or [None]
        for match in asked:
            name = ".".join(filter(None, (route.name, match.name if match else "")))
            rules.append(HttpRule(name, match if _asks(match) else None, targets, route))
        if rules[-1].match is None:
            break  # nothing gets past a rule that always holds
    return RouteTable(host, port, tuple(rules), (rule,))


def tcp_table(q: Reader, rule: Key | None, host: str, port: int) -> TcpTable:
    """Where connections to a host and port go under the VirtualService that governs it."""
    spec = world.spec(q, rule, VirtualServiceSpec) if rule else None
    for route in spec.tcp if spec else ():
        if not route.match or any(m.port in (None, 0, port) for m in route.match):
            assert rule is not None
            return TcpTable(tuple(_tcp_destination(q, rule, d, port) for d in route.route), (rule,))
    return TcpTable((Destination(host, port, "", 1),), ())


def destinations(q: Reader, rule: Key) -> tuple[tuple[str, DestinationSpec], ...]:
    """Every destination of a VirtualService with the path of its field."""
    spec = world.spec(q, rule, VirtualServiceSpec)
    if spec is None:
        return ()
    http = [
        (f"spec.http[{i}].route[{j}].destination", target.destination)
        for i, route in enumerate(spec.http)
        for j, target in enumerate(route.route)
    ]
    tcp = [
        (f"spec.tcp[{i}].route[{j}].destination", target.destination)
        for i, tcp_route in enumerate(spec.tcp)
        for j, target in enumerate(tcp_route.route)
    ]
    return (*http, *tcp)


def usable_routes(q: Reader, rule: Key) -> Judged[tuple[HTTPRoute, ...]]:
    """The HTTP rules that Envoy can take; a rule it would refuse is left out, and told.

    Envoy refuses a whole route table for one bad expression in it.
    """
    spec = world.spec(q, rule, VirtualServiceSpec)
    good: list[HTTPRoute] = []
    problems: list[Problem] = []
    for i, route in enumerate(spec.http if spec else ()):
        bad = [
            Problem(f"spec.http[{i}].match[{j}].{field}", reason, "the rule is left out until this is fixed")
            for j, match in enumerate(route.match)
            for field, pattern in _patterns(match)
            if (reason := _unusable(pattern))
        ]
        problems += bad
        if not bad:
            good.append(route)
    return Judged(tuple(good), tuple(problems))


def _asks(match: HTTPMatchRequest | None) -> bool:
    """Whether a match asks anything of the request; a port or a name alone does not."""
    return match is not None and bool(
        match.uri
        or match.scheme
        or match.method
        or match.authority
        or match.headers
        or match.query_params
        or match.without_headers
    )


def _patterns(match: HTTPMatchRequest) -> Iterable[tuple[str, str]]:
    single: dict[str, StringMatch | None] = {
        "uri": match.uri,
        "scheme": match.scheme,
        "method": match.method,
        "authority": match.authority,
    }
    maps = {
        "headers": match.headers,
        "queryParams": match.query_params,
        "withoutHeaders": match.without_headers,
    }
    fields = [(name, value) for name, value in single.items() if value]
    fields += [(f"{name}[{key}]", value) for name, found in maps.items() for key, value in found.items()]
    return [(f"{name}.regex", value.regex) for name, value in fields if value.regex is not None]


_NOT_RE2 = re.compile(r"\(\?(?:[=!>(]|<[=!]|P[=>]|#)|\\[1-9]|(?<!\\)[*+?}]\+")


def _unusable(pattern: str) -> str:
    """Why RE2 would refuse the expression; empty when it would not, as far as can be told here."""
    if not pattern:
        return "the regular expression is empty"
    if _NOT_RE2.search(pattern):
        return f"RE2 has no look-around, back references or possessive repeats: {pattern!r}"
    try:
        re.compile(re.sub(r"\(\?P?<", "(?P<", pattern).replace(r"\z", r"\Z"))
    except re.error as error:
        # classes that RE2 knows and Python does not are let through; Envoy's verdict is reported
        return "" if r"\p" in pattern or r"\Q" in pattern or r"\C" in pattern else f"{error}: {pattern!r}"
    return ""


def _http_destination(q: Reader, rule: Key, said: HTTPRouteDestination, port: int) -> Destination:
    host, number = _place(q, rule, said.destination, port)
    return Destination(host, number, said.destination.subset, said.weight, said.headers)


def _tcp_destination(q: Reader, rule: Key, said: RouteDestination, port: int) -> Destination:
    host, number = _place(q, rule, said.destination, port)
    return Destination(host, number, said.destination.subset, said.weight)


def _place(q: Reader, rule: Key, said: DestinationSpec, port: int) -> tuple[str, int]:
    host = services.resolve(q, said.host, rule.namespace)
    return host, said.port.number if said.port else q(only_port, host) or port


def only_port(q: Reader, host: str) -> int | None:
    """The port of a service that has exactly one."""
    service = q(services.service, host)
    return service.ports[0].number if service and len(service.ports) == 1 else None

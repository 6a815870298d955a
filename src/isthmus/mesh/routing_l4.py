"""VirtualServices -> where connections go that are not opened: `tcp` rules, and `tls` rules by server name.

    the VirtualServices of a host --rules_for--> narrowed to those with such rules
    those + caller + port --tcp_routes, tls_routes--> ordered routes by address (and server name)

Here, unlike with requests, all VirtualServices whose hosts cover the service are asked, in their order.
"""

from collections.abc import Iterable, Iterator

from isthmus.api.meta import Key
from isthmus.api.networking.virtual_service import (
    L4MatchAttributes,
    RouteDestination,
    TLSMatchAttributes,
    VirtualServiceSpec,
)
from isthmus.engine import Reader
from isthmus.mesh import routing, services, world
from isthmus.mesh import scope as scopes
from isthmus.mesh.model import Destination, Scope
from isthmus.mesh.routing_hosts import rules_by_host
from isthmus.mesh.routing_rules import gateways
from isthmus.mesh.routing_table import Caller, L4Route


def rules_for(q: Reader, scope: Scope, way: int, host: str) -> tuple[Key, ...]:
    """The VirtualServices with rules for connections that cover a host, for the callers of one way out."""
    return _in_order(q(_order, scope, way), _covering(q, scope, way, host))


def tcp_routes(
    q: Reader, caller: Caller, rules: tuple[Key, ...], host: str, port: int
) -> tuple[L4Route, ...]:
    """The routes for connections to a host and port; the last one is for the host's own addresses.

    A rule for certain addresses stands before the one for all; what follows a rule for all is never reached.
    """
    found: list[L4Route] = []
    for key in rules:
        spec = world.spec(q, key, VirtualServiceSpec)
        for route in spec.tcp if spec else ():
            fitting = [match for match in route.match if applies(match, key, caller, port)]
            if not route.route or (route.match and not fitting):
                continue
            destinations = targets(q, key, route.route, port)
            subnets: tuple[str, ...] = ()
            if all(match.destination_subnets for match in fitting) and fitting:
                subnets = tuple(net for match in fitting for net in match.destination_subnets)
            found.append(L4Route(destinations, (), subnets, key))
            if not subnets:
                return tuple(found)
    return (*found, L4Route((_itself(q, host, port),)))


def tls_routes(
    q: Reader, caller: Caller, rules: tuple[Key, ...], host: str, port: int
) -> tuple[L4Route, ...]:
    """The routes for TLS connections to a host and port, by the server name that they ask for.

    Without any rule that fits, the one route is to the host itself; no two routes ask for the same.
    """
    found: dict[tuple[tuple[str, ...], tuple[str, ...]], L4Route] = {}
    for key in rules:
        spec = world.spec(q, key, VirtualServiceSpec)
        for route in spec.tls if spec else ():
            for match in route.match if route.route else ():
                if applies(match, key, caller, port):
                    asked = (match.sni_hosts, match.destination_subnets)
                    destinations = targets(q, key, route.route, port)
                    found.setdefault(asked, L4Route(destinations, *asked, key))
    return tuple(found.values()) or (L4Route((_itself(q, host, port),)),)


def applies(match: L4MatchAttributes | TLSMatchAttributes, key: Key, caller: Caller, port: int) -> bool:
    """Whether a match of a VirtualService is about a caller and port, as far as both are known."""
    return (
        match.port in (None, 0, port)
        and (not match.gateways or caller.gateway in gateways(match.gateways, key.namespace))
        and match.source_labels.items() <= dict(caller.labels).items()
        and match.source_namespace in ("", caller.namespace)
    )


def targets(q: Reader, key: Key, said: Iterable[RouteDestination], port: int) -> tuple[Destination, ...]:
    """Destinations of connections; without a port, the host's only port, else the one that was dialled."""
    return tuple(_target(q, key, target, port) for target in said)


def _target(q: Reader, key: Key, said: RouteDestination, port: int) -> Destination:
    host = q(services.destination, said.destination.host, key.namespace)
    number = said.destination.port.number if said.destination.port else q(routing.only_port, host) or port
    return Destination(q(routing.concrete, host), number, said.destination.subset, said.weight)


def _itself(q: Reader, host: str, port: int) -> Destination:
    return Destination(host, q(routing.only_port, host) or port, "", 0)


def _order(q: Reader, scope: Scope, way: int) -> dict[Key, int]:
    """The place of every VirtualService that has rules for connections."""
    rules = q(scopes.egress, scope)[way].rules
    return {key: place for place, key in enumerate(rules) if q(_has_rules, key)}


def _has_rules(q: Reader, key: Key) -> bool:
    spec = world.spec(q, key, VirtualServiceSpec)
    return bool(spec and (spec.tcp or spec.tls))


def _covering(q: Reader, scope: Scope, way: int, host: str) -> Iterator[Key]:
    by_host = q(rules_by_host, scope, way)
    yield from by_host.get(host, ())
    suffix = host.removeprefix("*")
    for cut in range(len(suffix) + 1):
        yield from by_host.get("*" + suffix[cut:], ())
    if host.startswith("*"):
        # names below a wildcard service are its own as well
        yield from (key for name, keys in by_host.items() if name.endswith(suffix) for key in keys)


def _in_order(order: dict[Key, int], keys: Iterable[Key]) -> tuple[Key, ...]:
    return tuple(sorted({key for key in keys if key in order}, key=order.__getitem__))

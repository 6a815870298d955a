"""The plan of an edge + VirtualServices -> listeners with chains: what tells connections, where they go.

    HTTP                        all requests                     -> routes
    TLS opened, HTTPS           server names of the server       -> routes
    TLS opened, TCP             server names of the server       -> `tcp` rules
    PASSTHROUGH                 server names of `tls` rules      -> `tls` rules
    AUTO_PASSTHROUGH            outbound_.<port>_.<subset>_.<host>, mesh callers only -> that cluster

A server that has nowhere to send connections to does not listen. No two chains of a listener mean the same
connections: Envoy would refuse the listener with all its chains, so the later one loses.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from isthmus.api.meta import Key
from isthmus.api.networking.virtual_service import (
    L4MatchAttributes,
    RouteDestination,
    TLSMatchAttributes,
    VirtualServiceSpec,
)
from isthmus.engine import Reader
from isthmus.mesh import destinations, routing, routing_l4, services, world
from isthmus.mesh import scope as scopes
from isthmus.mesh.gateways import Edge
from isthmus.mesh.gateways_plan import Loss, Server, plan
from isthmus.mesh.model import Destination, Protocol, Scope
from isthmus.mesh.routing_rules import gateways as full_names

PARENTS_ANNOTATION = "internal.istio.io/parents"
_TLS_ROUTE = "TLSRoute/"
"""How it begins on a VirtualService that was made of a TLSRoute: its `tls` rules hold for opened TLS, too."""
_BY_FAMILY = {"IPv4": "0.0.0.0", "IPv6": "::"}
WILDCARDS = frozenset(_BY_FAMILY.values())


@dataclass(frozen=True, slots=True)
class Chain:
    """Connections of one kind on a listener, and where they go: by `routes`, else to the destinations."""

    server: Server
    routes: str = ""
    destinations: tuple[Destination, ...] = ()
    sni: tuple[str, ...] = ()
    mesh_callers: bool = False
    """Whether only connections that offer the mesh's own protocols are meant."""
    opened: bool = False
    """Whether TLS is opened."""
    rule: Key | None = None

    @property
    def meant(self) -> frozenset[str]:
        """The server names that tell its connections; `*` for any and none."""
        return frozenset({"*"} if "*" in self.sni else self.sni or {"*"})


@dataclass(frozen=True, slots=True)
class Listener:
    """One listener of an edge."""

    binds: tuple[str, ...]
    port: int
    chains: tuple[Chain, ...]

    @property
    def name(self) -> str:
        """Its name, as Istio spells it."""
        return f"{self.binds[0]}_{self.port}"


@dataclass(frozen=True, slots=True)
class Listeners:
    """All listeners of an edge, by name, and the servers that lost a place."""

    listeners: tuple[Listener, ...]
    losses: tuple[Loss, ...]


def listeners(q: Reader, edge: Edge) -> Listeners:
    """What the gateways of an edge listen to."""
    planned = q(plan, edge.gateways)
    wildcards = tuple(_BY_FAMILY[family] for family in edge.scope.families)
    found: dict[str, Listener] = {}
    losses = list(planned.losses)
    for place in planned.places:
        binds = (place.bind,) if place.bind else wildcards
        first = Listener(binds, place.port, ())
        held = found.get(first.name, first)
        chains = list(held.chains)
        for chain in _chains(q, edge, place.servers, http=place.protocol.is_http):
            _add(chains, chain, losses)
        if chains:
            found[first.name] = replace(held, chains=tuple(chains))
    return Listeners(tuple(found[name] for name in sorted(found)), tuple(losses))


def _add(chains: list[Chain], chain: Chain, losses: list[Loss]) -> None:
    """Adds what of a chain is not taken yet; of a rule's server names, all or none."""
    server = chain.server
    for held in chains:
        taken = held.meant & chain.meant if held.mesh_callers == chain.mesh_callers else frozenset()
        if not taken:
            continue
        text = f"{', '.join(sorted(taken))} is served at port {server.port} already"
        winner = held.rule or held.server.gateway
        losses.append(Loss(chain.rule or server.gateway, None if chain.rule else server.index, winner, text))
        chain = replace(chain, sni=tuple(name for name in chain.sni if name not in taken))
        if chain.rule or not chain.sni:
            return
    chains.append(chain)


def _chains(q: Reader, edge: Edge, servers: tuple[Server, ...], *, http: bool) -> Iterator[Chain]:
    if http:
        yield Chain(servers[0], routes=servers[0].routes)
        return
    for server in servers:
        if server.automatic:
            yield from _automatic(q, edge, server)
        elif server.passes_through:
            yield from _by_name(q, edge, server)
        elif server.protocol is Protocol.HTTPS and server.terminates:
            yield Chain(server, routes=server.routes, sni=server.sni, opened=True)
        else:
            yield from _bytes(q, edge, server)


# TCP

_Rule = tuple[Sequence[L4MatchAttributes | TLSMatchAttributes], Sequence[RouteDestination]]


def _bytes(q: Reader, edge: Edge, server: Server) -> Iterator[Chain]:
    """The one way of a server's connections: the first rule that is about it."""
    for key, spec in _bound_rules(q, edge, server):
        rules: list[_Rule] = [(route.match, route.route) for route in spec.tcp]
        if q(_is_tls_route, key):
            rules += [(route.match, route.route) for route in spec.tls if route.match]
        for matches, targets in rules:
            if targets and (not matches or any(_about(m, key, server) for m in matches)):
                to = routing_l4.targets(q, key, targets, server.number)
                yield Chain(server, destinations=to, sni=server.sni, opened=server.terminates, rule=key)
                return


def _is_tls_route(q: Reader, key: Key) -> bool:
    fact = world.fact(q, key)
    return fact is not None and fact.annotations.get(PARENTS_ANNOTATION, "").startswith(_TLS_ROUTE)


def _bound_rules(q: Reader, edge: Edge, server: Server) -> Iterator[tuple[Key, VirtualServiceSpec]]:
    """The VirtualServices that are bound to a server's Gateway and share a host with the server."""
    for key in q(routing.visible_rules, edge.namespace, server.gateway_name):
        spec = world.spec(q, key, VirtualServiceSpec)
        if spec and (spec.tcp or spec.tls) and _shares(server, key.namespace, q(routing.hosts_of, key)):
            yield key, spec


def _shares(server: Server, namespace: str, hosts: Iterable[str]) -> bool:
    allowed = [h.rpartition("/") for h in server.hosts]
    mine = [host.lower() for place, slash, host in allowed if not slash or place == namespace]
    return any(_overlap(one, other) for one in mine for other in hosts)


def _overlap(one: str, other: str) -> bool:
    return covers(one, other) or covers(other, one)


def covers(wide: str, narrow: str) -> bool:
    """Whether every name that `narrow` means is meant by `wide`."""
    if not wide.startswith("*"):
        return wide == narrow
    return narrow.removeprefix("*").endswith(wide[1:]) and len(narrow) >= len(wide)


def _about(match: L4MatchAttributes | TLSMatchAttributes, key: Key, server: Server) -> bool:
    """Whether a match is about a server: here, only port and gateway count."""
    named = full_names(match.gateways, key.namespace)
    return match.port in (None, 0, server.number) and (not named or server.gateway_name in named)


# TLS that goes on unopened


def _by_name(q: Reader, edge: Edge, server: Server) -> Iterator[Chain]:
    for key, spec in _bound_rules(q, edge, server):
        for route in spec.tls:
            for match in route.match if route.route else ():
                if _about(match, key, server):
                    to = routing_l4.targets(q, key, route.route, server.number)
                    yield Chain(server, destinations=to, sni=tuple(sorted(match.sni_hosts)), rule=key)


def _automatic(q: Reader, edge: Edge, server: Server) -> Iterator[Chain]:
    for to in q(passed, edge.scope, server.sni):
        yield Chain(server, destinations=(to,), sni=(dnat(to),), mesh_callers=True)


def passed(q: Reader, scope: Scope, hosts: tuple[str, ...]) -> tuple[Destination, ...]:
    """What callers from other networks may reach: services of the mesh below these hosts, their subsets."""
    found: list[Destination] = []
    for seen in q(scopes.imported, scope):
        service = q(services.merged, seen.host, seen.sources)
        if service is None or service.external or not any(covers(host, seen.host) for host in hosts):
            continue
        rules = q(destinations.rules_for, scope.namespace, seen.host, scope.labels, service.namespace)
        names = ("", *(subset.name for subset in q(destinations.subsets, rules)))
        for number in seen.ports:
            port = service.port(number)
            if port is not None and port.protocol is not Protocol.UDP:
                found += (Destination(seen.host, number, name, 1) for name in names)
    return tuple(found)


def dnat(to: Destination) -> str:
    """The server name that leads to a destination, which is also its cluster's name at the gateway."""
    return f"outbound_.{to.port}_.{to.subset}_.{to.host}"

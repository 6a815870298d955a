"""What a scope may call -> the listeners that take it: addresses, ports, and who goes where on each.

    Egress x services x ports --plan--> Listener(binds, port, chains)    and who lost a place (`Loss`)

HTTP services share `0.0.0.0_<port>`; TCP services have `<vip>_<port>`, and share the wildcard without an
address of their own. Where two claim one bind: HTTP and TCP are told apart by the first bytes, TLS by server
name, TCP by ranges of addresses; what cannot be told apart belongs to the older service.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import ip_address, ip_network

from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.mesh import endpoints, routing_l4
from isthmus.mesh.model import VIP, VIP_RANGES, Destination, Port, Protocol, Resolution, Scope, Service
from isthmus.mesh.routing_hosts import caller_of
from isthmus.mesh.routing_table import L4Route
from isthmus.mesh.scope import Egress, called_service, egress

RESERVED_PORTS = frozenset({15001, 15006, 15012, 15021, 15090})
"""Ports of the sidecar itself; a service on one of them cannot be captured."""

WILDCARDS = {"IPv4": "0.0.0.0", "IPv6": "::"}
LOOPBACKS = {"IPv4": "127.0.0.1", "IPv6": "::1"}
_RANGES = tuple(ip_network(text) for text in VIP_RANGES)
_JEALOUS = frozenset({Protocol.MONGO, Protocol.MYSQL})
"""Protocols that share a bind with nothing else."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Connections of one kind on a listener: what tells them, and where they go."""

    routes: str = ""
    """The route configuration that requests follow; empty: they are carried as bytes to the destinations."""
    sniffed: bool = False
    """Whether only plaintext HTTP is meant, as the first bytes show."""
    destinations: tuple[Destination, ...] = ()
    sni: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ()
    service: str = ""
    rule: Key | None = None
    """The VirtualService that says so."""
    resolved: tuple[str, ...] = ()
    """Wildcard hosts whose names are resolved when they are called."""
    grpc_web: bool = False
    """Whether some service takes gRPC as browsers speak it."""

    @property
    def takes_all(self) -> bool:
        """Whether nothing tells these connections from others."""
        return not self.sniffed and not self.ranges and (not self.sni or "*" in self.sni)


@dataclass(frozen=True, slots=True)
class Listener:
    """One listener of a scope. `sources` are the objects it was made from."""

    binds: tuple[str, ...]
    port: int
    bound: bool
    chains: tuple[Chain, ...]
    sources: tuple[Key, ...]

    @property
    def name(self) -> str:
        """Its name, as Istio spells it."""
        return f"{self.binds[0]}_{self.port}"


@dataclass(frozen=True, slots=True)
class Loss:
    """A service's port that did not get its place on a listener."""

    loser: Key
    winner: Key
    host: str
    port: int
    listener: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """All listeners of a scope's way out, by name, and who lost."""

    listeners: tuple[Listener, ...]
    losses: tuple[Loss, ...]


@dataclass(slots=True)
class _Entry:
    binds: tuple[str, ...]
    port: int
    bound: bool
    protocol: Protocol
    chains: list[Chain]
    owner: Key
    sources: set[Key]
    locked: bool = False

    def share(self, other: Chain, source: Key) -> None:
        """Takes the requests for one more service."""
        self.sources.add(source)
        self.chains = [
            replace(
                chain,
                resolved=(*chain.resolved, *other.resolved),
                grpc_web=chain.grpc_web or other.grpc_web,
            )
            if chain.routes
            else chain
            for chain in self.chains
        ]


@dataclass(slots=True)
class _Ask:
    """One service's port, looking for its place on the way out of this number."""

    way: int
    service: Service
    port: Port
    binds: tuple[str, ...]
    bound: bool
    ranges: tuple[str, ...] = ()
    chains: list[Chain] = field(default_factory=list)


def plan(q: Reader, scope: Scope) -> Plan:
    """The listeners of a scope's way out."""
    entries: dict[tuple[str, int], _Entry] = {}
    losses: list[Loss] = []
    for number, way in enumerate(q(egress, scope)):
        if way.port is None:
            for entry in entries.values():
                entry.locked = True
        for ask in _asks(q, scope, number, way):
            _place(q, scope, ask, entries, losses)
    found = [
        Listener(e.binds, e.port, e.bound, tuple(e.chains), tuple(sorted(e.sources)))
        for (bind, _), e in entries.items()
        if bind == e.binds[0]
    ]
    return Plan(tuple(sorted(found, key=lambda listener: listener.name)), tuple(losses))


def addresses(service: Service, families: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """The addresses at which callers reach a service: one listener for each group; empty without any.

    Allocated addresses and those of a Service belong together, a ServiceEntry's own each stand alone.
    """
    speaks = tuple(families)
    if service.source.kind != "Service":
        own = tuple((vip,) for vip in service.vips if not _allocated(vip))
        if own:
            return own
    fitting = tuple(vip for vip in service.vips if _family(vip) in speaks) or service.vips[:1]
    return (fitting,) if fitting else ()


def _allocated(vip: str) -> bool:
    return VIP.fullmatch(vip) is not None or _is_in_range(vip)


@lru_cache(maxsize=1 << 17)  # asked for each scope, after each change
def _is_in_range(vip: str) -> bool:
    return "/" not in vip and any(ip_address(vip) in network for network in _RANGES)


def _family(vip: str) -> str:
    return "IPv6" if ":" in vip else "IPv4"


# who asks for what


def _asks(q: Reader, scope: Scope, number: int, way: Egress) -> Iterable[_Ask]:
    fixed: tuple[str, ...] = ()
    if way.bind:
        fixed = (way.bind,)
    elif way.bound:
        fixed = tuple(LOOPBACKS[family] for family in scope.families)
    for called in way.services:
        service = q(called_service, called)
        if service is None or service.resolution is Resolution.ALIAS:
            continue
        for port in (way.port,) if way.port is not None else service.ports:
            if port.protocol is Protocol.UDP or port.number in RESERVED_PORTS:
                continue
            for binds, ranges in ((fixed, ()),) if fixed else _places(q, scope, service, port):
                yield _Ask(number, service, port, binds, way.bound, ranges)
            named = Protocol.HTTP if port.protocol is Protocol.AUTO else port.protocol
            if not fixed and _is_allocated(service) and (named is Protocol.HTTP or named.is_tls):
                # callers who did not ask the mesh for the address are told apart by the host that they name
                wildcards = tuple(WILDCARDS[family] for family in scope.families)
                yield _Ask(number, service, replace(port, protocol=named), wildcards, way.bound)


def _places(
    q: Reader, scope: Scope, service: Service, port: Port
) -> Iterable[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The binds of a service's port, each with the ranges of addresses that are meant on it."""
    wildcards = tuple(WILDCARDS[family] for family in scope.families)
    if port.protocol.is_http:
        yield wildcards, ()
        return
    groups = addresses(service, scope.families)
    for group in groups:
        if any("/" in address for address in group):
            yield wildcards, group
        else:
            yield group, ()
    if groups:
        return
    if service.resolution is not Resolution.NONE:
        yield wildcards, ()
        return
    members = q(endpoints.endpoints, service.host, port.number, (), (service.source,))
    if not members and service.source.kind != "Service" and not service.selector:
        yield wildcards, ()
    for address in dict.fromkeys(member.address for member in members):
        if _is_address(address):
            yield (address,), ()


def _is_allocated(service: Service) -> bool:
    """Whether its only addresses are those that the mesh gave it."""
    own = service.source.kind != "Service" and bool(service.vips)
    return own and all(_allocated(vip) for vip in service.vips)


def _is_dynamic(service: Service) -> bool:
    return service.resolution is Resolution.DYNAMIC and service.host.startswith("*")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


# where they go


def _place(
    q: Reader, scope: Scope, ask: _Ask, entries: dict[tuple[str, int], _Entry], losses: list[Loss]
) -> None:
    held = entries.get((ask.binds[0], ask.port.number))
    if held is not None and held.locked:
        return  # a way out of its own at this port: it alone says what may be called there
    protocol = ask.port.protocol
    on_wildcard = ask.binds[0] == WILDCARDS[scope.families[0]]
    if protocol.is_http:
        if held is not None and not held.protocol.is_tcp:
            # its requests follow the same routes
            held.share(_http_chain(ask, sniffed=False, own=False), ask.service.source)
            return
        sniffed = on_wildcard and protocol is not Protocol.HTTP_PROXY
        ask.chains = [_http_chain(ask, sniffed=sniffed, own=False)]
        protocol = Protocol.AUTO if sniffed else protocol
    elif protocol.is_tcp or (held is not None and held.protocol is Protocol.AUTO):
        ask.chains = list(_byte_chains(q, scope, ask, on_wildcard=on_wildcard))
    else:
        http = _http_chain(ask, sniffed=True, own=not on_wildcard)
        ask.chains = [*_byte_chains(q, scope, ask, on_wildcard=on_wildcard), http]
    if held is None or (ask.port.protocol is Protocol.AUTO and held.protocol.is_http):
        _take(ask, protocol, held, entries, losses)
        return
    if {ask.port.protocol, held.protocol} & _JEALOUS and ask.port.protocol is not held.protocol:
        losses.append(
            _loss(ask.service.source, ask, held, "MySQL and MongoDB share a bind with nothing else")
        )
    elif _merge(ask, held, losses):
        return
    free = tuple(bind for bind in ask.binds if entries.get((bind, ask.port.number)) is not held)
    if free:
        # an address of the other family belongs to nobody, or to somebody else
        _place(q, scope, replace(ask, binds=free), entries, losses)


def _take(
    ask: _Ask,
    protocol: Protocol,
    held: _Entry | None,
    entries: dict[tuple[str, int], _Entry],
    losses: list[Loss],
) -> None:
    """A listener of its own, on the binds that nobody has yet."""
    number, source = ask.port.number, ask.service.source
    if held is not None:
        losses.append(_loss(held.owner, ask, held, "another takes what is not HTTP as well"))
        binds = held.binds
    else:
        binds = tuple(bind for bind in ask.binds if (bind, number) not in entries)
    entry = _Entry(binds, number, ask.bound, protocol, ask.chains, source, {source})
    entries.update({(bind, number): entry for bind in binds})


def _merge(ask: _Ask, held: _Entry, losses: list[Loss]) -> bool:
    """Puts the chains beside those that are there; whether any of them found a place."""
    placed = False
    for chain in ask.chains:
        if any(_clash(existing, chain) for existing in held.chains):
            losses.append(_loss(ask.service.source, ask, held, "nothing tells their connections apart"))
            continue
        held.chains.append(chain)
        held.sources.add(ask.service.source)
        placed = True
    if held.protocol is not ask.port.protocol and not (held.protocol.is_tcp and ask.port.protocol.is_tcp):
        held.protocol = Protocol.AUTO
    return placed


def _loss(loser: Key, ask: _Ask, held: _Entry, reason: str) -> Loss:
    winner = held.owner if loser != held.owner else ask.service.source
    return Loss(loser, winner, ask.service.host, ask.port.number, f"{held.binds[0]}_{held.port}", reason)


def _clash(one: Chain, other: Chain) -> bool:
    """Whether the same connections are meant."""
    return (
        one.sniffed == other.sniffed
        and set(one.sni) - {"*"} == set(other.sni) - {"*"}
        and _networks(one.ranges) == _networks(other.ranges)
    )


def _networks(ranges: Iterable[str]) -> set[str]:
    return {str(ip_network(text, strict=False)) for text in ranges if not text.startswith("0.0.0.0")}


def _http_chain(ask: _Ask, *, sniffed: bool, own: bool) -> Chain:
    number = ask.port.number
    routes = str(number) if number else ask.binds[0]
    return Chain(
        f"{ask.service.host}:{number}" if own else routes,
        sniffed=sniffed,
        service=ask.service.host,
        resolved=(ask.service.host,) if _is_dynamic(ask.service) else (),
        grpc_web=ask.port.protocol is Protocol.GRPC_WEB,
    )


def _byte_chains(q: Reader, scope: Scope, ask: _Ask, *, on_wildcard: bool) -> Iterable[Chain]:
    service, port, ranges = ask.service, ask.port, ask.ranges
    caller, rules = caller_of(scope), q(routing_l4.rules_for, scope, ask.way, service.host)
    if not port.protocol.is_tls:
        for route in q(routing_l4.tcp_routes, caller, rules, service.host, port.number):
            yield _bytes(ask, route, route.subnets or ranges)
        return
    meant: set[tuple[tuple[str, ...], tuple[str, ...]]] = set()
    for route in q(routing_l4.tls_routes, caller, rules, service.host, port.number):
        if route.source:
            # as in Istio, the addresses that one rule asks for hold for the next ones that ask for none; but
            # where these would mean the same connections, Envoy would refuse them all: then for any address
            ranges = route.subnets or ranges
            if (route.sni_hosts, ranges) in meant:
                ranges = ask.ranges
            meant.add((route.sni_hosts, ranges))
            yield _bytes(ask, route, ranges)
        elif ranges or on_wildcard or _is_dynamic(service):
            # on an address of its own the connection is known; elsewhere only the server name tells it
            yield _bytes(ask, replace(route, sni_hosts=(service.host, *service.aliases)), ranges)
        else:
            yield _bytes(ask, route, ())


def _bytes(ask: _Ask, route: L4Route, ranges: tuple[str, ...]) -> Chain:
    return Chain(
        destinations=route.destinations,
        sni=tuple(sorted(route.sni_hosts)),
        ranges=tuple(sorted(ranges)),
        service=ask.service.host,
        rule=route.source,
        resolved=(ask.service.host,) if _is_dynamic(ask.service) and not route.source else (),
    )

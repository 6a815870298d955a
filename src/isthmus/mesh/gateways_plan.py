"""The servers of several Gateways -> one plan: who listens where, and who lost a place (`Loss`).

    plaintext HTTP   share a port, and one route table                 http.<port>
    TLS              share a port, told apart by server name           https.<port>.<name>.<gateway>.<ns>
    anything else    has its port (at one bind) for itself

Gateways are asked in their order: what is there counts, what comes later and does not fit loses its place.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from isthmus.api.meta import Key
from isthmus.api.networking.gateway import GatewaySpec, ServerTLSSettings
from isthmus.api.networking.gateway import Server as ServerSpec
from isthmus.engine import Reader
from isthmus.mesh import protocols, world
from isthmus.mesh.gateways import Bound
from isthmus.mesh.model import Protocol

PASSTHROUGH_MODES = frozenset({"PASSTHROUGH", "AUTO_PASSTHROUGH"})


@dataclass(frozen=True, slots=True)
class Server:
    """One server of a Gateway at one port. `number` is the port it says, `port` the one it listens on."""

    gateway: Key
    index: int
    name: str
    hosts: tuple[str, ...]
    """`namespace/host` for one namespace's rules only, else `host`."""
    number: int
    port: int
    protocol: Protocol
    bind: str
    tls: ServerTLSSettings | None
    routes: str
    """The route configuration that its requests follow; empty where no request is looked at."""

    @property
    def gateway_name(self) -> str:
        """Its Gateway, as VirtualServices call it."""
        return f"{self.gateway.namespace}/{self.gateway.name}"

    @property
    def passes_through(self) -> bool:
        """Whether TLS goes on unopened."""
        return self.tls is not None and self.tls.mode in PASSTHROUGH_MODES

    @property
    def automatic(self) -> bool:
        """Whether the server name itself says where connections go."""
        return self.tls is not None and self.tls.mode == "AUTO_PASSTHROUGH"

    @property
    def terminates(self) -> bool:
        """Whether TLS is opened here (what a redirect to https needs is not TLS)."""
        return self.tls is not None and not self.protocol.is_http and not self.passes_through

    @property
    def takes_requests(self) -> bool:
        """Whether requests are looked at."""
        return self.protocol.is_http or (self.protocol is Protocol.HTTPS and not self.passes_through)

    @property
    def sni(self) -> tuple[str, ...]:
        """The server names that it answers for; none without TLS."""
        if self.tls is None or self.protocol.is_http:
            return ()
        return tuple(sorted({host.rpartition("/")[2].lower() for host in self.hosts}))


@dataclass(frozen=True, slots=True)
class Place:
    """The servers of one kind that share a port and a bind."""

    port: int
    protocol: Protocol
    bind: str
    servers: tuple[Server, ...]


@dataclass(frozen=True, slots=True)
class Loss:
    """A server of a Gateway, or (`index` None) a rule of a VirtualService, that did not get its place."""

    loser: Key
    index: int | None
    winner: Key
    text: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Who listens where; `routes` are the servers behind each route configuration."""

    places: tuple[Place, ...]
    routes: tuple[tuple[str, tuple[Server, ...]], ...]
    losses: tuple[Loss, ...]


_Spot = tuple[int, Protocol, str]
"""Port, protocol, bind."""


@dataclass(slots=True)
class _Merging:
    taken: set[int] = field(default_factory=set)
    plain: dict[int, _Spot] = field(default_factory=dict)
    merged: dict[_Spot, list[Server]] = field(default_factory=dict)
    routes: dict[str, list[Server]] = field(default_factory=dict)
    names: dict[tuple[int, str, str], Key] = field(default_factory=dict)
    """Who has a server name at a port and bind."""
    losses: list[Loss] = field(default_factory=list)


def plan(q: Reader, gateways: tuple[Bound, ...]) -> Plan:
    """The plan of these Gateways together."""
    merging = _Merging()
    for each in gateways:
        for server in q(servers, each):
            _place(merging, server)
    return Plan(
        places=tuple(Place(*spot, tuple(found)) for spot, found in merging.merged.items()),
        routes=tuple((name, tuple(found)) for name, found in sorted(merging.routes.items()) if name),
        losses=tuple(merging.losses),
    )


def servers(q: Reader, said: Bound) -> tuple[Server, ...]:
    """The servers of one Gateway, each as often as it listens."""
    spec = world.spec(q, said.gateway, GatewaySpec)
    return tuple(
        _server(said.gateway, index, server, port)
        for index, server in enumerate(spec.servers if spec else ())
        if server.port is not None
        for port in said.listened(server.port.number)
    )


def _server(gateway: Key, index: int, said: ServerSpec, port: int) -> Server:
    assert said.port is not None
    protocol = protocols.parse(said.port.protocol)
    bind = f".{said.bind}" if said.bind else ""
    passed = said.tls is not None and said.tls.mode in PASSTHROUGH_MODES
    routes = ""
    if protocol.is_http:
        routes = f"http.{port}{bind}"
    elif protocol is Protocol.HTTPS and not passed:
        where = f"{gateway.name}.{gateway.namespace}"
        routes = f"https.{said.port.number}.{said.port.name}.{where}{bind}"
    return Server(
        gateway=gateway,
        index=index,
        name=said.name,
        hosts=tuple(_host(host, gateway.namespace) for host in said.hosts),
        number=said.port.number,
        port=port,
        protocol=protocol,
        bind=said.bind,
        tls=said.tls,
        routes=routes,
    )


def _host(text: str, namespace: str) -> str:
    place, slash, host = text.partition("/")
    if not slash:
        return text
    if place == "*":
        return host
    return f"{namespace if place == '.' else place}/{host}"


# putting them together


def _place(merging: _Merging, server: Server) -> None:
    """Puts a server where it belongs; one that finds no place takes no server name from others either."""
    names = [(server.port, server.bind, host) for host in server.hosts] if server.tls is not None else []
    for port, bind, host in names:
        holder = merging.names.get((port, bind, host))
        if holder is not None:
            where = f" at {bind}" if bind else ""
            _lose(merging, server, holder, f"{host} is served at port {port}{where} already")
            return
    if _is_placed(merging, (server.port, server.protocol, server.bind), server):
        merging.names.update(dict.fromkeys(names, server.gateway))


def _is_placed(merging: _Merging, spot: _Spot, server: Server) -> bool:
    if server.port not in merging.taken:
        merging.taken.add(server.port)
        _found(merging, spot, server)
        return True
    current = merging.plain.get(server.port)
    if current is not None:
        return _is_beside_plain(merging, spot, current, server)
    if server.tls is None or server.protocol.is_http:
        _found(merging, spot, server)
        return True
    if server.takes_requests:
        if server.routes in merging.routes:
            first = merging.routes[server.routes][0].gateway
            _lose(merging, server, first, f"the port name is used twice at port {server.port}")
            return False
        merging.routes[server.routes] = [server]
    merging.merged.setdefault(spot, []).append(server)
    return True


def _is_beside_plain(merging: _Merging, spot: _Spot, current: _Spot, server: Server) -> bool:
    """A port where a server without TLS is already."""
    if spot[2] != current[2]:
        if spot in merging.merged:
            merging.merged[spot].append(server)
            merging.routes.setdefault(server.routes, []).append(server)
        else:
            _found(merging, spot, server)
        return True
    if spot[1].is_http and current[1].is_http:
        merging.merged[current].append(server)
        merging.routes.setdefault(server.routes, []).append(server)
        return True
    first = merging.merged[current][0].gateway
    spoken = f"{spot[1].value.upper()} cannot share it with {current[1].value.upper()}"
    _lose(merging, server, first, f"port {server.port} is taken: {spoken}")
    return False


def _found(merging: _Merging, spot: _Spot, server: Server) -> None:
    """The first server of its kind at a port."""
    if server.tls is None or server.protocol.is_http:
        merging.plain[server.port] = spot
    if server.takes_requests:
        merging.routes[server.routes] = [server]
    merging.merged[spot] = [server]


def _lose(merging: _Merging, server: Server, winner: Key, text: str) -> None:
    merging.losses.append(Loss(server.gateway, server.index, winner, text))


def sni_of(servers_: Iterable[Server]) -> tuple[str, ...]:
    """All server names of some servers, sorted."""
    return tuple(sorted({name for server in servers_ for name in server.sni}))

"""Services, or the Sidecar that a proxy obeys -> the ports that the proxy takes for its workload.

    a Sidecar with `ingress`  its listeners, and nothing else
    otherwise                 the ports that services lead to, and the workload's own `ports`

Of several services on one port the oldest says what is spoken there; the others share it (`conflicts`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from isthmus.api.meta import Key
from isthmus.api.networking.destination_rule import ConnectionPoolSettings
from isthmus.api.networking.gateway import ServerTLSSettings
from isthmus.api.networking.sidecar import IstioIngressListener
from isthmus.engine import Reader
from isthmus.mesh import protocols, proxies, scope, services, workloads, world
from isthmus.mesh.model import InboundPort, Protocol

UNIX = "unix://"


@dataclass(frozen=True, slots=True)
class Served:
    """One port that a proxy takes for its workload."""

    number: int
    protocol: Protocol
    service_port: int
    """The port that callers know it by."""
    sources: tuple[Key, ...]
    binds: tuple[str, ...] = ()
    """Addresses of its own; empty for all of the workload's."""
    bound: bool = False
    """Whether the proxy really listens there, instead of taking what was captured."""
    endpoint: str = ""
    """`host:port`, or a Unix socket, that the workload listens at; empty: the address that was dialled."""
    host: str = ""
    """The service that callers know it by."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A port of a workload on which two services disagree about what is spoken."""

    number: int
    winner: Key
    loser: Key
    said: Protocol
    counts: Protocol


def served(q: Reader, workload: Key) -> tuple[Served, ...]:
    """The ports that a workload's proxy takes, by number."""
    mine = q(scope.scope_of, workload)
    spec = q(scope.sidecar, mine) if mine else None
    if mine is not None and spec is not None and spec.ingress:
        found: dict[int, Served] = {}
        for listener in spec.ingress:
            if listener.port and listener.port.number:
                one = _listened(q, workload, mine.sidecar, listener)
                found.setdefault(one.number, one)
        return tuple(found[number] for number in sorted(found))
    return q(_from_services, workload)


def ingress(q: Reader, workload: Key) -> Mapping[int, IstioIngressListener]:
    """The listeners that the Sidecar of a workload's proxy speaks of, by port."""
    mine = q(scope.scope_of, workload)
    spec = q(scope.sidecar, mine) if mine else None
    return {each.port.number: each for each in reversed(spec.ingress) if each.port} if spec else {}


def tls_at(q: Reader, workload: Key, number: int) -> ServerTLSSettings | None:
    """The TLS that the proxy itself opens on a port, for callers from outside the mesh."""
    listener = q(ingress, workload).get(number)
    return listener.tls if listener else None


def pool_at(q: Reader, workload: Key, number: int) -> ConnectionPoolSettings | None:
    """The limits of connections and requests to a port of the workload."""
    listener = q(ingress, workload).get(number)
    if listener and listener.connection_pool:
        return listener.connection_pool
    mine = q(scope.scope_of, workload)
    spec = q(scope.sidecar, mine) if mine else None
    return spec.inbound_connection_pool if spec else None


def captured_ports(q: Reader, workload: Key) -> tuple[int, ...]:
    """The ports to which callers' connections are captured, sorted: all that anybody knows of."""
    known = {port.number for port in q(workloads.inbound_ports, workload)}
    known.update(one.number for one in q(served, workload) if not one.bound)
    return tuple(sorted(known - {one.number for one in q(served, workload) if one.bound}))


def conflicts(q: Reader, workload: Key) -> tuple[Shared, ...]:
    """The services that do not get their word on a port of the workload."""
    first: dict[int, workloads.Target] = {}
    found: list[Shared] = []
    for target in q(workloads.targets, workload):
        held = first.setdefault(target.number, target)
        if held.source != target.source and held.port.protocol is not target.port.protocol:
            said, counts = target.port.protocol, held.port.protocol
            found.append(Shared(target.number, held.source, target.source, said, counts))
    return tuple(found)


def _from_services(q: Reader, workload: Key) -> tuple[Served, ...]:
    targets: dict[int, workloads.Target] = {}
    for target in q(workloads.targets, workload):
        targets.setdefault(target.number, target)
    localhost = q(world.settings).inbound_localhost
    return tuple(
        _served(q, port, targets.get(port.number), localhost) for port in q(workloads.inbound_ports, workload)
    )


def _served(q: Reader, port: InboundPort, target: workloads.Target | None, localhost: bool) -> Served:
    endpoint = f"127.0.0.1:{port.number}" if localhost else ""
    if target is None:
        return Served(port.number, port.protocol, port.number, port.sources, endpoint=endpoint)
    host = q(services.declared, target.source)[0].host
    protocol, known_as = target.port.protocol, target.port.number
    return Served(port.number, protocol, known_as, port.sources, endpoint=endpoint, host=host)


def _listened(q: Reader, workload: Key, sidecar: Key | None, said: IstioIngressListener) -> Served:
    assert said.port is not None
    proxy = q(proxies.proxy, workload)
    own = proxy.addresses if proxy else ()
    protocol = protocols.parse(said.port.protocol)
    return Served(
        number=said.port.number,
        protocol=protocol.within_tls if said.tls else protocol,
        service_port=said.port.number,
        sources=(sidecar,) if sidecar else (),
        binds=(said.bind,) if said.bind else own[:1],
        bound=said.capture_mode == "NONE",
        endpoint=_endpoint(said.default_endpoint, own),
    )


def _endpoint(said: str, own: tuple[str, ...]) -> str:
    """Where the workload listens, with the wildcards put as an address of its own."""
    if not said or said.startswith(UNIX):
        return said
    host, _, port = said.rpartition(":")
    host = host.strip("[]")
    if host == "0.0.0.0":
        host = next((address for address in own if ":" not in address), "127.0.0.1")
    elif host == "::":
        host = next((address for address in own if ":" in address), "::1")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

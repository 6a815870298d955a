"""Services of a scope -> the listeners that take what a VM's programs send out.

    15001 virtualOutbound (bound) --original destination--> <vip>_<port>     one TCP service
                                                       \\--> 0.0.0.0_<port>   all HTTP services on a port
                                                        \\-> its own chains: nobody claims it

No listener here looks at bytes before it dials: a server that speaks first is never waited for.
"""

from collections.abc import Sequence

from envoy.config.core.v3 import base_pb2 as base_v3
from envoy.config.listener.v3 import listener_components_pb2 as listener_components_v3
from envoy.config.listener.v3 import listener_pb2 as listener_v3

from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.envoy import filters, naming
from isthmus.envoy.message import address, cidr, resource
from isthmus.envoy.resource import LISTENER, Resource
from isthmus.envoy.rules import weights
from isthmus.mesh import routing, services, world
from isthmus.mesh import scope as scopes
from isthmus.mesh.model import VIP_RANGES, Outbound, Protocol, Scope


def virtual_outbound(q: Reader) -> Resource:
    """The listener that captured connections arrive at, and what happens to those that nobody claims."""
    chain, match = listener_components_v3.FilterChain, listener_components_v3.FilterChainMatch
    unclaimed = naming.PASSTHROUGH if q(world.settings).outbound is Outbound.ALLOW_ANY else naming.BLACK_HOLE
    message = _listener(naming.VIRTUAL_OUTBOUND, ("0.0.0.0", "::"), naming.OUTBOUND_PORT)
    message.use_original_dst.value = True
    message.filter_chains.extend(
        (
            # somebody dialled Envoy itself: going on would come back here for ever
            chain(
                name="virtualOutbound-blackhole",
                filter_chain_match=match(destination_port={"value": naming.OUTBOUND_PORT}),
                filters=[filters.tcp(naming.BLACK_HOLE, [(naming.BLACK_HOLE, 1)])],
            ),
            # a virtual address without a service leads nowhere: an answer at once beats a timeout
            chain(
                name="virtualOutbound-unallocated",
                filter_chain_match=match(prefix_ranges=[cidr(text) for text in VIP_RANGES]),
                filters=[filters.tcp(naming.BLACK_HOLE, [(naming.BLACK_HOLE, 1)])],
            ),
        )
    )
    message.default_filter_chain.CopyFrom(
        chain(name="virtualOutbound-catchall-tcp", filters=[filters.tcp(unclaimed, [(unclaimed, 1)])])
    )
    return resource(LISTENER, message.name, message)


def http_listener(q: Reader, scope: Scope, port: int) -> Resource:
    """The listener of all HTTP services on a port."""
    message = _listener(naming.http_listener(port), ("0.0.0.0", "::"), port)
    message.bind_to_port.value = False
    message.filter_chains.add(name=message.name, filters=[filters.outbound_http(port)])
    return resource(LISTENER, message.name, message, q(_http_sources, scope, port))


def _http_sources(q: Reader, scope: Scope, port: int) -> tuple[Key, ...]:
    found = (q(services.service, host) for host in q(scopes.visible_hosts, scope))
    return tuple(
        s.source for s in found if s and any(p.number == port and p.protocol.is_http for p in s.ports)
    )


def tcp_listener(q: Reader, rule: Key | None, host: str, port: int, vips: tuple[str, ...]) -> Resource:
    """The listener of one TCP service on its virtual addresses."""
    table = q(routing.tcp_table, rule, host, port)
    shares = [(naming.outbound(d.host, d.port, d.subset), w) for d, w in weights(table.destinations)]
    message = _listener(naming.tcp_listener(vips[0], port), vips, port)
    message.bind_to_port.value = False
    message.filter_chains.add(name=message.name, filters=[filters.tcp(naming.outbound(host, port), shares)])
    sources = (*q(services.claims_of, host)[:1], *table.sources)
    return resource(LISTENER, message.name, message, sources)


def tcp_claims(q: Reader, scope: Scope) -> tuple[tuple[str, int, tuple[str, ...]], ...]:
    """Which TCP service has which virtual addresses: (host, port, addresses); no address is given twice."""
    taken: set[tuple[str, int]] = set()
    found: list[tuple[str, int, tuple[str, ...]]] = []
    for host in q(scopes.visible_hosts, scope):
        for number, vips in q(tcp_addresses, host):
            free = tuple(vip for vip in vips if (vip, number) not in taken)
            taken.update((vip, number) for vip in free)
            if free:
                found.append((host, number, free))
    return tuple(found)


def tcp_addresses(q: Reader, host: str) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """The TCP ports of a host with the virtual addresses at which callers reach them."""
    service = q(services.service, host)
    if service is None:
        return ()
    vips = tuple(vip for vip in service.vips if "/" not in vip)
    return tuple(
        (port.number, vips)
        for port in service.ports
        if vips and port.protocol in {Protocol.TCP, Protocol.TLS} and port.number not in naming.RESERVED_PORTS
    )


def _listener(name: str, hosts: Sequence[str], port: int) -> listener_v3.Listener:
    first, *others = hosts
    return listener_v3.Listener(
        name=name,
        address=address(first, port),
        additional_addresses=[listener_v3.AdditionalAddress(address=address(host, port)) for host in others],
        traffic_direction=base_v3.OUTBOUND,
    )

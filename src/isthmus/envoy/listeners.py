"""The plan of a scope's way out -> the listeners that take what a VM's programs send.

    15001 virtualOutbound (bound) --original destination--> <vip>_<port>     one TCP service
                                                       \\--> 0.0.0.0_<port>   HTTP, and TCP without an address
                                                        \\-> its own chains: nobody claims it

First bytes are looked at only where they decide: ports that speak TCP never wait for their callers.
"""

from collections.abc import Sequence

from envoy.config.core.v3 import base_pb2 as base_v3
from envoy.config.listener.v3 import listener_components_pb2 as listener_components_v3
from envoy.config.listener.v3 import listener_pb2 as listener_v3

from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.envoy import filters, inspectors, naming
from isthmus.envoy.listeners_tcp import carriage
from isthmus.envoy.message import address, cidr, duration, resource
from isthmus.envoy.resource import LISTENER, Resource
from isthmus.envoy.rules import weights
from isthmus.mesh import scope as scopes
from isthmus.mesh import scope_listeners as planned
from isthmus.mesh import services, world
from isthmus.mesh.model import VIP_RANGES, Outbound, Scope

FilterChain = listener_components_v3.FilterChain
Match = listener_components_v3.FilterChainMatch

PASSTHROUGH_CHAIN = "PassthroughFilterChain"


def virtual_outbound(q: Reader, scope: Scope) -> Resource:
    """The listener that captured connections arrive at, and what happens to those that nobody claims."""
    style = q(filters.manner)
    rest = q(unclaimed, scope)
    hole = filters.tcp(style, naming.BLACK_HOLE, [(naming.BLACK_HOLE, 1)])
    binds = tuple(planned.WILDCARDS[family] for family in scope.families)
    message = _listener(naming.VIRTUAL_OUTBOUND, binds, naming.OUTBOUND_PORT)
    message.use_original_dst.value = True
    message.filter_chains.extend(
        (
            # somebody dialled Envoy itself: going on would come back here for ever
            FilterChain(
                name="virtualOutbound-blackhole",
                filter_chain_match=Match(destination_port={"value": naming.OUTBOUND_PORT}),
                filters=[hole],
            ),
            # a virtual address without a service leads nowhere: an answer at once beats a timeout
            FilterChain(
                name="virtualOutbound-unallocated",
                filter_chain_match=Match(prefix_ranges=[cidr(text) for text in VIP_RANGES]),
                filters=[hole],
            ),
        )
    )
    message.default_filter_chain.CopyFrom(
        FilterChain(name="virtualOutbound-catchall-tcp", filters=[filters.tcp(style, rest, [(rest, 1)])])
    )
    return resource(LISTENER, message.name, message, (scope.sidecar,) if scope.sidecar else ())


def listener(q: Reader, scope: Scope, said: planned.Listener) -> Resource:
    """One listener of a scope's plan; scopes whose callers obey the same rules share it."""
    ways = tuple(
        carriage(q, scope, chain.destinations[0]) if chain.destinations else (filters.Carriage(), ())
        for chain in said.chains
    )
    return q(made, said, ways, q(unclaimed, scope))


def made(
    q: Reader, said: planned.Listener, ways: tuple[tuple[filters.Carriage, tuple[Key, ...]], ...], rest: str
) -> Resource:
    """One listener: how the connections of each chain are carried, and to which cluster those of none go."""
    style = q(filters.manner)
    message = _listener(said.name, said.binds, said.port)
    if not said.bound:
        message.bind_to_port.value = False
    sniffed = any(chain.sniffed for chain in said.chains)
    named = any(chain.sni for chain in said.chains)
    wait = q(world.settings).detection_timeout_s if sniffed else 0.0
    message.listener_filters_timeout.CopyFrom(duration(wait))
    message.continue_on_listener_filters_timeout = True
    message.listener_filters.extend(
        [*([inspectors.tls()] if named else []), *([inspectors.http()] if sniffed else [])]
    )
    for chain, (how, _) in zip(said.chains, ways, strict=True):
        taken = FilterChain(filters=[_chain_filter(style, said, chain, how)])
        if chain.takes_all:
            message.default_filter_chain.CopyFrom(taken)
        else:
            taken.filter_chain_match.CopyFrom(_match(chain))
            message.filter_chains.append(taken)
    if not message.filter_chains:
        message.filter_chains.append(message.default_filter_chain)
        message.ClearField("default_filter_chain")
    elif not message.HasField("default_filter_chain"):
        message.default_filter_chain.CopyFrom(
            FilterChain(name=PASSTHROUGH_CHAIN, filters=[filters.tcp(style, rest, [(rest, 1)])])
        )
    rules = [key for _, keys in ways for key in keys] + [chain.rule for chain in said.chains if chain.rule]
    return resource(LISTENER, message.name, message, (*said.sources, *rules))


def route_names(q: Reader, scope: Scope) -> tuple[str, ...]:
    """The route configurations that a scope's listeners ask for, sorted."""
    chains = (chain for found in q(planned.plan, scope).listeners for chain in found.chains)
    return tuple(sorted({chain.routes for chain in chains if chain.routes}))


def _chain_filter(
    style: filters.Manner, said: planned.Listener, chain: planned.Chain, how: filters.Carriage
) -> filters.Filter:
    if chain.routes:
        return filters.outbound_http(style, f"outbound_{said.name}", chain.routes)
    shares = [(naming.outbound(d.host, d.port, d.subset), w) for d, w in weights(chain.destinations)]
    several = len(shares) > 1 and chain.rule
    prefix = f"{chain.rule.name}.{chain.rule.namespace}" if several and chain.rule else shares[0][0]
    return filters.tcp(style, prefix, shares, how)


def _match(chain: planned.Chain) -> listener_components_v3.FilterChainMatch:
    match = Match(prefix_ranges=[cidr(text) for text in chain.ranges if not text.startswith("0.0.0.0")])
    if "*" not in chain.sni:
        match.server_names.extend(chain.sni)
    if chain.sniffed:
        match.transport_protocol = inspectors.RAW
        match.application_protocols.extend(inspectors.PLAINTEXT_HTTP)
    return match


def unclaimed(q: Reader, scope: Scope) -> str:
    """The cluster that connections go to which no service claims."""
    if q(scopes.outbound_policy, scope) is Outbound.REGISTRY_ONLY:
        return naming.BLACK_HOLE
    proxy = q(scopes.egress_proxy, scope)
    if proxy is None:
        return naming.PASSTHROUGH
    host = services.full_host(q, proxy.host, scope.namespace)
    return naming.outbound(host, proxy.port.number if proxy.port else 0, proxy.subset)


def _listener(name: str, hosts: Sequence[str], port: int) -> listener_v3.Listener:
    first, *others = hosts
    return listener_v3.Listener(
        name=name,
        address=address(first, port),
        additional_addresses=[listener_v3.AdditionalAddress(address=address(host, port)) for host in others],
        traffic_direction=base_v3.OUTBOUND,
    )

"""The plan of a scope's way out -> the listeners that take what a VM's programs send.

    15001 virtualOutbound (bound) --original destination--> <vip>_<port>     one TCP service
                                                       \\--> 0.0.0.0_<port>   HTTP, and TCP without an address
                                                        \\-> its own chains: nobody claims it

First bytes are looked at only where they decide: ports that speak TCP never wait for their callers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from envoy.config.core.v3 import base_pb2 as base_v3
from envoy.config.listener.v3 import listener_components_pb2 as listener_components_v3
from envoy.config.listener.v3 import listener_pb2 as listener_v3

from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.envoy import filters, inspectors, naming
from isthmus.envoy import listeners_dynamic as dynamic
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


@dataclass(frozen=True, slots=True)
class Rest:
    """Where connections go that no service claims."""

    cluster: str
    by_host: bool = False
    """Whether plaintext requests go to where their host is."""


def rest(q: Reader, scope: Scope) -> Rest:
    """Where connections of a scope's programs go that no service claims."""
    outbound = q(scopes.outbound_policy, scope)
    if outbound is Outbound.REGISTRY_ONLY:
        return Rest(naming.BLACK_HOLE)
    by_host = outbound is Outbound.ALLOW_ANY_DYNAMIC_DNS
    proxy = q(scopes.egress_proxy, scope)
    if proxy is None:
        return Rest(naming.PASSTHROUGH, by_host)
    host = services.full_host(q, proxy.host, scope.namespace)
    return Rest(naming.outbound(host, proxy.port.number if proxy.port else 0, proxy.subset), by_host)


def virtual_outbound(q: Reader, scope: Scope) -> Resource:
    """The listener that captured connections arrive at, and what happens to those that nobody claims."""
    style = q(filters.manner)
    others = q(rest, scope)
    hole = _to(style, naming.BLACK_HOLE)
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
    if others.by_host:
        message.listener_filters.append(inspectors.http())
        message.listener_filters_timeout.CopyFrom(duration(q(world.settings).detection_timeout_s))
        message.continue_on_listener_filters_timeout = True
        message.filter_chains.append(_anywhere(style))
    message.default_filter_chain.CopyFrom(
        FilterChain(name="virtualOutbound-catchall-tcp", filters=[_to(style, others.cluster)])
    )
    sources = (*((scope.sidecar,) if scope.sidecar else ()), *q(world.mesh_config))
    return resource(LISTENER, message.name, message, sources)


def _anywhere(style: filters.Manner) -> listener_components_v3.FilterChain:
    """Plaintext requests for hosts that nobody declared, to where those are."""
    return FilterChain(
        name="virtualOutbound-catchall-tcp-http",
        filter_chain_match=Match(application_protocols=inspectors.PLAINTEXT_HTTP),
        filters=[
            filters.outbound_http_to(
                style,
                f"outbound_{naming.VIRTUAL_OUTBOUND}_{dynamic.ANYWHERE_HOST}",
                dynamic.anywhere_host(),
                [dynamic.http_filter(dynamic.ANYWHERE)],
            )
        ],
    )


def listener(q: Reader, scope: Scope, said: planned.Listener) -> Resource:
    """One listener of a scope's plan; scopes whose callers obey the same rules share it."""
    ways = tuple(
        carriage(q, scope, chain.destinations) if chain.destinations else (filters.Carriage(), ())
        for chain in said.chains
    )
    return q(made, said, ways, q(rest, scope))


def made(
    q: Reader,
    said: planned.Listener,
    ways: tuple[tuple[filters.Carriage, tuple[Key, ...]], ...],
    others: Rest,
) -> Resource:
    """One listener: how the connections of each chain are carried, and where those of none go."""
    style = q(filters.manner)
    message = _listener(said.name, said.binds, said.port)
    if not said.bound:
        message.bind_to_port.value = False
    sniffed = any(chain.sniffed for chain in said.chains)
    named = any(chain.sni for chain in said.chains)
    wait = q(world.settings).detection_timeout_s if sniffed or named else 0.0
    message.listener_filters_timeout.CopyFrom(duration(wait))
    message.continue_on_listener_filters_timeout = True
    message.listener_filters.extend(
        [*([inspectors.tls()] if named else []), *([inspectors.http()] if sniffed else [])]
    )
    for chain, (how, _) in zip(said.chains, ways, strict=True):
        taken = FilterChain(filters=_chain_filters(style, said, chain, how, others))
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
            FilterChain(name=PASSTHROUGH_CHAIN, filters=[_to(style, others.cluster)])
        )
    rules = [key for _, keys in ways for key in keys] + [chain.rule for chain in said.chains if chain.rule]
    return resource(LISTENER, message.name, message, (*said.sources, *rules))


def route_names(q: Reader, scope: Scope) -> tuple[str, ...]:
    """The route configurations that a scope's listeners ask for, sorted."""
    chains = (chain for found in q(planned.plan, scope).listeners for chain in found.chains)
    return tuple(sorted({chain.routes for chain in chains if chain.routes}))


def _chain_filters(
    style: filters.Manner,
    said: planned.Listener,
    chain: planned.Chain,
    how: filters.Carriage,
    others: Rest,
) -> list[filters.Filter]:
    if chain.routes:
        hosts = [*chain.resolved, *([dynamic.ANYWHERE] if others.by_host else [])]
        waiting = [dynamic.http_filter(host) for host in hosts]
        if chain.grpc_web:
            waiting.insert(0, filters.grpc_web())
        return [filters.outbound_http(style, f"outbound_{said.name}", chain.routes, waiting)]
    shares = [(naming.outbound(d.host, d.port, d.subset), w) for d, w in weights(chain.destinations)]
    several = len(shares) > 1 and chain.rule
    prefix = f"{chain.rule.name}.{chain.rule.namespace}" if several and chain.rule else shares[0][0]
    waits = [dynamic.sni_filter(host, said.port) for host in chain.resolved]
    return [*waits, filters.tcp(style, prefix, shares, how)]


def _match(chain: planned.Chain) -> listener_components_v3.FilterChainMatch:
    match = Match(prefix_ranges=[cidr(text) for text in chain.ranges if not text.startswith("0.0.0.0")])
    if "*" not in chain.sni:
        match.server_names.extend(chain.sni)
    if chain.sniffed:
        match.transport_protocol = inspectors.RAW
        match.application_protocols.extend(inspectors.PLAINTEXT_HTTP)
    return match


def _to(style: filters.Manner, cluster: str) -> filters.Filter:
    return filters.tcp(style, cluster, [(cluster, 1)])


def _listener(name: str, hosts: Sequence[str], port: int) -> listener_v3.Listener:
    first, *others = hosts
    return listener_v3.Listener(
        name=name,
        address=address(first, port),
        additional_addresses=[listener_v3.AdditionalAddress(address=address(host, port)) for host in others],
        traffic_direction=base_v3.OUTBOUND,
    )

"""A workload's ports and its mTLS mode -> `virtualInbound`, the listener that takes what comes to a VM.

    destination port --> chains of that port (`inbound_chains`)    undeclared ports --> as they were dialled

Envoy picks the chains by destination port first and never looks back, so every chain of a port names the
port, and there is no default chain: a plaintext caller of a STRICT port finds nothing that takes it. Where
TLS is looked for, the control plane's proof is answered.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from envoy.config.core.v3 import base_pb2 as base_v3
from envoy.config.listener.v3 import listener_components_pb2 as listener_components_v3
from envoy.config.listener.v3 import listener_pb2 as listener_v3

from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.envoy import access, filters, inbound_chains, inspectors, naming, tls, tls_server
from isthmus.envoy.access_callers import callers
from isthmus.envoy.inbound_chains import Kind
from isthmus.envoy.message import address, duration, resource
from isthmus.envoy.resource import LISTENER, Resource
from isthmus.identity.spiffe import SpiffeId
from isthmus.mesh import authorization, scope_inbound, world
from isthmus.mesh import scope as scopes
from isthmus.mesh.model import MtlsMode, Protocol, Scope
from isthmus.mesh.policy import server_mtls
from isthmus.mesh.scope_inbound import Served
from isthmus.mesh.scope_listeners import WILDCARDS

FilterChain = listener_components_v3.FilterChain

_HANDSHAKE_S = 15.0
CATCH_ALL_HTTP = "virtualInbound-catchall-http"
_UNKNOWN_HTTP = (inspectors.PLAINTEXT_HTTP, inbound_chains.MESH_HTTP)
"""What a chain asks for where nobody said whether it is HTTP: under STRICT, too, for Envoy ends every
connection of a listener whose inspectors change."""


@dataclass(frozen=True, slots=True)
class _Port:
    """One port with everything that its chains need; number 0 stands for all that nobody declared."""

    number: int
    name: str
    cluster: str
    service_port: int
    protocol: Protocol
    kinds: tuple[Kind, ...]
    blind: bool
    """Whether nothing looks for TLS: a server that speaks first would make callers wait."""

    def chain_name(self, kind: Kind) -> str:
        """The name of a chain, as Istio has it."""
        undeclared = self.cluster == naming.INBOUND_PASSTHROUGH
        return CATCH_ALL_HTTP if undeclared and kind.http else self.name


def inbound_listeners(q: Reader, workload: Key) -> tuple[Resource, ...]:
    """The listeners in front of a workload's ports: `virtualInbound`, and those with a bind of their own."""
    own = tuple(q(bound_inbound, workload, one) for one in q(scope_inbound.served, workload) if one.bound)
    return (q(virtual_inbound, workload), *own)


def virtual_inbound(q: Reader, workload: Key) -> Resource:
    """The listener that captured connections to a workload arrive at."""
    scope = q(scopes.scope_of, workload)
    assert scope is not None, f"{workload} has no proxy"
    binds = tuple(WILDCARDS[family] for family in scope.families)
    mtls = q(server_mtls, workload)
    served = [one for one in q(scope_inbound.served, workload) if not one.bound]
    declared = {one.number for one in q(scope_inbound.served, workload)}
    # a port may have a rule of its own without belonging to a service
    undeclared = [0, *(number for number, _ in mtls.by_port if number not in declared)]
    ports = [_undeclared(number, mtls.mode if number == 0 else mtls.at(number)) for number in undeclared]
    ports += [_declared(q, workload, one, binds[0]) for one in served]
    message = _listener(naming.VIRTUAL_INBOUND, [(bind, naming.INBOUND_PORT) for bind in binds])
    message.filter_chains.append(_black_hole(q(filters.manner)))
    for port in ports:
        message.filter_chains.extend(_chains(q, workload, port))
    message.listener_filters.append(inspectors.original_destination())
    _inspect(q, message)
    sources = [workload, *mtls.sources, *q(_access, workload).sources, *q(world.mesh_config)]
    sources += (s for one in served for s in one.sources)
    return resource(LISTENER, message.name, message, sources)


def bound_inbound(q: Reader, workload: Key, one: Served) -> Resource:
    """The listener of a port that callers dial at the proxy itself."""
    scope = q(scopes.scope_of, workload)
    binds = one.binds or _wildcards(scope)
    port = _declared(q, workload, one, binds[0])
    message = _listener(f"{binds[0]}_{one.number}", [(bind, one.number) for bind in binds])
    message.filter_chains.extend(_chains(q, workload, port))
    _inspect(q, message)
    return resource(LISTENER, message.name, message, (workload, *q(_access, workload).sources, *one.sources))


def provable_ports(q: Reader, workload: Key) -> tuple[int, ...]:
    """The captured ports on which the control plane's proof is answered: those where TLS is looked for."""
    if not q(_is_registered, workload):
        return ()
    served = (one for one in q(scope_inbound.served, workload) if not one.bound)
    return tuple(one.number for one in served if not _declared(q, workload, one, "").blind)


def _wildcards(scope: Scope | None) -> tuple[str, ...]:
    return tuple(WILDCARDS[family] for family in scope.families) if scope else ("0.0.0.0",)


def _declared(q: Reader, workload: Key, one: Served, wildcard: str) -> _Port:
    mode = q(server_mtls, workload).at(one.number)
    opens = mode is MtlsMode.DISABLE and q(scope_inbound.tls_at, workload, one.number) is not None
    kinds = inbound_chains.opened(one.protocol) if opens else inbound_chains.kinds(one.protocol, mode)
    return _Port(
        number=one.number,
        name=f"{one.binds[0] if one.binds else wildcard}_{one.number}",
        cluster=naming.inbound(one.number),
        service_port=one.service_port,
        protocol=one.protocol,
        kinds=kinds,
        blind=mode is MtlsMode.DISABLE and not one.protocol.is_http and not opens,
    )


def _undeclared(number: int, mode: MtlsMode) -> _Port:
    return _Port(
        number=number,
        name=naming.VIRTUAL_INBOUND,
        cluster=naming.INBOUND_PASSTHROUGH,
        service_port=0,
        protocol=Protocol.AUTO,
        kinds=inbound_chains.kinds(Protocol.AUTO, mode),
        blind=mode is MtlsMode.DISABLE,
    )


# chains


def _chains(q: Reader, workload: Key, port: _Port) -> Iterable[listener_components_v3.FilterChain]:
    proven = port.cluster != naming.INBOUND_PASSTHROUGH and not port.blind and q(_is_registered, workload)
    if proven:
        yield _at(port.number, _probe(q, workload, port.number))
    for kind in port.kinds:
        yield _at(port.number, _chain(q, workload, port, kind))
    if proven and not any(kind.transport == inspectors.TLS for kind in port.kinds):
        # looking for the proof must not change what becomes of a caller's TLS
        yield _at(port.number, _chain(q, workload, port, Kind(port.protocol.is_http, inspectors.TLS)))


def _chain(q: Reader, workload: Key, port: _Port, kind: Kind) -> listener_components_v3.FilterChain:
    chain = FilterChain(
        name=port.chain_name(kind),
        filter_chain_match={"transport_protocol": kind.transport, "application_protocols": kind.alpn},
        filters=_requests(q, workload, port, kind) if kind.http else _connections(q, workload, port, kind),
    )
    if kind.mtls:
        chain.transport_socket.CopyFrom(_socket(q, workload, port, kind))
        chain.transport_socket_connect_timeout.CopyFrom(duration(_HANDSHAKE_S))
    return chain


def _requests(q: Reader, workload: Key, port: _Port, kind: Kind) -> list[listener_components_v3.Filter]:
    prefix = port.cluster if port.cluster == naming.INBOUND_PASSTHROUGH else f"inbound_{port.name}"
    to = filters.InboundRoute(
        stat_prefix=prefix,
        cluster=port.cluster,
        service_port=port.service_port,
        retried=port.protocol not in {Protocol.GRPC, Protocol.GRPC_WEB},
    )
    web = [filters.grpc_web()] if port.protocol is Protocol.GRPC_WEB else []
    first = [*access.slots(), *web]
    return [filters.inbound_http(q(filters.manner), to, mtls=kind.mtls, first=first)]


def _connections(q: Reader, workload: Key, port: _Port, kind: Kind) -> list[listener_components_v3.Filter]:
    said = q(_access, workload)
    refused = not kind.mtls and callers(said, port.number) is not None
    # who shows no identity is not let through to a server that might speak first
    cluster = naming.BLACK_HOLE if refused else port.cluster
    carried = filters.inbound_tcp(q(filters.manner), port.cluster, cluster, mtls=kind.mtls)
    return [*access.on_connections(said), carried]


def _access(q: Reader, workload: Key) -> access.Access:
    return q(access.access, q(authorization.enforced, workload))


def _socket(q: Reader, workload: Key, port: _Port, kind: Kind) -> base_v3.TransportSocket:
    said = q(scope_inbound.tls_at, workload, port.number)
    if said is not None and q(server_mtls, workload).at(port.number) is MtlsMode.DISABLE:
        return tls_server.opened(said)
    peers = None if kind.http else callers(q(_access, workload), port.number)
    if peers is None:
        peers = tuple(tls.beginning(f"spiffe://{domain}/") for domain in q(world.settings).trust_domains)
    alpn = tls_server.HTTP_ALPN if kind.http else ()
    return tls.server(peers, alpn, oldest=q(world.settings).min_tls)


def _is_registered(q: Reader, workload: Key) -> bool:
    return world.fact(q, workload) is not None


def _probe(q: Reader, workload: Key, number: int) -> listener_components_v3.FilterChain:
    """What answers the control plane, and nobody else, when it proves that a port leads here."""
    settings = q(world.settings)
    control_plane = SpiffeId(settings.trust_domain, settings.root_namespace, settings.control_plane_account)
    return FilterChain(
        name=f"{naming.PROBE_ALPN}_{number}",
        filter_chain_match={
            "transport_protocol": inspectors.TLS,
            "application_protocols": [naming.PROBE_ALPN],
        },
        filters=[
            filters.answer(naming.PROBE_ALPN, f"{naming.PROBE_ALPN} {workload.namespace}/{workload.name}")
        ],
        transport_socket=tls.server([tls.exactly(str(control_plane))], (naming.PROBE_ALPN,)),
        transport_socket_connect_timeout=duration(_HANDSHAKE_S),
    )


def _black_hole(style: filters.Manner) -> listener_components_v3.FilterChain:
    """Somebody dialled Envoy itself: going on would come back here for ever."""
    return FilterChain(
        name="virtualInbound-blackhole",
        filter_chain_match={"destination_port": {"value": naming.INBOUND_PORT}},
        filters=[filters.tcp(style, naming.BLACK_HOLE, [(naming.BLACK_HOLE, 1)])],
    )


def _at(port: int, chain: listener_components_v3.FilterChain) -> listener_components_v3.FilterChain:
    """The chain, for connections to one port."""
    if port:
        chain.filter_chain_match.destination_port.value = port
    return chain


# the listener around them


def _listener(name: str, addresses: Sequence[tuple[str, int]]) -> listener_v3.Listener:
    first, *others = (address(host, port) for host, port in addresses)
    return listener_v3.Listener(
        name=name,
        address=first,
        additional_addresses=[listener_v3.AdditionalAddress(address=other) for other in others],
        traffic_direction=base_v3.INBOUND,
        continue_on_listener_filters_timeout=True,
    )


def _inspect(q: Reader, message: listener_v3.Listener) -> None:
    """Looks at first bytes where a port's chains ask for it, and nowhere else."""
    for_tls: dict[int, bool] = {}
    for_http: dict[int, bool] = {}
    for chain in message.filter_chains:
        match = chain.filter_chain_match
        port = match.destination_port.value
        for_tls[port] = for_tls.get(port, False) or match.transport_protocol == inspectors.TLS
        asked = tuple(match.application_protocols) in _UNKNOWN_HTTP
        for_http[port] = for_http.get(port, False) or asked
    for looks, inspector in ((for_tls, inspectors.tls), (for_http, inspectors.http)):
        if any(looks.values()):
            # port 0 stands for those that no chain names
            everywhere = looks.get(0, False)
            exceptions = {port for port, wanted in looks.items() if port and wanted is not everywhere}
            message.listener_filters.append(inspector(exceptions, only=not everywhere))
    message.listener_filters_timeout.CopyFrom(duration(q(world.settings).detection_timeout_s))

"""A workload's ports and its mTLS mode -> `virtualInbound`, the listener that takes what comes to a VM.

    port P  STRICT      tls           -> mTLS
            PERMISSIVE  tls + our ALPN -> mTLS   raw -> plaintext   (TCP only: other tls -> as it is)
            DISABLE     anything      -> plaintext (TCP: nothing is looked at)
    other ports: the same three, as bytes.  Where TLS is looked for, the control plane's proof is answered.

Envoy picks the chains by destination port first and never looks back, so every chain of a port names the
port, and there is no default chain: a plaintext caller of a STRICT port finds nothing that takes it.
"""

from collections.abc import Iterable

from envoy.config.core.v3 import base_pb2 as base_v3
from envoy.config.listener.v3 import listener_components_pb2 as listener_components_v3
from envoy.config.listener.v3 import listener_pb2 as listener_v3
from envoy.extensions.filters.listener.original_dst.v3 import original_dst_pb2 as original_dst_v3
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2 as tls_inspector_v3

from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.envoy import filters, naming, tls
from isthmus.envoy.message import address, duration, packed, resource
from isthmus.envoy.resource import LISTENER, Resource
from isthmus.identity.spiffe import SpiffeId
from isthmus.mesh import workloads, world
from isthmus.mesh.model import InboundPort, MeshSettings, MtlsMode, Protocol
from isthmus.mesh.policy import server_mtls

FilterChain = listener_components_v3.FilterChain

_INSPECTION_S = 0.1
"""How long the first bytes are waited for: what a plaintext caller pays where the server speaks first."""
_HANDSHAKE_S = 15.0


def virtual_inbound(q: Reader, workload: Key) -> Resource:
    """The listener in front of a workload's own ports."""
    settings = q(world.settings)
    ports = q(workloads.inbound_ports, workload)
    mtls = q(server_mtls, workload)
    declared = {port.number for port in ports}
    # a port may have a rule of its own without belonging to a service
    extra = [InboundPort(n, Protocol.TCP, ()) for n, _ in mtls.by_port if n not in declared]
    message = listener_v3.Listener(
        name=naming.VIRTUAL_INBOUND,
        address=address("0.0.0.0", naming.INBOUND_PORT),
        additional_addresses=[listener_v3.AdditionalAddress(address=address("::", naming.INBOUND_PORT))],
        traffic_direction=base_v3.INBOUND,
        listener_filters=_listener_filters(
            [port.number for port in (*ports, *extra) if _is_blind(port, mtls.at(port.number))]
        ),
        listener_filters_timeout=duration(_INSPECTION_S),
        continue_on_listener_filters_timeout=True,
    )
    probe = _probe(settings, workload)
    message.filter_chains.append(
        FilterChain(
            name="virtualInbound-blackhole",
            filter_chain_match={"destination_port": {"value": naming.INBOUND_PORT}},
            filters=[filters.tcp(naming.BLACK_HOLE, [(naming.BLACK_HOLE, 1)])],
        )
    )
    for port in (*ports, *extra):
        cluster = naming.inbound(port.number) if port in ports else naming.INBOUND_PASSTHROUGH
        mode = mtls.at(port.number)
        chains = _port_chains(settings, port, cluster, mode)
        message.filter_chains.extend(_at(port.number, chains if _is_blind(port, mode) else [probe, *chains]))
    unnamed = InboundPort(0, Protocol.TCP, ())
    message.filter_chains.extend(
        (probe, *_port_chains(settings, unnamed, naming.INBOUND_PASSTHROUGH, mtls.mode))
    )
    sources = (workload, *mtls.sources, *(source for port in ports for source in port.sources))
    return resource(LISTENER, message.name, message, sources)


def provable_ports(q: Reader, workload: Key) -> tuple[int, ...]:
    """The workload's ports on which the control plane gets an answer to its probe."""
    mtls = q(server_mtls, workload)
    ports = q(workloads.inbound_ports, workload)
    return tuple(port.number for port in ports if not _is_blind(port, mtls.at(port.number)))


def _is_blind(port: InboundPort, mode: MtlsMode) -> bool:
    """Whether nothing looks at a port's first bytes: a server that speaks first would make callers wait."""
    return mode is MtlsMode.DISABLE and not port.protocol.is_http


def _port_chains(
    settings: MeshSettings, port: InboundPort, cluster: str, mode: MtlsMode
) -> list[listener_components_v3.FilterChain]:
    name = f"0.0.0.0_{port.number}" if port.number else naming.VIRTUAL_INBOUND
    open_text = FilterChain(name=name, filters=[_to(port, cluster, mtls=False)])
    if mode is MtlsMode.DISABLE:
        return [open_text]
    mutual = FilterChain(
        name=f"{name}-mtls",
        filter_chain_match={"transport_protocol": "tls"},
        filters=[_to(port, cluster, mtls=True)],
        transport_socket=tls.server(
            [tls.beginning(f"spiffe://{settings.trust_domain}/")],
            ("h2", "http/1.1") if port.protocol.is_http else (),
        ),
        transport_socket_connect_timeout=duration(_HANDSHAKE_S),
    )
    if mode is MtlsMode.STRICT:
        return [mutual]
    mutual.filter_chain_match.application_protocols.extend(tls.MESH_ALPN)
    open_text.filter_chain_match.transport_protocol = "raw_buffer"
    if port.protocol.is_http:
        return [mutual, open_text]
    # somebody else's TLS is the application's own business
    foreign = FilterChain(
        name=f"{name}-tls",
        filter_chain_match={"transport_protocol": "tls"},
        filters=[_to(port, cluster, mtls=False)],
    )
    return [mutual, foreign, open_text]


def _to(port: InboundPort, cluster: str, *, mtls: bool) -> listener_components_v3.Filter:
    if port.protocol.is_http:
        return filters.inbound_http(port.number, mtls=mtls)
    return filters.inbound_tcp(cluster, cluster, mtls=mtls)


def _probe(settings: MeshSettings, workload: Key) -> listener_components_v3.FilterChain:
    """What answers the control plane, and nobody else, when it proves that a port leads here."""
    control_plane = SpiffeId(settings.trust_domain, settings.root_namespace, settings.control_plane_account)
    return FilterChain(
        name=naming.PROBE_ALPN,
        filter_chain_match={
            "transport_protocol": "tls",
            "application_protocols": [naming.PROBE_ALPN],
        },
        filters=[
            filters.answer(naming.PROBE_ALPN, f"{naming.PROBE_ALPN} {workload.namespace}/{workload.name}")
        ],
        transport_socket=tls.server([tls.exactly(str(control_plane))], (naming.PROBE_ALPN,)),
        transport_socket_connect_timeout=duration(_HANDSHAKE_S),
    )


def _at(
    port: int, chains: Iterable[listener_components_v3.FilterChain]
) -> list[listener_components_v3.FilterChain]:
    """The chains, for connections to one port."""
    found = []
    for chain in chains:
        copy = FilterChain()
        copy.CopyFrom(chain)
        copy.filter_chain_match.destination_port.value = port
        if copy.name == naming.PROBE_ALPN:
            copy.name = f"{naming.PROBE_ALPN}_{port}"
        found.append(copy)
    return found


def _listener_filters(blind: list[int]) -> list[listener_components_v3.ListenerFilter]:
    """Original destination, and a look for TLS except on the blind ports."""
    inspector = listener_components_v3.ListenerFilter(
        name="envoy.filters.listener.tls_inspector",
        typed_config=packed(tls_inspector_v3.TlsInspector(initial_read_buffer_size={"value": 512})),
    )
    predicate = listener_components_v3.ListenerFilterChainMatchPredicate
    ranges = [predicate(destination_port_range={"start": p, "end": p + 1}) for p in sorted(blind)]
    if len(ranges) == 1:
        inspector.filter_disabled.CopyFrom(ranges[0])
    elif ranges:
        inspector.filter_disabled.or_match.rules.extend(ranges)
    original = listener_components_v3.ListenerFilter(
        name="envoy.filters.listener.original_dst", typed_config=packed(original_dst_v3.OriginalDst())
    )
    return [original, inspector]

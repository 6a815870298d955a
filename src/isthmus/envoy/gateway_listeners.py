"""The listeners of an edge -> Envoy's: bound to real ports, with what the outside world needs to be told.

Requests come from outside: their address is what Envoy sees (not what they claim), and certificates that they
say they have shown are thrown away.
"""

from dataclasses import replace

from envoy.config.core.v3 import address_pb2 as address_v3
from envoy.config.core.v3 import base_pb2 as base_v3
from envoy.config.listener.v3 import listener_components_pb2 as listener_components_v3
from envoy.config.listener.v3 import listener_pb2 as listener_v3

from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.envoy import access, filters, gateway_tls, inspectors, naming, tls
from isthmus.envoy.access import Access
from isthmus.envoy.filters import Filter, Hcm, Manner
from isthmus.envoy.listeners_tcp import carriage
from isthmus.envoy.message import address, duration, packed, resource
from isthmus.envoy.resource import LISTENER, Resource
from isthmus.envoy.rules import weights
from isthmus.mesh import world
from isthmus.mesh.authorization import Policy
from isthmus.mesh.gateways import Edge
from isthmus.mesh.gateways_listeners import Chain, Listener, dnat, listeners
from isthmus.mesh.model import Front, Protocol, Scope

FilterChain = listener_components_v3.FilterChain

_HANDSHAKE_S = 15.0
"""How long a caller may take for its handshake: one that never ends would hold a connection for nothing."""
_UNIX = "unix://"


def edge_listeners(q: Reader, edge: Edge) -> dict[str, Resource]:
    """The listeners of an edge, by name."""
    found = (q(listener, edge.scope, edge.policies, said) for said in q(listeners, edge).listeners)
    return {made.name: made for made in found}


def listener(q: Reader, scope: Scope, policies: tuple[Policy, ...], said: Listener) -> Resource:
    """One listener."""
    first, *others = (_address(bind, said.port) for bind in said.binds)
    message = listener_v3.Listener(
        name=said.name,
        address=first,
        additional_addresses=[listener_v3.AdditionalAddress(address=other) for other in others],
        traffic_direction=base_v3.OUTBOUND,
    )
    front = q(world.settings).front or Front()
    if front.proxy_protocol:
        message.listener_filters.append(inspectors.proxy_protocol())
    if any(chain.sni or chain.opened for chain in said.chains):
        message.listener_filters.append(inspectors.tls())
    allowed = q(access.access, policies)
    sources: list[Key] = [*allowed.sources]
    for chain in said.chains:
        made, used = _chain(q, scope, allowed, said, chain)
        message.filter_chains.append(made)
        sources += [chain.server.gateway, *([chain.rule] if chain.rule else []), *used]
    return resource(LISTENER, message.name, message, sources)


def _address(bind: str, port: int) -> address_v3.Address:
    if bind.startswith(_UNIX):
        return address_v3.Address(pipe={"path": bind.removeprefix(_UNIX)})
    return address(bind, port)


def _chain(
    q: Reader, scope: Scope, allowed: Access, said: Listener, chain: Chain
) -> tuple[listener_components_v3.FilterChain, tuple[Key, ...]]:
    style = q(filters.manner)
    used: tuple[Key, ...] = ()
    if chain.routes:
        prefix = chain.server.name if chain.opened and chain.server.name else f"outbound_{said.name}"
        front = q(world.settings).front or Front()
        web = chain.server.protocol is Protocol.GRPC_WEB
        end = [requests(style, front, prefix, chain.routes, grpc_web=web)]
    else:
        how, used = carriage(q, scope, chain.destinations)
        end = [*access.on_connections(allowed), _bytes(style, chain, how)]
    made = FilterChain(filters=end, transport_socket_connect_timeout=duration(_HANDSHAKE_S))
    if chain.sni and "*" not in chain.sni:
        made.filter_chain_match.server_names.extend(chain.sni)
    if chain.mesh_callers:
        made.filter_chain_match.application_protocols.extend(tls.MESH_ALPN)
    if chain.opened:
        assert chain.server.tls is not None
        made.transport_socket.CopyFrom(gateway_tls.opened(chain.server.tls, q(world.settings)))
    return made, used


def _bytes(style: Manner, chain: Chain, how: filters.Carriage) -> Filter:
    if chain.mesh_callers:
        name = dnat(chain.destinations[0])
        # encrypted for its destination already: no tunnel's server could be asked for it
        return filters.tcp(style, name, [(name, 1)], replace(how, tunnel=""))
    shares = [(naming.outbound(d.host, d.port, d.subset), w) for d, w in weights(chain.destinations)]
    several = len(shares) > 1 and chain.rule
    prefix = f"{chain.rule.name}.{chain.rule.namespace}" if several and chain.rule else shares[0][0]
    return filters.tcp(style, prefix, shares, how)


def requests(style: Manner, front: Front, stat_prefix: str, routes: str, *, grpc_web: bool = False) -> Filter:
    """Requests from outside, by the route configuration of that name, as far as policies let them through."""
    first = [*access.slots(), *([filters.grpc_web()] if grpc_web else [])]
    found = filters.outbound_http(style, stat_prefix, routes, first=first)
    manager = Hcm.FromString(found.typed_config.value)
    manager.use_remote_address.value = True
    manager.xff_num_trusted_hops = front.trusted_proxies
    manager.forward_client_cert_details = Hcm.ForwardClientCertDetails.Value(front.client_certificates)
    if front.client_certificates in {"APPEND_FORWARD", "SANITIZE_SET"}:
        manager.set_current_client_cert_details.CopyFrom(
            Hcm.SetCurrentClientCertDetails(subject={"value": True}, cert=True, dns=True, uri=True)
        )
    found.typed_config.CopyFrom(packed(manager))
    return found

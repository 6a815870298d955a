"""Policy of the scope, annotations of the workload -> which connections its machine gives to Envoy.

    prefixes   what the mesh needs: virtual addresses, addresses of services           (mesh.names)
    wide       everything, where calls that no service claims are not just let through; or what people say
    ports      of services of which nobody knows an address; or what people say
    inbound    the ports that the workload serves; or what people say

Under REGISTRY_ONLY a call must not get round Envoy, so that everything is captured, as in a pod. The
addresses of `*.example.com` are known to callers' DNS alone: its ports are captured wherever they lead.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from isthmus.api.capture import EVERY_PORT, EVERYWHERE, CaptureWish, wish
from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.mesh import names, scope_inbound, world
from isthmus.mesh import scope as scopes
from isthmus.mesh.model import Outbound, Protocol, Scope
from isthmus.mesh.scope_listeners import RESERVED_PORTS


@dataclass(frozen=True, slots=True)
class OutboundCapture:
    """What leaves a machine through Envoy."""

    prefixes: tuple[str, ...]
    wide: tuple[str, ...]
    """CIDRs that are captured but for what the machine itself needs: its own addresses, DNS, its agent."""
    ports: tuple[int, ...]
    """Ports that are captured wherever they lead, with the same exceptions."""
    exempt: tuple[str, ...]
    exempt_ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class InboundCapture:
    """What comes to a machine through Envoy: these ports, or (`every`) all but those that are exempt."""

    ports: tuple[int, ...]
    every: bool
    exempt: tuple[int, ...]


def outbound_capture(q: Reader, workload: Key, scope: Scope) -> OutboundCapture:
    """What a workload's machine captures on the way out."""
    said = q(_wish, workload)
    wide = q(_by_policy, scope) if said.ranges is None else said.ranges
    open_ports = q(_unaddressed_ports, scope) if said.ranges is None and not wide else ()
    return OutboundCapture(
        prefixes=q(names.capture_prefixes, scope),
        wide=wide,
        ports=tuple(sorted({*said.ports, *open_ports})),
        exempt=said.exempt_ranges,
        exempt_ports=said.exempt_ports,
    )


def inbound_capture(q: Reader, workload: Key) -> InboundCapture:
    """What a workload's machine captures on the way in."""
    said = q(_wish, workload)
    if said.inbound is not None and EVERY_PORT not in said.inbound:
        return InboundCapture(tuple(sorted(said.inbound)), every=False, exempt=())
    known = q(scope_inbound.captured_ports, workload)
    ports = tuple(port for port in known if port not in said.inbound_exempt)
    return InboundCapture(ports, every=said.inbound is not None, exempt=said.inbound_exempt)


def _wish(q: Reader, workload: Key) -> CaptureWish:
    return wish(q(_annotations, workload))


def _annotations(q: Reader, workload: Key) -> Mapping[str, str]:
    fact = world.fact(q, workload)
    return fact.annotations if fact else {}


def _by_policy(q: Reader, scope: Scope) -> tuple[str, ...]:
    """Everything, where what becomes of a call that no service claims is Envoy's to decide."""
    let_through = q(scopes.outbound_policy, scope) is Outbound.ALLOW_ANY
    return () if let_through and q(scopes.egress_proxy, scope) is None else EVERYWHERE


def _unaddressed_ports(q: Reader, scope: Scope) -> tuple[int, ...]:
    """The ports of what may be called at addresses that nobody has told the mesh."""
    found: set[int] = set()
    for way in q(scopes.egress, scope):
        if way.bound or way.bind:
            continue  # its callers dial a listener
        for called in way.services:
            service = q(scopes.called_service, called)
            if service is not None and q(names.is_unaddressed, called.host, (called.source,)):
                ports = (way.port,) if way.port is not None else service.ports
                found.update(port.number for port in ports if port.protocol is not Protocol.UDP)
    return tuple(sorted(found - RESERVED_PORTS))

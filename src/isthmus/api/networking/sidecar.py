"""Sidecar: which ports a workload's proxy takes, and which hosts it may call.

https://istio.io/latest/docs/reference/config/networking/sidecar/
"""

from typing import Annotated, Literal

from isthmus.api.meta import Model, Refused
from isthmus.api.networking.destination_rule import ConnectionPoolSettings
from isthmus.api.networking.gateway import ServerTLSSettings
from isthmus.api.networking.virtual_service import Destination
from isthmus.api.shapes import UInt32, WorkloadSelector

CaptureMode = Literal["DEFAULT", "IPTABLES", "NONE"]


_OF_GATEWAYS = Refused(
    "for gateways only; name files instead",
    below=("httpsRedirect", "credentialName", "credentialNames", "tlsCertificates", "subjectAltNames"),
)


class SidecarPort(Model):
    """A port of the proxy."""

    number: UInt32 = 0
    """Port number; 0 with a Unix socket in `bind`."""
    protocol: str = ""
    """HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP, TLS, …; TCP when left out."""
    name: str = ""
    """Name of the port."""
    target_port: Annotated[UInt32, Refused("as in Istio, where it never had an effect")] = 0
    """Port of an endpoint."""


class IstioIngressListener(Model):
    """A port that is served by the workload."""

    port: SidecarPort | None = None
    """The port on which callers come."""
    bind: str = ""
    """Address on which callers come; the workload's own when left out."""
    capture_mode: CaptureMode = "DEFAULT"
    """Whether connections are captured on their way, or made to the proxy."""
    default_endpoint: str = ""
    """Where the workload listens: `127.0.0.1:port`, `0.0.0.0:port` (or IPv6), or a Unix socket."""
    tls: Annotated[ServerTLSSettings | None, _OF_GATEWAYS] = None
    """TLS that the proxy opens for callers from outside the mesh; needs mutual TLS off for the port."""
    connection_pool: ConnectionPoolSettings | None = None
    """Limits of connections and requests to this port of the workload."""


class IstioEgressListener(Model):
    """Hosts that the workload may call, at one port or at all others."""

    port: SidecarPort | None = None
    """The port on which the workload calls; without it all that no other listener names."""
    bind: str = ""
    """Address or Unix socket on which the workload calls."""
    capture_mode: CaptureMode = "DEFAULT"
    """Whether connections are captured on their way, or made to the proxy."""
    hosts: tuple[str, ...] = ()
    """Hosts as `namespace/dnsName`; namespace may be `*`, `.` or begin with `~` (not)."""


class OutboundTrafficPolicy(Model):
    """What happens to calls of hosts that nobody declared."""

    mode: Literal["REGISTRY_ONLY", "ALLOW_ANY"] = "REGISTRY_ONLY"
    """Whether they are dropped or let through."""
    egress_proxy: Destination | None = None
    """Where they are sent instead of to their own address; with ALLOW_ANY only."""


class SidecarSpec(Model):
    """Spec of a Sidecar."""

    workload_selector: WorkloadSelector | None = None
    """Workloads of the namespace whose proxy this is about; all of them when left out."""
    ingress: tuple[IstioIngressListener, ...] = ()
    """Ports that the workload serves; those of the services that select it when left out."""
    egress: tuple[IstioEgressListener, ...] = ()
    """Hosts that the workload may call; all visible ones when left out."""
    inbound_connection_pool: ConnectionPoolSettings | None = None
    """Limits of connections and requests to the workload."""
    outbound_traffic_policy: OutboundTrafficPolicy | None = None
    """What happens to calls of hosts that nobody declared; the mesh's setting when left out."""

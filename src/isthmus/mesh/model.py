"""The mesh in its own words: services, ports, endpoints, workloads, routes. No YAML, no Envoy.

Everything here is a frozen value, so that the engine can compare answers and stop where nothing changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from isthmus.api.meta import Key, Problem
from isthmus.api.networking.virtual_service import Headers, HTTPMatchRequest, HTTPRoute

T = TypeVar("T")

VIP_RANGES = ("240.240.0.0/16", "2001:2::/48")
"""Where automatically allocated virtual addresses come from."""

TLS_MODE_LABEL = "security.istio.io/tlsMode"


class Protocol(Enum):
    """What a port speaks, as far as it changes configuration. TLS is opaque: it is not terminated."""

    HTTP = "http"
    HTTP2 = "http2"
    GRPC = "grpc"
    TLS = "tls"
    TCP = "tcp"
    UDP = "udp"

    @property
    def is_http(self) -> bool:
        """Whether requests can be told apart."""
        return self in {Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC}

    @property
    def is_http2(self) -> bool:
        """Whether requests travel as HTTP/2 only."""
        return self in {Protocol.HTTP2, Protocol.GRPC}


class Resolution(Enum):
    """How the endpoints of a service are found."""

    ENDPOINTS = "endpoints"
    """The control plane knows them."""
    DNS = "dns"
    """Envoy asks DNS."""
    NONE = "none"
    """The address that the caller dialled is the endpoint."""


class MtlsMode(Enum):
    """What a server's proxy takes."""

    DISABLE = "DISABLE"
    PERMISSIVE = "PERMISSIVE"
    STRICT = "STRICT"


class Outbound(Enum):
    """What happens to captured traffic that no service claims."""

    ALLOW_ANY = "ALLOW_ANY"
    REGISTRY_ONLY = "REGISTRY_ONLY"


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """Settings that every proxy shares; the input `("mesh",)`."""

    trust_domain: str = "cluster.local"
    dns_domain: str = "cluster.local"
    root_namespace: str = "isthmus-system"
    control_plane_account: str = "isthmus"
    outbound: Outbound = Outbound.ALLOW_ANY


@dataclass(frozen=True, slots=True)
class Judged(Generic[T]):
    """A value with what its author should know: a bad part loses itself, not its neighbours."""

    value: T
    problems: tuple[Problem, ...] = ()


Labels = tuple[tuple[str, str], ...]
"""Labels as a sorted, hashable value."""


@dataclass(frozen=True, slots=True)
class Port:
    """One port of a service. `target` is a number or the name of a port of the workload."""

    number: int
    name: str
    protocol: Protocol
    target: int | str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a service port can be reached. Health is asked apart, so that it touches nothing else.

    `address` is an IP address, or a DNS name where the service's resolution is DNS.
    `workload` is the WorkloadEntry it comes from; None when it was written into the ServiceEntry.
    """

    address: str
    port: int
    labels: Labels
    identity: str
    """The SPIFFE id it must prove; empty when it has none."""
    mtls: bool
    locality: str
    weight: int
    workload: Key | None


@dataclass(frozen=True, slots=True)
class InlineEndpoint:
    """An endpoint written into a ServiceEntry."""

    address: str
    ports: tuple[tuple[str, int], ...]
    labels: Labels
    service_account: str
    locality: str
    weight: int


@dataclass(frozen=True, slots=True)
class Service:
    """One host that callers can name. `selector` chooses workloads of `namespace`; empty chooses none."""

    host: str
    namespace: str
    ports: tuple[Port, ...]
    vips: tuple[str, ...]
    """Virtual addresses (and CIDR ranges), IPv4 first."""
    external: bool
    resolution: Resolution
    selector: Labels
    inline: tuple[InlineEndpoint, ...]
    export_to: tuple[str, ...]
    subject_alt_names: tuple[str, ...]
    headless: bool
    source: Key

    def port(self, number: int) -> Port | None:
        """The port of that number."""
        return next((port for port in self.ports if port.number == number), None)


@dataclass(frozen=True, slots=True)
class Workload:
    """One WorkloadEntry: a machine with an address, labels, ports and an identity."""

    key: Key
    address: str
    labels: Labels
    ports: tuple[tuple[str, int], ...]
    service_account: str
    identity: str
    mtls: bool
    locality: str
    weight: int


@dataclass(frozen=True, slots=True)
class InboundPort:
    """A port on which a workload serves the mesh, and the objects that say so."""

    number: int
    protocol: Protocol
    sources: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class ServerMtls:
    """What a workload's proxy takes: by port where a rule says so, else `mode`."""

    mode: MtlsMode
    by_port: tuple[tuple[int, MtlsMode], ...] = ()
    sources: tuple[Key, ...] = ()

    def at(self, port: int) -> MtlsMode:
        """The mode of one port of the workload."""
        return dict(self.by_port).get(port, self.mode)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a share of the traffic goes."""

    host: str
    port: int
    subset: str
    weight: int
    headers: Headers | None = None


@dataclass(frozen=True, slots=True)
class HttpRule:
    """One rule for requests: the first whose `match` holds wins (None holds always).

    `actions` is the VirtualService's own rule: timeout, retries, faults, redirect, rewrite, headers.
    """

    name: str
    match: HTTPMatchRequest | None
    destinations: tuple[Destination, ...]
    actions: HTTPRoute


@dataclass(frozen=True, slots=True)
class RouteTable:
    """The ordered rules for one host and port; without rules, everything goes to the host itself."""

    host: str
    port: int
    rules: tuple[HttpRule, ...] | None
    sources: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class TcpTable:
    """Where connections to one host and port go."""

    destinations: tuple[Destination, ...]
    sources: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Subset:
    """A named part of a host's endpoints."""

    name: str
    labels: Labels


@dataclass(frozen=True, slots=True)
class Scope:
    """The proxies that see the same outbound configuration: those of one namespace."""

    namespace: str


def labels_of(*maps: Mapping[str, str]) -> Labels:
    """The maps as one sorted value; later maps win."""
    merged: dict[str, str] = {}
    for labels in maps:
        merged.update(labels)
    return tuple(sorted(merged.items()))


def has_labels(labels: Labels, wanted: Labels) -> bool:
    """Whether all wanted labels are among the labels."""
    return set(wanted) <= set(labels)

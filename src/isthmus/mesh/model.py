"""The mesh in its own words: services, ports, endpoints, workloads, routes. No YAML, no Envoy.

Everything here is a frozen value, so that the engine can compare answers and stop where nothing changed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from isthmus.api.meta import Key, Problem
from isthmus.api.networking.destination_rule import TcpKeepalive
from isthmus.api.networking.load_balancing import LocalityLoadBalancerSetting
from isthmus.api.networking.virtual_service import Headers, HTTPRetry

T = TypeVar("T")

VIP_RANGES = ("240.240.0.0/16", "2001:2::/48")
"""Where automatically allocated virtual addresses come from."""
VIP = re.compile(
    r"240\.240(\.(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])){2}|2001:2::[1-9a-f][0-9a-f]{0,3}"
)
"""A virtual address in the spelling in which it is given: nothing else is to be found out of these."""

TLS_MODE_LABEL = "security.istio.io/tlsMode"


class Protocol(Enum):
    """What a port speaks, as far as it changes configuration. TLS and HTTPS are not opened on their way."""

    HTTP = "http"
    HTTP2 = "http2"
    GRPC = "grpc"
    GRPC_WEB = "grpc-web"
    HTTP_PROXY = "http_proxy"
    """Requests that name their destination themselves, as to a forward proxy."""
    HTTPS = "https"
    TLS = "tls"
    TCP = "tcp"
    MONGO = "mongo"
    MYSQL = "mysql"
    REDIS = "redis"
    UDP = "udp"
    AUTO = "auto"
    """Nobody said: the first bytes tell."""

    @property
    def is_http(self) -> bool:
        """Whether requests can be told apart."""
        return self in _HTTP

    @property
    def is_http2(self) -> bool:
        """Whether requests travel as HTTP/2 only."""
        return self in _HTTP2

    @property
    def is_tls(self) -> bool:
        """Whether connections begin with TLS that belongs to the programs at both ends."""
        return self in _TLS

    @property
    def is_tcp(self) -> bool:
        """Whether connections are carried as bytes."""
        return self in _TCP

    @property
    def may_be_http(self) -> bool:
        """Whether requests may be found in it."""
        return self.is_http or self is Protocol.AUTO

    @property
    def within_tls(self) -> "Protocol":
        """What is spoken when the proxy itself opens the TLS."""
        return {Protocol.HTTPS: Protocol.HTTP, Protocol.TLS: Protocol.TCP}.get(self, self)


_HTTP2 = frozenset({Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB})
_HTTP = _HTTP2 | {Protocol.HTTP, Protocol.HTTP_PROXY}
_TLS = frozenset({Protocol.HTTPS, Protocol.TLS})
_TCP = _TLS | {Protocol.TCP, Protocol.MONGO, Protocol.MYSQL, Protocol.REDIS}


class Resolution(Enum):
    """How the endpoints of a service are found."""

    ENDPOINTS = "endpoints"
    """The control plane knows them."""
    DNS = "dns"
    """Envoy asks DNS, and every address that it gets is an endpoint."""
    DNS_ROUND_ROBIN = "dns-round-robin"
    """Envoy asks DNS whenever it connects; the addresses together are one endpoint."""
    DYNAMIC = "dynamic"
    """Envoy asks DNS for the name that each request carries."""
    NONE = "none"
    """The address that the caller dialled is the endpoint."""
    ALIAS = "alias"
    """Another name for a host; it has no endpoints of its own."""

    @property
    def asks_dns(self) -> bool:
        """Whether Envoy asks DNS for addresses that the control plane knows the names of."""
        return self in {Resolution.DNS, Resolution.DNS_ROUND_ROBIN}


class MtlsMode(Enum):
    """What a server's proxy takes."""

    DISABLE = "DISABLE"
    PERMISSIVE = "PERMISSIVE"
    STRICT = "STRICT"


class Outbound(Enum):
    """What happens to captured traffic that no service claims."""

    ALLOW_ANY = "ALLOW_ANY"
    ALLOW_ANY_DYNAMIC_DNS = "ALLOW_ANY_DYNAMIC_DNS"
    """Like ALLOW_ANY; plaintext requests go to where their host is, not to the address that was dialled."""
    REGISTRY_ONLY = "REGISTRY_ONLY"


@dataclass(frozen=True, slots=True)
class Network:
    """Machines that can dial each other: address and port of its gateways, ranges of its addresses."""

    gateways: tuple[tuple[str, int], ...] = ()
    ranges: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Front:
    """What stands in front of gateways: believed proxies, and what is passed on of callers."""

    trusted_proxies: int = 0
    client_certificates: str = "SANITIZE_SET"
    """What becomes of x-forwarded-client-cert, in Envoy's words."""
    proxy_protocol: bool = False


PLACES_COUNT = LocalityLoadBalancerSetting(enabled=True)


@dataclass(frozen=True, slots=True)
class MeshSettings:
    """Settings that every proxy shares; the input `("mesh",)`."""

    trust_domain: str = "cluster.local"
    dns_domain: str = "cluster.local"
    root_namespace: str = "isthmus-system"
    control_plane_account: str = "isthmus"
    outbound: Outbound = Outbound.ALLOW_ANY
    trust_domain_aliases: tuple[str, ...] = ()
    inbound_localhost: bool = False
    """Whether proxies dial their own workload at the loopback address."""
    detection_timeout_s: float = 0.1
    """How long first bytes are waited for where they tell the protocol."""
    auto_mtls: bool = True
    locality: LocalityLoadBalancerSetting | None = PLACES_COUNT
    """Places count wherever outliers are watched, unless somebody says otherwise."""
    h2_upgrade: bool = False
    access_log_file: str = ""
    access_log_format: str = ""
    access_log_json: bool = False
    service_export_to: tuple[str, ...] = ("*",)
    virtual_service_export_to: tuple[str, ...] = ("*",)
    destination_rule_export_to: tuple[str, ...] = ("*",)
    retries: HTTPRetry | None = None
    """When requests are tried again that no VirtualService speaks of; None: Istio's own rule."""
    connect_timeout_s: float = 10.0
    keepalive: TcpKeepalive | None = None
    dns_refresh_s: float = 60.0
    path_normalization: str = "DEFAULT"
    min_tls: str = "TLS_AUTO"
    front: Front | None = None
    """What stands in front of gateways."""
    networks: tuple[tuple[str, Network], ...] = ()
    """By name, as far as they are described."""

    @property
    def trust_domains(self) -> tuple[str, ...]:
        """The trust domains whose identities are the mesh's own."""
        return tuple(dict.fromkeys((self.trust_domain, *self.trust_domain_aliases)))


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
    `workload` is the WorkloadEntry or Pod it comes from; None when it was written into the ServiceEntry.
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
    network: str = ""
    node: str = ""
    ready: bool = True
    """False where Kubernetes says that it takes no traffic (of a WorkloadEntry, its health is asked)."""


@dataclass(frozen=True, slots=True)
class InlineEndpoint:
    """An endpoint written into a ServiceEntry."""

    address: str
    ports: tuple[tuple[str, int], ...]
    labels: Labels
    service_account: str
    locality: str
    weight: int
    network: str = ""


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
    labels: Labels = ()
    aliases: tuple[str, ...] = ()
    """Other hosts that mean this one (Services of type ExternalName)."""
    alias_of: str = ""
    """The host that this one means, where its resolution is ALIAS."""
    node_local: bool = False
    """Whether callers use endpoints of their own node only."""
    publish_not_ready: bool = False
    traffic_distribution: str = ""
    """`zone` or `node` where close endpoints are preferred."""

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
    network: str = ""
    node: str = ""
    ready: bool = True


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
class Subset:
    """A named part of a host's endpoints."""

    name: str
    labels: Labels


@dataclass(frozen=True, slots=True)
class Scope:
    """The proxies that see the same outbound configuration: what they have in common that changes it."""

    namespace: str
    sidecar: Key | None = None
    """The Sidecar that says what they may call."""
    labels: Labels = ()
    """Those of their workloads' labels that some rule asks for."""
    families: tuple[str, ...] = ("IPv4", "IPv6")
    """The address families that they speak."""
    network: str = ""
    locality: str = ""
    router: bool = False
    """Whether they are gateways."""
    dials_ipv6: bool = False
    """Whether IPv6 is how they are known themselves, and dial what has addresses of both families."""


def labels_of(*maps: Mapping[str, str]) -> Labels:
    """The maps as one sorted value; later maps win."""
    merged: dict[str, str] = {}
    for labels in maps:
        merged.update(labels)
    return tuple(sorted(merged.items()))


def has_labels(labels: Labels, wanted: Labels) -> bool:
    """Whether all wanted labels are among the labels."""
    return set(wanted) <= set(labels)

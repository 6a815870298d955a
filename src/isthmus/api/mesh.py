"""MeshConfig: what holds for the whole mesh, in the words of Istio's `mesh.yaml`.

The one object that counts is `default` in the root namespace; fields that are not named here are kept as they
are, and their author is told. https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from isthmus.api.duration import Duration
from isthmus.api.meta import Later, Telling
from isthmus.api.networking.destination_rule import TcpKeepalive
from isthmus.api.networking.load_balancing import LocalityLoadBalancerSetting
from isthmus.api.networking.virtual_service import HTTPRetry
from isthmus.api.shapes import PortNumber, UInt32


class OutboundPolicy(Telling):
    """What happens to calls of hosts that nobody declared."""

    mode: Literal["ALLOW_ANY", "ALLOW_ANY_DYNAMIC_DNS", "REGISTRY_ONLY"] = "ALLOW_ANY"
    """Whether they are let through to the address that was dialled (with ALLOW_ANY_DYNAMIC_DNS: to where
    their host is), or dropped (requests get 502)."""


class InboundPolicy(Telling):
    """Where a workload's proxy dials the workload."""

    mode: Literal["PASSTHROUGH", "LOCALHOST"] = "PASSTHROUGH"
    """At the address that the caller dialled, or at the loopback address."""


class PathNormalization(Telling):
    """How the paths of requests are cleaned before they are matched."""

    normalization: Literal["DEFAULT", "NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"] = "DEFAULT"
    """`DEFAULT` is `BASE`: RFC 3986."""


class MeshMtls(Telling):
    """Mutual TLS between proxies."""

    min_protocol_version: Literal["TLS_AUTO", "TLSV1_2", "TLSV1_3"] = "TLS_AUTO"
    """The oldest version of TLS that proxies take from each other; 1.2 when left out."""


class GatewayTopology(Telling):
    """What stands in front of gateways."""

    num_trusted_proxies: UInt32 = 0
    """How many proxies in front are believed: the caller is that far from the end of x-forwarded-for."""
    forward_client_cert_details: Literal[
        "UNDEFINED", "SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"
    ] = "UNDEFINED"
    """What becomes of a caller's x-forwarded-client-cert; SANITIZE_SET when left out."""
    proxy_protocol: dict[str, Any] | None = None
    """Set: every connection begins with the caller's address, in the PROXY protocol."""


class ProxyDefaults(Telling):
    """What holds for every proxy."""

    concurrency: Annotated[int | None, Later("proxies have two workers, or one on one processor")] = Field(
        default=None, ge=0
    )
    """Worker threads of a proxy; two, or one on a machine with one processor, when left out."""
    gateway_topology: GatewayTopology | None = None
    """What stands in front of gateways."""


class NetworkEndpoints(Telling):
    """Which endpoints belong to a network."""

    from_cidr: str = ""
    """A range of addresses."""


class NetworkGateway(Telling):
    """Where a network is entered."""

    address: str = ""
    """Address or DNS name; a Service with the label topology.istio.io/network tells it as well."""
    port: PortNumber = 15443
    """Port that passes mutual TLS through."""


class Network(Telling):
    """Machines that can dial each other."""

    endpoints: tuple[NetworkEndpoints, ...] = ()
    """Which endpoints belong to it, beside those that say so themselves."""
    gateways: tuple[NetworkGateway, ...] = ()
    """Where others enter it."""


class MeshConfigSpec(Telling):
    """Spec of a MeshConfig."""

    trust_domain: Annotated[str, Later("that of `isthmus serve --trust-domain` holds")] = ""
    """Trust domain of the mesh's identities; fixed when the control plane is set up."""
    trust_domain_aliases: tuple[str, ...] = ()
    """Other trust domains whose identities are taken as the mesh's own."""
    root_namespace: Annotated[str, Later("it is `isthmus-system`; `isthmus render` obeys this one")] = ""
    """Namespace whose objects hold for the whole mesh; fixed when the control plane is set up."""
    outbound_traffic_policy: OutboundPolicy | None = None
    """What happens to calls of hosts that nobody declared; a Sidecar may say otherwise."""
    inbound_traffic_policy: InboundPolicy | None = None
    """Where proxies dial their own workload."""
    protocol_detection_timeout: Duration | None = None
    """How long first bytes are waited for where they tell the protocol; 100ms by default, 0s is for ever."""
    enable_auto_mtls: bool | None = None
    """Whether callers use mutual TLS by themselves where the server has it; true when left out."""
    locality_lb_setting: LocalityLoadBalancerSetting | None = None
    """Load balancing by locality; a DestinationRule may say otherwise."""
    h2_upgrade_policy: Literal["DO_NOT_UPGRADE", "UPGRADE"] = Field(
        default="DO_NOT_UPGRADE", alias="h2UpgradePolicy"
    )
    """Whether requests travel between proxies as HTTP/2; a DestinationRule may say otherwise."""
    access_log_file: str = ""
    """File that proxies log accesses to, such as `/dev/stdout`; no log when left out."""
    access_log_format: str = ""
    """Envoy's format of a line, or a JSON object of formats; Istio's when left out."""
    access_log_encoding: Literal["TEXT", "JSON"] = "TEXT"
    """Whether lines are text or JSON."""
    default_service_export_to: tuple[str, ...] = ()
    """`exportTo` of Services and ServiceEntries that say none; `*` when left out."""
    default_virtual_service_export_to: tuple[str, ...] = ()
    """`exportTo` of VirtualServices that say none."""
    default_destination_rule_export_to: tuple[str, ...] = ()
    """`exportTo` of DestinationRules that say none."""
    default_http_retry_policy: HTTPRetry | None = None
    """When requests are tried again that no VirtualService speaks of."""
    connect_timeout: Duration | None = None
    """How long a connection may take; 10s when left out."""
    tcp_keepalive: TcpKeepalive | None = None
    """Keepalive of connections that no DestinationRule speaks of."""
    dns_refresh_rate: Duration | None = None
    """How often names are resolved again; 60s when left out."""
    path_normalization: PathNormalization | None = None
    """How the paths of requests are cleaned."""
    mesh_mtls: MeshMtls | None = Field(default=None, alias="meshMTLS")
    """Mutual TLS between proxies."""
    mesh_networks: Mapping[str, Network] = Field(default_factory=dict)
    """Networks by name, as in Istio's `meshNetworks`; the mesh's own gateways need no entry."""
    default_config: ProxyDefaults | None = None
    """What holds for every proxy."""

"""EnvoyFilter: patches of the proxies' configuration itself. Stored and checked, never applied.

https://istio.io/latest/docs/reference/config/networking/envoy-filter/
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from isthmus.api.meta import Model
from isthmus.api.shapes import Int32, PolicyTargetReference, PortNumber, UInt32, WorkloadSelector


class ProxyMatch(Model):
    """Proxies by their own properties."""

    proxy_version: str = ""
    """RE2 expression on the version of the proxy."""
    metadata: Mapping[str, str] = Field(default_factory=dict)
    """Metadata that the proxy must have."""


class SubFilterMatch(Model):
    """A filter inside a filter."""

    name: str = ""
    """Name of the filter."""


class FilterMatch(Model):
    """A network filter."""

    name: str = ""
    """Name of the filter."""
    sub_filter: SubFilterMatch | None = None
    """A filter inside it, such as an HTTP filter of the HTTP connection manager."""


class FilterChainMatch(Model):
    """A filter chain of a listener."""

    name: str = ""
    """Name of the chain."""
    sni: str = ""
    """Server name that the chain asks for."""
    transport_protocol: str = ""
    """Transport protocol that the chain asks for."""
    application_protocols: str = ""
    """Application protocols (ALPN) that the chain asks for, by commas."""
    destination_port: UInt32 = 0
    """Destination port that the chain asks for."""
    transport_socket: str = ""
    """Transport socket of the chain."""
    filter: FilterMatch | None = None
    """A filter of the chain."""


class ListenerMatch(Model):
    """A listener."""

    port_number: UInt32 = 0
    """Port of the listener."""
    port_name: str = ""
    """Never had an effect."""
    filter_chain: FilterChainMatch | None = None
    """A filter chain of the listener."""
    listener_filter: str = ""
    """Name of a listener filter."""
    name: str = ""
    """Name of the listener."""


class RouteMatch(Model):
    """A route."""

    name: str = ""
    """Name of the route."""
    action: Literal["ANY", "ROUTE", "REDIRECT", "DIRECT_RESPONSE"] = "ANY"
    """What the route does."""


class VirtualHostMatch(Model):
    """A virtual host of a route table."""

    name: str = ""
    """Name of the virtual host."""
    domain_name: str = ""
    """One of its domains."""
    route: RouteMatch | None = None
    """A route of the virtual host."""


class RouteConfigurationMatch(Model):
    """A route table."""

    port_number: UInt32 = 0
    """Port that the table is for."""
    port_name: str = ""
    """Name of that port, for gateways."""
    gateway: str = ""
    """Gateway of the table, as namespace/name."""
    vhost: VirtualHostMatch | None = None
    """A virtual host of the table."""
    name: str = ""
    """Name of the table."""


class ClusterMatch(Model):
    """A cluster."""

    port_number: UInt32 = 0
    """Service port of the cluster."""
    service: str = ""
    """Host of the service."""
    subset: str = ""
    """Subset of the service."""
    name: str = ""
    """Name of the cluster."""


class WaypointMatch(Model):
    """Configuration of a waypoint."""

    port_number: PortNumber | None = None
    """Service port."""
    filter: FilterMatch | None = None
    """A filter."""
    route: SubFilterMatch | None = None
    """A route by its name."""


class EnvoyConfigObjectMatch(Model):
    """What a patch is applied to; at most one of the kinds of object is set."""

    context: Literal["ANY", "SIDECAR_INBOUND", "SIDECAR_OUTBOUND", "GATEWAY", "WAYPOINT"] = "ANY"
    """Which side of which proxy."""
    proxy: ProxyMatch | None = None
    """Proxies by their own properties."""
    listener: ListenerMatch | None = None
    """A listener."""
    route_configuration: RouteConfigurationMatch | None = None
    """A route table."""
    cluster: ClusterMatch | None = None
    """A cluster."""
    waypoint: WaypointMatch | None = None
    """Configuration of a waypoint; with context WAYPOINT only."""


class Patch(Model):
    """The change."""

    operation: Literal[
        "INVALID",
        "MERGE",
        "ADD",
        "REMOVE",
        "INSERT_BEFORE",
        "INSERT_AFTER",
        "INSERT_FIRST",
        "REPLACE",
        "MERGE_AND_REPLACE_LIST",
    ] = "INVALID"
    """How the value is put in."""
    value: Mapping[str, Any] | None = None
    """Envoy's own configuration, as JSON."""
    filter_class: Literal["UNSPECIFIED", "AUTHN", "AUTHZ", "STATS"] = "UNSPECIFIED"
    """Where among the filters an added one stands."""


class EnvoyConfigObjectPatch(Model):
    """One patch."""

    apply_to: Literal[
        "INVALID",
        "LISTENER",
        "FILTER_CHAIN",
        "NETWORK_FILTER",
        "HTTP_FILTER",
        "ROUTE_CONFIGURATION",
        "VIRTUAL_HOST",
        "HTTP_ROUTE",
        "CLUSTER",
        "EXTENSION_CONFIG",
        "BOOTSTRAP",
        "LISTENER_FILTER",
    ] = "INVALID"
    """Kind of configuration that is changed."""
    match: EnvoyConfigObjectMatch | None = None
    """What the patch is applied to; everything of the kind when left out."""
    patch: Patch | None = None
    """The change."""


class EnvoyFilterSpec(Model):
    """Spec of an EnvoyFilter."""

    workload_selector: WorkloadSelector | None = None
    """The workloads this is about; without it the whole namespace."""
    target_refs: Annotated[tuple[PolicyTargetReference, ...], Field(max_length=16)] = ()
    """Resources this is attached to, instead of a selector."""
    config_patches: tuple[EnvoyConfigObjectPatch, ...] = ()
    """The patches, in order."""
    priority: Int32 = 0
    """Order among EnvoyFilters: lower comes first."""

"""What a Kubernetes cluster runs, as far as a registry reads it: endpoints, pods, nodes, events.

https://kubernetes.io/docs/reference/kubernetes-api/; fields that nobody reads here are kept as they are.
"""

from typing import Annotated

from pydantic import Field

from isthmus.api.meta import Kept, Preserving

_NO_NAME = Kept("endpoints have no names of their own in the mesh's DNS; callers outside it may have")


class ObjectReference(Preserving):
    """Names an object of any kind."""

    api_version: Annotated[str, Kept()] = ""
    """API version of the object."""
    kind: str = ""
    """Kind of the object."""
    namespace: Annotated[str, Kept()] = ""
    """Namespace of the object."""
    name: str = ""
    """Name of the object."""
    uid: Annotated[str, Kept()] = ""
    """UID of the object."""
    resource_version: Annotated[str, Kept()] = ""
    """State of the object that is meant."""
    field_path: Annotated[str, Kept()] = ""
    """Part of the object that is meant."""


class EndpointAddress(Preserving):
    """One address of a service."""

    ip: str
    """The address."""
    hostname: Annotated[str, _NO_NAME] = ""
    """Name of the endpoint below the service's own."""
    node_name: str | None = None
    """Node that the endpoint runs on."""
    target_ref: ObjectReference | None = None
    """The object behind the address, mostly a Pod."""


class EndpointPort(Preserving):
    """One port of a service's endpoints."""

    name: str = ""
    """Name of the service port."""
    port: int
    """Port number on the endpoints."""
    protocol: Annotated[str, Kept("endpoints take the service port's")] = "TCP"
    """IP protocol."""
    app_protocol: Annotated[str | None, Kept("the Service says it")] = None
    """Application protocol."""


class EndpointSubset(Preserving):
    """Addresses that have the same ports."""

    addresses: tuple[EndpointAddress, ...] = ()
    """Addresses that take traffic."""
    not_ready_addresses: tuple[EndpointAddress, ...] = ()
    """Addresses that take no traffic yet."""
    ports: tuple[EndpointPort, ...] = ()
    """Their ports."""


class EndpointsSpec(Preserving):
    """What an Endpoints object holds beside its metadata: the addresses of the service of its name."""

    subsets: tuple[EndpointSubset, ...] = ()
    """The addresses, by sets with the same ports."""


class EndpointConditions(Preserving):
    """How an endpoint is; what is left out counts as ready."""

    ready: bool | None = None
    """Whether it takes traffic."""
    serving: Annotated[bool | None, Kept("`ready` counts")] = None
    """Whether it could take traffic, also while it ends."""
    terminating: bool | None = None
    """Whether it is about to end."""


class SliceEndpoint(Preserving):
    """One endpoint of a slice."""

    addresses: tuple[str, ...]
    """Its addresses, all for the same endpoint."""
    conditions: EndpointConditions | None = None
    """How it is."""
    hostname: Annotated[str | None, _NO_NAME] = None
    """Name of the endpoint below the service's own."""
    target_ref: ObjectReference | None = None
    """The object behind it, mostly a Pod."""
    node_name: str | None = None
    """Node that it runs on."""
    zone: Annotated[str | None, Kept("the Pod's or the Node's locality counts")] = None
    """Zone that it runs in."""


class SlicePort(Preserving):
    """One port of a slice."""

    name: str | None = None
    """Name of the service port."""
    port: int | None = None
    """Port number on the endpoints."""
    protocol: Annotated[str, Kept("endpoints take the service port's")] = "TCP"
    """IP protocol."""
    app_protocol: Annotated[str | None, Kept("the Service says it")] = None
    """Application protocol."""


class EndpointSliceSpec(Preserving):
    """What an EndpointSlice holds beside its metadata: some endpoints of the service that its label names."""

    address_type: str = ""
    """Kind of the addresses: IPv4, IPv6 or FQDN; addresses speak for themselves when left out."""
    endpoints: tuple[SliceEndpoint, ...] = ()
    """The endpoints."""
    ports: tuple[SlicePort, ...] = ()
    """Ports of every endpoint."""


class ContainerPort(Preserving):
    """One port of a container."""

    name: str = ""
    """Name of the port."""
    container_port: int
    """Port number."""
    protocol: Annotated[str, Kept()] = "TCP"
    """IP protocol."""


class Container(Preserving):
    """One container of a Pod."""

    name: Annotated[str, Kept()]
    """Name of the container."""
    image: Annotated[str, Kept()] = ""
    """What it runs."""
    ports: tuple[ContainerPort, ...] = ()
    """Ports that it names."""


class PodSpec(Preserving):
    """Spec of a Pod; its addresses stand in the status."""

    service_account_name: str = ""
    """Service account that the Pod runs as: its identity."""
    node_name: str = ""
    """Node that it runs on."""
    hostname: Annotated[str, _NO_NAME] = ""
    """Its host name."""
    subdomain: Annotated[str, _NO_NAME] = ""
    """Headless service that its host name stands below."""
    host_network: Annotated[bool, Kept()] = False
    """Whether it shares the node's network."""
    containers: tuple[Container, ...] = ()
    """Its containers."""


class NodeSpec(Preserving):
    """Spec of a Node; its labels tell the locality, its status the addresses."""

    provider_id: Annotated[str, Kept()] = Field(default="", alias="providerID")
    """Name of the machine at its provider."""
    pod_cidr: Annotated[str, Kept()] = Field(default="", alias="podCIDR")
    """Range of the Pods' addresses."""
    pod_cidrs: Annotated[tuple[str, ...], Kept()] = Field(default=(), alias="podCIDRs")
    """Ranges of the Pods' addresses, one of each family."""
    unschedulable: Annotated[bool, Kept()] = False
    """Whether no new Pods come here."""


class EventSource(Preserving):
    """Who reported an event."""

    component: str = ""
    """Name of the reporter."""
    host: str = ""
    """Node that it ran on."""


class EventSeries(Preserving):
    """How often an event was seen."""

    count: int = 0
    """Times that it was seen."""
    last_observed_time: str | None = None
    """When it was last seen."""


class EventSpec(Preserving):
    """What an Event holds beside its metadata: something that was noticed about an object."""

    involved_object: ObjectReference | None = None
    """The object that it is about."""
    related: ObjectReference | None = None
    """Another object that it is about."""
    reason: str = ""
    """One word for machines."""
    message: str = ""
    """A sentence for people."""
    type: str = ""
    """Normal or Warning."""
    source: EventSource | None = None
    """Who reported it."""
    reporting_component: str = ""
    """Who reported it, in newer events."""
    reporting_instance: str = ""
    """Which instance reported it."""
    action: str = ""
    """What was done."""
    count: int | None = None
    """Times that it was seen."""
    series: EventSeries | None = None
    """How often it was seen, in newer events."""
    first_timestamp: str | None = None
    """When it was first seen."""
    last_timestamp: str | None = None
    """When it was last seen."""
    event_time: str | None = None
    """When it was first seen, in newer events."""

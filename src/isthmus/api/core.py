"""Kubernetes core v1 kinds, as far as a registry reads them (https://kubernetes.io/docs/reference/kubernetes-api/)."""

import base64
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from isthmus.api.meta import Kept, Later, Model, Preserving
from isthmus.api.shapes import IntOrString, PortNumber


class NamespaceSpec(Model):
    """Spec of a Namespace: a place for names."""

    finalizers: Annotated[tuple[str, ...], Kept("nothing here waits for it")] = ()
    """Words that a cluster waits for before the namespace goes."""


class LocalObjectReference(Model):
    """A reference to another object by name, as a ServiceAccount lists its secrets."""

    name: str = ""
    """Name of the referent."""


class ServiceAccountSpec(Model):
    """What a ServiceAccount holds beside its metadata: an identity that workloads may have."""

    secrets: Annotated[tuple[LocalObjectReference, ...], Kept()] = ()
    """Secrets that its Pods may use."""
    image_pull_secrets: Annotated[tuple[LocalObjectReference, ...], Kept()] = ()
    """Secrets that images are pulled with."""
    automount_service_account_token: Annotated[bool | None, Kept()] = None
    """Whether its Pods get a token."""


class ServicePort(Model):
    """One port of a Service."""

    name: str = ""
    """Name of this port within the service; must be unique, and may be left out when there is only one port.
    The part before the first `-` names the protocol (http, http2, grpc, tcp, …) unless appProtocol is set."""
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    """IP protocol of this port."""
    app_protocol: str | None = None
    """Application protocol of this port: http, http2, grpc, tcp, …; it wins over the name's prefix."""
    port: PortNumber
    """The port that the service exposes."""
    target_port: IntOrString | None = None
    """Number or name of the port on the workloads; the value of `port` when left out."""
    node_port: Annotated[int | None, Kept("there are no nodes here")] = None
    """Port of every node that leads here."""


class ServiceSpec(Model):
    """Spec of a Service: a name and virtual addresses in front of the workloads that it selects."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"] = "ClusterIP"
    """How the service is exposed; inside the mesh all of them but ExternalName have a virtual address."""
    cluster_ip: str = Field(default="", alias="clusterIP")
    """Virtual address, given by the server when left out; `None` makes the service headless."""
    cluster_ips: tuple[str, ...] = Field(default=(), alias="clusterIPs")
    """Virtual addresses, at most one of each family; the first is `clusterIP`."""
    ip_families: Annotated[
        tuple[Literal["IPv4", "IPv6"], ...], Kept("a service has addresses of both families")
    ] = ()
    """Families of the virtual addresses, in the order of `clusterIPs`."""
    ip_family_policy: Annotated[
        Literal["SingleStack", "PreferDualStack", "RequireDualStack"] | None,
        Kept("a service has addresses of both families"),
    ] = None
    """How many families the service has."""
    ports: tuple[ServicePort, ...] = ()
    """The ports that the service exposes."""
    selector: Mapping[str, str] = Field(default_factory=dict)
    """Labels of the workloads that traffic goes to; without it nothing is selected."""
    external_name: str = ""
    """DNS name that a service of type ExternalName stands for."""
    session_affinity: Annotated[
        Literal["None", "ClientIP"], Later("endpoints are chosen by least requests", values=("ClientIP",))
    ] = "None"
    """Whether a caller stays with one endpoint."""
    session_affinity_config: Annotated[
        dict[str, Any] | None, Later("see `sessionAffinity`; use a DestinationRule's `consistentHash`")
    ] = None
    """How long a caller stays with one endpoint."""
    external_ips: Annotated[
        tuple[str, ...],
        Later("callers use the virtual address; only entrances of networks count"),
        Field(alias="externalIPs"),
    ] = ()
    """Further addresses of the service."""
    load_balancer_ip: Annotated[str, Kept()] = Field(default="", alias="loadBalancerIP")
    """Address that a load balancer is asked for."""
    load_balancer_class: Annotated[str | None, Kept()] = None
    """Which load balancer is meant."""
    load_balancer_source_ranges: Annotated[tuple[str, ...], Kept()] = ()
    """Ranges that a load balancer lets in."""
    allocate_load_balancer_node_ports: Annotated[bool | None, Kept()] = None
    """Whether a load balancer needs ports of the nodes."""
    external_traffic_policy: Annotated[Literal["Cluster", "Local"] | None, Kept()] = None
    """Whether callers from outside stay on the node that they came to."""
    internal_traffic_policy: Literal["Cluster", "Local"] | None = None
    """Whether callers use endpoints of their own node only."""
    traffic_distribution: str | None = None
    """Which endpoints are preferred: PreferSameZone, PreferSameNode, PreferClose."""
    health_check_node_port: Annotated[int | None, Kept()] = None
    """Port at which a load balancer asks nodes for endpoints."""
    publish_not_ready_addresses: bool = False
    """Whether workloads that are not ready get traffic."""


class SecretSpec(Preserving):
    """What a Secret holds beside its metadata: keys, certificates, passwords."""

    type: Annotated[str, Kept()] = "Opaque"
    """What the data is for, such as kubernetes.io/tls."""
    data: Mapping[str, str] = Field(default_factory=dict, repr=False)
    """Values as base64."""
    immutable: bool | None = None
    """Whether the data may not change any more."""

    @model_validator(mode="before")
    @classmethod
    def _string_data_into_data(cls, value: Any) -> Any:
        # as in Kubernetes: stringData is for writing only, and wins over data
        if not isinstance(value, dict) or not isinstance(given := value.get("stringData"), dict):
            return value
        encoded = {
            name: base64.b64encode(text.encode()).decode()
            for name, text in given.items()
            if isinstance(text, str)
        }
        rest = {name: item for name, item in value.items() if name != "stringData"}
        return {**rest, "data": {**(rest.get("data") or {}), **encoded}}


class ConfigMapSpec(Preserving):
    """What a ConfigMap holds beside its metadata: settings."""

    data: Mapping[str, str] = Field(default_factory=dict)
    """Values as text."""
    binary_data: Annotated[Mapping[str, str], Kept()] = Field(default_factory=dict)
    """Values as base64."""
    immutable: bool | None = None
    """Whether the data may not change any more."""

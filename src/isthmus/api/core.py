"""Kubernetes core v1 kinds, as far as a registry reads them (https://kubernetes.io/docs/reference/kubernetes-api/)."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from isthmus.api.meta import Model
from isthmus.api.shapes import IntOrString, PortNumber


class NamespaceSpec(Model):
    """Spec of a Namespace: a place for names."""

    finalizers: tuple[str, ...] = ()
    """Kept for round trips with Kubernetes; nothing here waits for a finalizer."""


class ObjectReference(Model):
    """A reference to another object by name, as a ServiceAccount lists its secrets."""

    name: str = ""
    """Name of the referent."""


class ServiceAccountSpec(Model):
    """What a ServiceAccount holds beside its metadata: an identity that workloads may have."""

    secrets: tuple[ObjectReference, ...] = ()
    """Kept for round trips with Kubernetes; not used here."""
    image_pull_secrets: tuple[ObjectReference, ...] = ()
    """Kept for round trips with Kubernetes; not used here."""
    automount_service_account_token: bool | None = None
    """Kept for round trips with Kubernetes; not used here."""


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


class ServiceSpec(Model):
    """Spec of a Service: a name and virtual addresses in front of the workloads that it selects."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """How the service is exposed; inside the mesh all of them have a virtual address."""
    cluster_ip: str = Field(default="", alias="clusterIP")
    """Virtual address, given by the server when left out; `None` makes the service headless."""
    cluster_ips: tuple[str, ...] = Field(default=(), alias="clusterIPs")
    """Virtual addresses, at most one of each family; the first is `clusterIP`."""
    ip_families: tuple[Literal["IPv4", "IPv6"], ...] = ()
    """Families of the virtual addresses, in the order of `clusterIPs`."""
    ip_family_policy: Literal["SingleStack", "PreferDualStack", "RequireDualStack"] | None = None
    """How many families the service has."""
    ports: tuple[ServicePort, ...] = ()
    """The ports that the service exposes."""
    selector: Mapping[str, str] = Field(default_factory=dict)
    """Labels of the workloads that traffic goes to; without it nothing is selected."""

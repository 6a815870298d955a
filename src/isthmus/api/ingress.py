"""Kubernetes Ingress and IngressClass (https://kubernetes.io/docs/concepts/services-networking/ingress/)."""

from typing import Annotated, Any, Literal

from isthmus.api.meta import Kept, Later, Preserving


class ServiceBackendPort(Preserving):
    """A port of a Service, by number or by name."""

    number: int = 0
    """Port number."""
    name: str = ""
    """Name of the port."""


class IngressServiceBackend(Preserving):
    """The Service that requests go to."""

    name: str
    """Name of the Service, in the Ingress's namespace."""
    port: ServiceBackendPort = ServiceBackendPort()
    """Port of the Service."""


class IngressBackend(Preserving):
    """Where requests go."""

    service: IngressServiceBackend | None = None
    """The Service that they go to."""
    resource: Annotated[dict[str, Any] | None, Later("requests get 404")] = None
    """An object of another kind that they go to."""


class HTTPIngressPath(Preserving):
    """Requests with a certain path, and where they go."""

    path: str = ""
    """The path."""
    path_type: Literal["Exact", "Prefix", "ImplementationSpecific"] | None = None
    """How paths are compared; of those that are left to us, `…/*` is a prefix and all others are exact."""
    backend: IngressBackend = IngressBackend()
    """Where they go."""


class HTTPIngressRules(Preserving):
    """What holds for one host."""

    paths: tuple[HTTPIngressPath, ...] = ()
    """The paths; the longest that fits counts."""


class IngressRule(Preserving):
    """Rules for one host."""

    host: str = ""
    """The host; all hosts when left out."""
    http: HTTPIngressRules | None = None
    """Its paths."""


class IngressTLS(Preserving):
    """Hosts that are served with TLS."""

    hosts: tuple[str, ...] = ()
    """The hosts; all when left out."""
    secret_name: str = ""
    """The Secret with their certificate, in the namespace of the gateway."""


class IngressSpec(Preserving):
    """Spec of an Ingress."""

    ingress_class_name: str | None = None
    """Whose Ingress it is: the name of an IngressClass."""
    default_backend: Annotated[IngressBackend | None, Later("other requests get 404")] = None
    """Where requests go that no rule is about."""
    tls: tuple[IngressTLS, ...] = ()
    """Hosts that are served with TLS."""
    rules: tuple[IngressRule, ...] = ()
    """Rules by host."""


class IngressClassSpec(Preserving):
    """Spec of an IngressClass: who looks after Ingresses that name it."""

    controller: str = ""
    """`istio.io/ingress-controller` for gateways of the mesh."""
    parameters: Annotated[dict[str, Any] | None, Kept()] = None
    """Further settings of the controller."""

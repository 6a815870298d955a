"""Every kind the API knows, defined once: names, versions, columns, and the model of its spec."""

from collections.abc import Mapping
from dataclasses import dataclass

from isthmus.api import cluster, columns, core, ingress, security
from isthmus.api.columns import AGE, Column
from isthmus.api.extensions import WasmPluginSpec
from isthmus.api.join import JoinTokenSpec
from isthmus.api.mesh import MeshConfigSpec
from isthmus.api.meta import Model
from isthmus.api.networking.destination_rule import DestinationRuleSpec
from isthmus.api.networking.envoy_filter import EnvoyFilterSpec
from isthmus.api.networking.gateway import GatewaySpec
from isthmus.api.networking.proxy_config import ProxyConfigSpec
from isthmus.api.networking.service_entry import ServiceEntrySpec
from isthmus.api.networking.sidecar import SidecarSpec
from isthmus.api.networking.virtual_service import VirtualServiceSpec
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.api.networking.workload_group import WorkloadGroupSpec
from isthmus.api.telemetry import TelemetrySpec

NETWORKING = "networking.istio.io"
SECURITY = "security.istio.io"
TELEMETRY = "telemetry.istio.io"
EXTENSIONS = "extensions.istio.io"
DISCOVERY = "discovery.k8s.io"
INGRESS = "networking.k8s.io"
ISTHMUS = "isthmus.dev"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of object. The first of `versions` is preferred; all of them are the same object."""

    kind: str
    group: str
    versions: tuple[str, ...]
    plural: str
    singular: str
    short_names: tuple[str, ...]
    namespaced: bool
    spec_model: type[Model]
    has_spec: bool = True
    """False: the model's fields stand beside `metadata`, as those of a ServiceAccount do."""
    programmed: bool = False
    """True: proxies are configured from it, and its status says how far that went."""
    categories: tuple[str, ...] = ()
    """Words that stand for several kinds, such as `istio-io`."""
    columns: tuple[Column, ...] = (AGE,)
    """Columns after the name."""
    needs_spec: bool = False
    """True: a document must have a `spec`, though it may be empty."""
    counts_changes: bool = True
    """False: as in Kubernetes, `metadata.generation` does not count the changes of its spec."""
    later: str = ""
    """Set: objects are stored and validated, but do nothing yet; what happens instead."""

    @property
    def of_kubernetes(self) -> bool:
        """Whether the kind is one of Kubernetes' own, which is told apart from kinds added to it."""
        return not self.group or self.group.endswith(".k8s.io")

    @property
    def api_versions(self) -> tuple[str, ...]:
        """What `apiVersion` may say, the preferred one first."""
        return tuple(f"{self.group}/{version}" if self.group else version for version in self.versions)


def _istio(
    kind: str,
    plural: str,
    model: type[Model],
    *short_names: str,
    group: str = NETWORKING,
    versions: tuple[str, ...] = ("v1", "v1beta1", "v1alpha3"),
    columns: tuple[Column, ...] = (AGE,),
    programmed: bool = False,
    needs_spec: bool = False,
    later: str = "",
) -> Kind:
    return Kind(
        kind=kind,
        group=group,
        versions=versions,
        plural=plural,
        singular=kind.lower(),
        short_names=short_names,
        namespaced=True,
        spec_model=model,
        programmed=programmed,
        categories=("istio-io", group.partition(".")[0] + "-istio-io"),
        columns=columns,
        needs_spec=needs_spec,
        later=later,
    )


def _core(
    kind: str,
    plural: str,
    model: type[Model],
    *short_names: str,
    group: str = "",
    namespaced: bool = True,
    has_spec: bool = True,
    programmed: bool = False,
    categories: tuple[str, ...] = (),
    columns: tuple[Column, ...] = (AGE,),
    counts_changes: bool = False,
) -> Kind:
    return Kind(
        kind=kind,
        group=group,
        versions=("v1",),
        plural=plural,
        singular=kind.lower(),
        short_names=short_names,
        namespaced=namespaced,
        spec_model=model,
        has_spec=has_spec,
        programmed=programmed,
        categories=categories,
        columns=columns,
        counts_changes=counts_changes,
    )


_SECURITY_VERSIONS = ("v1", "v1beta1")

_ALL = (
    _core("Namespace", "namespaces", core.NamespaceSpec, "ns", namespaced=False, columns=columns.NAMESPACE),
    _core(
        "Service",
        "services",
        core.ServiceSpec,
        "svc",
        programmed=True,
        counts_changes=True,
        categories=("all",),
        columns=columns.SERVICE,
    ),
    _core(
        "ServiceAccount",
        "serviceaccounts",
        core.ServiceAccountSpec,
        "sa",
        has_spec=False,
        columns=columns.SERVICE_ACCOUNT,
    ),
    _core("Secret", "secrets", core.SecretSpec, has_spec=False, columns=columns.SECRET),
    _core("ConfigMap", "configmaps", core.ConfigMapSpec, "cm", has_spec=False, columns=columns.CONFIG_MAP),
    _core("Endpoints", "endpoints", cluster.EndpointsSpec, "ep", has_spec=False, columns=columns.ENDPOINTS),
    _core(
        "EndpointSlice",
        "endpointslices",
        cluster.EndpointSliceSpec,
        group=DISCOVERY,
        has_spec=False,
        counts_changes=True,
        columns=columns.ENDPOINT_SLICE,
    ),
    _core(
        "Pod",
        "pods",
        cluster.PodSpec,
        "po",
        counts_changes=True,
        categories=("all",),
        columns=columns.POD,
    ),
    _core(
        "IngressClass",
        "ingressclasses",
        ingress.IngressClassSpec,
        group=INGRESS,
        namespaced=False,
        counts_changes=True,
        columns=columns.INGRESS_CLASS,
    ),
    _core(
        "Ingress",
        "ingresses",
        ingress.IngressSpec,
        "ing",
        group=INGRESS,
        counts_changes=True,
        columns=columns.INGRESS,
    ),
    _core("Node", "nodes", cluster.NodeSpec, "no", namespaced=False, columns=columns.NODE),
    _core("Event", "events", cluster.EventSpec, "ev", has_spec=False, columns=columns.EVENT),
    _istio(
        "ServiceEntry",
        "serviceentries",
        ServiceEntrySpec,
        "se",
        programmed=True,
        needs_spec=True,
        columns=(
            Column("Hosts", ".spec.hosts", description="Names of the service."),
            Column("Location", ".spec.location", description="Whether the service is part of the mesh."),
            Column("Resolution", ".spec.resolution", description="How endpoints are found."),
            AGE,
        ),
    ),
    _istio(
        "WorkloadEntry",
        "workloadentries",
        WorkloadEntrySpec,
        "we",
        programmed=True,
        needs_spec=True,
        columns=(
            AGE,
            Column("Address", ".spec.address", description="Address of the workload."),
            Column(
                "Healthy",
                ".status.conditions[?(@.type=='Healthy')].status",
                description="What its health check says; empty without one.",
            ),
        ),
    ),
    _istio("WorkloadGroup", "workloadgroups", WorkloadGroupSpec, "wg", needs_spec=True),
    _istio(
        "VirtualService",
        "virtualservices",
        VirtualServiceSpec,
        "vs",
        programmed=True,
        columns=(
            Column("Gateways", ".spec.gateways", description="Where the rules apply."),
            Column("Hosts", ".spec.hosts", description="Hosts whose traffic is routed."),
            AGE,
        ),
    ),
    _istio(
        "DestinationRule",
        "destinationrules",
        DestinationRuleSpec,
        "dr",
        programmed=True,
        columns=(Column("Host", ".spec.host", description="Service that the rule is about."), AGE),
    ),
    _istio("Gateway", "gateways", GatewaySpec, "gw", programmed=True),
    _istio("Sidecar", "sidecars", SidecarSpec, programmed=True),
    _istio(
        "ProxyConfig",
        "proxyconfigs",
        ProxyConfigSpec,
        versions=("v1beta1",),
        later="proxies run as they were installed",
    ),
    _istio(
        "EnvoyFilter",
        "envoyfilters",
        EnvoyFilterSpec,
        versions=("v1alpha3",),
        later="its patches are not applied; use the other kinds of networking.istio.io",
    ),
    _istio(
        "PeerAuthentication",
        "peerauthentications",
        security.PeerAuthenticationSpec,
        "pa",
        group=SECURITY,
        versions=_SECURITY_VERSIONS,
        programmed=True,
        columns=(Column("Mode", ".spec.mtls.mode", description="Whether mutual TLS is asked for."), AGE),
    ),
    _istio(
        "RequestAuthentication",
        "requestauthentications",
        security.RequestAuthenticationSpec,
        "ra",
        group=SECURITY,
        versions=_SECURITY_VERSIONS,
    ),
    _istio(
        "AuthorizationPolicy",
        "authorizationpolicies",
        security.AuthorizationPolicySpec,
        "ap",
        programmed=True,
        group=SECURITY,
        versions=_SECURITY_VERSIONS,
        columns=(Column("Action", ".spec.action", description="What happens to the requests."), AGE),
    ),
    _istio(
        "Telemetry",
        "telemetries",
        TelemetrySpec,
        "telemetry",
        group=TELEMETRY,
        versions=("v1", "v1alpha1"),
        later="proxies measure, trace and log as the mesh's settings say",
    ),
    _istio(
        "WasmPlugin",
        "wasmplugins",
        WasmPluginSpec,
        group=EXTENSIONS,
        versions=("v1alpha1",),
        needs_spec=True,
        later="proxies do not run its module",
    ),
    Kind(
        "JoinToken",
        ISTHMUS,
        ("v1alpha1",),
        "jointokens",
        "jointoken",
        ("jt",),
        True,
        JoinTokenSpec,
        columns=(
            Column("Group", ".spec.group", description="WorkloadGroup that a VM joins with it."),
            Column("Expires", ".spec.expiresAt", description="When it can be used no more."),
            AGE,
        ),
    ),
    Kind(
        "MeshConfig",
        ISTHMUS,
        ("v1alpha1",),
        "meshconfigs",
        "meshconfig",
        ("mc",),
        True,
        MeshConfigSpec,
        programmed=True,
    ),
)

KINDS: Mapping[str, Kind] = {kind.kind: kind for kind in _ALL}
"""All kinds by their name, in the order in which objects that need each other are made."""

_BY_PLURAL = {(kind.group, kind.plural): kind for kind in _ALL}
_BY_WORD = {
    word.lower(): kind for kind in _ALL for word in (kind.kind, kind.plural, kind.singular, *kind.short_names)
}


def kind_by_plural(group: str, plural: str) -> Kind | None:
    """The kind behind a URL's group and resource, None when there is none."""
    return _BY_PLURAL.get((group, plural))


def kind_by_word(word: str) -> Kind | None:
    """The kind that a person means by `vs`, `VirtualServices` or `virtualservices.networking.istio.io`."""
    plain, _, group = word.lower().partition(".")
    kind = _BY_WORD.get(plain)
    return kind if kind and group in {"", kind.group} else None


def kinds_by_category(word: str) -> tuple[Kind, ...]:
    """The kinds that a category such as `istio-io` stands for; empty when it is none."""
    return tuple(kind for kind in _ALL if word.lower() in kind.categories)


def kind_by_type(api_version: str, kind: str) -> Kind | None:
    """The kind that a document's `apiVersion` and `kind` name, None when we do not serve it."""
    found = KINDS.get(kind)
    return found if found and api_version in found.api_versions else None

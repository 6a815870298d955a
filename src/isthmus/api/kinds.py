"""Every kind the API knows, defined once: names, versions, and the model of its spec."""

from collections.abc import Mapping
from dataclasses import dataclass

from isthmus.api.core import NamespaceSpec, ServiceAccountSpec, ServiceSpec
from isthmus.api.join import JoinTokenSpec
from isthmus.api.meta import Model
from isthmus.api.networking.destination_rule import DestinationRuleSpec
from isthmus.api.networking.service_entry import ServiceEntrySpec
from isthmus.api.networking.virtual_service import VirtualServiceSpec
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.api.networking.workload_group import WorkloadGroupSpec
from isthmus.api.security import PeerAuthenticationSpec

NETWORKING = "networking.istio.io"
SECURITY = "security.istio.io"
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

    @property
    def api_versions(self) -> tuple[str, ...]:
        """What `apiVersion` may say, the preferred one first."""
        return tuple(f"{self.group}/{version}" if self.group else version for version in self.versions)


def _istio(kind: str, plural: str, short_name: str, model: type[Model], *, programmed: bool = True) -> Kind:
    return Kind(
        kind=kind,
        group=NETWORKING,
        versions=("v1", "v1beta1", "v1alpha3"),
        plural=plural,
        singular=kind.lower(),
        short_names=(short_name,),
        namespaced=True,
        spec_model=model,
        programmed=programmed,
    )


_ALL = (
    Kind("Namespace", "", ("v1",), "namespaces", "namespace", ("ns",), False, NamespaceSpec),
    Kind("Service", "", ("v1",), "services", "service", ("svc",), True, ServiceSpec, programmed=True),
    Kind(
        "ServiceAccount",
        "",
        ("v1",),
        "serviceaccounts",
        "serviceaccount",
        ("sa",),
        True,
        ServiceAccountSpec,
        has_spec=False,
    ),
    _istio("ServiceEntry", "serviceentries", "se", ServiceEntrySpec),
    _istio("WorkloadEntry", "workloadentries", "we", WorkloadEntrySpec),
    _istio("WorkloadGroup", "workloadgroups", "wg", WorkloadGroupSpec, programmed=False),
    _istio("VirtualService", "virtualservices", "vs", VirtualServiceSpec),
    _istio("DestinationRule", "destinationrules", "dr", DestinationRuleSpec),
    Kind(
        "PeerAuthentication",
        SECURITY,
        ("v1", "v1beta1"),
        "peerauthentications",
        "peerauthentication",
        ("pa",),
        True,
        PeerAuthenticationSpec,
        programmed=True,
    ),
    Kind("JoinToken", ISTHMUS, ("v1alpha1",), "jointokens", "jointoken", ("jt",), True, JoinTokenSpec),
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


def kind_by_type(api_version: str, kind: str) -> Kind | None:
    """The kind that a document's `apiVersion` and `kind` name, None when we do not serve it."""
    found = KINDS.get(kind)
    return found if found and api_version in found.api_versions else None

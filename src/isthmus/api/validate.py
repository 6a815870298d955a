"""One object -> everything about it that is wrong or doubtful by itself, with field paths.

Rules are Istio's (its webhook and its schemas); what depends on other objects is for the mesh's analysis.
Errors refuse an object, warnings are told.
"""

from collections.abc import Iterator

from isthmus.api import validate_routing, validate_services, validate_traffic
from isthmus.api.core import ServiceSpec
from isthmus.api.join import JoinTokenSpec
from isthmus.api.meta import Object, Problem
from isthmus.api.networking.destination_rule import DestinationRuleSpec
from isthmus.api.networking.service_entry import ServiceEntrySpec
from isthmus.api.networking.virtual_service import VirtualServiceSpec
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.api.networking.workload_group import WorkloadGroupSpec
from isthmus.api.rules import labels, wrong
from isthmus.api.security import PeerAuthenticationSpec
from isthmus.api.syntax import dns_label, dns_label_1035, dns_subdomain, label_key

_LARGEST_ANNOTATIONS = 256 * 1024


def validate(obj: Object) -> list[Problem]:
    """The problems of one object by itself: errors refuse it, warnings are told."""
    return [*_metadata(obj), *_spec(obj)]


def _spec(obj: Object) -> Iterator[Problem]:
    match obj.spec:
        case VirtualServiceSpec() as spec:
            yield from validate_routing.virtual_service(spec)
        case DestinationRuleSpec() as spec:
            yield from validate_traffic.destination_rule(spec)
        case PeerAuthenticationSpec() as spec:
            yield from validate_traffic.peer_authentication(spec)
        case ServiceSpec() as spec:
            yield from validate_services.service(spec)
        case ServiceEntrySpec() as spec:
            yield from validate_services.service_entry(spec)
        case WorkloadEntrySpec() as spec:
            yield from validate_services.workload_entry(spec)
        case WorkloadGroupSpec() as spec:
            yield from validate_services.workload_group(spec)
        case JoinTokenSpec() as spec:
            yield from validate_services.join_token(spec)


def _metadata(obj: Object) -> Iterator[Problem]:
    meta = obj.meta
    form = {"Namespace": dns_label, "Service": dns_label_1035}.get(obj.key.kind, dns_subdomain)
    yield from wrong("metadata.name", meta.name, form(meta.name))
    if meta.namespace:
        yield from wrong("metadata.namespace", meta.namespace, dns_label(meta.namespace))
    yield from labels("metadata.labels", meta.labels)
    for key in meta.annotations:
        yield from wrong("metadata.annotations", key, label_key(key.lower()))
    if sum(len(key) + len(value) for key, value in meta.annotations.items()) > _LARGEST_ANNOTATIONS:
        yield Problem("metadata.annotations", f"are larger than {_LARGEST_ANNOTATIONS} bytes")

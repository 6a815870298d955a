"""One object -> everything about it that is wrong or doubtful by itself, with field paths.

Rules are Istio's (its webhook and its schemas); what depends on other objects is for the mesh's analysis.
Errors refuse an object, warnings are told.
"""

from collections.abc import Iterator
from itertools import chain

from isthmus.api import core
from isthmus.api.extensions import WasmPluginSpec
from isthmus.api.join import JoinTokenSpec
from isthmus.api.meta import Object, Problem
from isthmus.api.mistakes import first
from isthmus.api.networking.destination_rule import DestinationRuleSpec
from isthmus.api.networking.envoy_filter import EnvoyFilterSpec
from isthmus.api.networking.gateway import GatewaySpec
from isthmus.api.networking.proxy_config import ProxyConfigSpec
from isthmus.api.networking.service_entry import ServiceEntrySpec
from isthmus.api.networking.sidecar import SidecarSpec
from isthmus.api.networking.virtual_service import VirtualServiceSpec
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.api.networking.workload_group import WorkloadGroupSpec
from isthmus.api.rules import labels, wrong
from isthmus.api.security import AuthorizationPolicySpec, PeerAuthenticationSpec, RequestAuthenticationSpec
from isthmus.api.syntax import dns_label, dns_label_1035, dns_subdomain, label_key
from isthmus.api.telemetry import TelemetrySpec
from isthmus.api.validation import (
    authentication,
    authorization,
    destination_rule,
    gateway,
    metadata,
    proxy,
    service_entry,
    sidecar,
    telemetry,
    virtual_service,
    workload,
)
from isthmus.api.validation import core as core_rules

_LARGEST_ANNOTATIONS = 256 * 1024


def validate(obj: Object) -> list[Problem]:
    """The problems of one object by itself: errors refuse it, warnings are told."""
    return first(chain(_metadata(obj), _spec(obj)))


def _spec(obj: Object) -> Iterator[Problem]:
    namespace = obj.meta.namespace
    match obj.spec:
        case VirtualServiceSpec() as spec:
            yield from virtual_service.virtual_service(spec, namespace)
        case DestinationRuleSpec() as spec:
            yield from destination_rule.destination_rule(spec, namespace)
        case GatewaySpec() as spec:
            yield from gateway.gateway(spec, obj.meta.name, obj.meta.annotations)
        case ServiceEntrySpec() as spec:
            yield from service_entry.service_entry(spec, namespace, obj.meta.labels)
        case WorkloadEntrySpec() as spec:
            yield from workload.workload_entry(spec, obj.meta.annotations)
        case WorkloadGroupSpec() as spec:
            yield from workload.workload_group(spec)
        case SidecarSpec() as spec:
            yield from sidecar.sidecar(spec, namespace)
        case PeerAuthenticationSpec() as spec:
            yield from authentication.peer_authentication(spec)
        case RequestAuthenticationSpec() as spec:
            yield from authentication.request_authentication(spec)
        case AuthorizationPolicySpec() as spec:
            yield from authorization.authorization_policy(spec, obj.meta.annotations)
        case TelemetrySpec() as spec:
            yield from telemetry.telemetry(spec)
        case EnvoyFilterSpec() as spec:
            yield from proxy.envoy_filter(spec)
        case ProxyConfigSpec() as spec:
            yield from proxy.proxy_config(spec)
        case WasmPluginSpec() as spec:
            yield from proxy.wasm_plugin(spec)
        case core.ServiceSpec() as spec:
            yield from core_rules.service(spec)
        case core.SecretSpec() as spec:
            yield from core_rules.secret(spec)
        case core.ConfigMapSpec() as spec:
            yield from core_rules.config_map(spec)
        case JoinTokenSpec() as spec:
            yield from core_rules.join_token(spec)


def _metadata(obj: Object) -> Iterator[Problem]:
    meta = obj.meta
    form = {"Namespace": dns_label, "Service": dns_label_1035}.get(obj.key.kind, dns_subdomain)
    yield from wrong("metadata.name", meta.name, form(meta.name))
    if meta.namespace:
        yield from wrong("metadata.namespace", meta.namespace, dns_label(meta.namespace))
    yield from labels("metadata.labels", meta.labels)
    for key in meta.annotations:
        yield from wrong("metadata.annotations", key, label_key(key.lower()))
    yield from metadata.finalizers("metadata.finalizers", meta.finalizers)
    yield from metadata.owners("metadata.ownerReferences", meta.owner_references)
    if sum(len(key) + len(value) for key, value in meta.annotations.items()) > _LARGEST_ANNOTATIONS:
        yield Problem("metadata.annotations", f"Too long: may not be more than {_LARGEST_ANNOTATIONS} bytes")
    if authorization.DRY_RUN in meta.annotations and not isinstance(obj.spec, AuthorizationPolicySpec):
        text = f"unsupported annotation {authorization.DRY_RUN}, please remove the annotation"
        yield Problem(f"metadata.annotations[{authorization.DRY_RUN}]", text)

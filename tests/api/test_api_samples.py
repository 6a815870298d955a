"""Istio's sample configurations, where a copy of them is: each document of our kinds is taken as it is.

`ISTHMUS_SAMPLES=DIR` names the copy (CONTRIBUTING.md); of it stand here names of files and objects alone.
Templates are left out. Istio marks documents of its tests that must be refused with a field `_err` and words
of the refusal.
"""

import os
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from isthmus.api.documents import read_documents
from isthmus.api.inspection import inspected
from isthmus.api.kinds import kind_by_type

SAMPLES = os.environ.get("ISTHMUS_SAMPLES", "")
REFUSED: Mapping[str, tuple[str, ...]] = {
    "a Gateway's server needs a port": (
        "specific-analyzer.yaml Gateway/*",
        "conflicting-gateways-invalid-port.yaml Gateway/*",
    ),
    "a Gateway's servers need ports of different names": (
        "conflicting-gateways-multiple-ports.yaml Gateway/*",
        "virtualservice_host_not_found_gateway*.yaml Gateway/testing-gateway-01-test-04",
    ),
    "a Gateway needs a server": (
        "gateway-no-workload.yaml Gateway/httpbin-gateway",
        "virtualservice_gateways.yaml Gateway/*",
    ),
    "a server of TLS needs a certificate": ("gateway-secrets.yaml Gateway/defaultgateway-nocredential",),
    "a reference to a Gateway is a name": (
        "virtualservice_internal_gateway_ref.yaml VirtualService/httpbin",
    ),
    "a VirtualService needs a rule": (
        "virtualservice_gateways.yaml VirtualService/*",
        "missing-gateway.yaml VirtualService/missing-gateway",
    ),
    "a rule needs a route": ("deprecation.yaml VirtualService/productpage",),
    "a route needs a destination": ("virtualservice_destinationhosts.yaml VirtualService/reviews-bogushost",),
    "no such field since Istio 1.0": (
        "deprecation.yaml EnvoyFilter/istio-multicluster-egressgateway",
        "rule-websocket-route.yaml VirtualService/websocket-route*",
    ),
    "no such field": ("envoy-filter-add-operation.yaml EnvoyFilter/test-auth-[45]",),
    "a patch of routes matches no listener": (
        "envoy-filter-remove-operation.yaml EnvoyFilter/test-remove-[23]",
    ),
    "a patch of clusters matches nothing else": (
        "relative-envoy-filter-operation.yaml EnvoyFilter/test-relative-3",
    ),
    "a patch says what is done": ("envoy-filter-remove-operation.yaml EnvoyFilter/test-remove-4",),
    "a ServiceEntry of DNS without endpoints has no wildcards": (
        "authorizationpolicies.yaml ServiceEntry/istio",
    ),
    "a ServiceEntry is not for all hosts": (
        "virtualservice_destinationhosts.yaml ServiceEntry/service-entry-ignore",
    ),
    "a ServiceEntry needs a spec": ("condition-analyzer.yaml ServiceEntry/negative-condition-svcEntry",),
    "a Sidecar says something": ("sidecar-default-selector.yaml Sidecar/*",),
    "a policy has a selector or a target": ("k8sgateway-selector.yaml Telemetry/telemetry-effective",),
    "names have no capital letters, for Kubernetes": (
        "gateway-secrets.yaml Gateway/defaultgateway-bogusCredentialName",
        "configs.yaml ServiceEntry/BACKEND",
    ),
    "a Service needs a port, for Kubernetes": (
        "condition-analyzer.yaml Service/negative-condition-svc",
        "bad-annotation-service.yaml Service/some-service",
        "webhook.yaml Service/istiod",
    ),
    "a Service's several ports need names, for Kubernetes": ("service-no-port-name*.yaml Service/*",),
    "a Service's protocol is TCP, UDP or SCTP, for Kubernetes": (
        "deployment-multi-service*.yaml Service/*",
        "virtualservice_destinationhosts.yaml Service/reviews-2port",
        "virtualservice_route_rule_no_effects_ingress.yaml Service/ratings",
    ),
    "a Secret of TLS needs a certificate and a key, for Kubernetes": (
        "gateway-secrets-validation.yaml Secret/*",
    ),
    "a Pod's container needs a name, for Kubernetes": ("sidecar-default-selector.yaml Pod/random-pod",),
}
"""Documents that a cluster with Istio refuses too, by the reason: `FILE KIND/NAME`, as shells match them."""
OWNERLESS = "metadata.ownerReferences[0].uid: "
"""Refused of what Istio's controller would write in a test, which has no owner to name."""


def files() -> list[Path]:
    """The sample files, in order."""
    root = Path(SAMPLES)
    found = [*root.rglob("*.yaml"), *root.rglob("*.yml")] if SAMPLES else []
    return sorted(path for path in found if "{{" not in path.read_text(errors="replace"))


def documents(path: Path) -> Iterator[dict[str, Any]]:
    """The documents of our kinds in a file."""
    for document in read_documents(path.read_text(errors="replace"), path.name)[0]:
        data = document.data
        if isinstance(data, dict) and kind_by_type(str(data.get("apiVersion")), str(data.get("kind"))):
            yield data


def errors(document: Any) -> list[str]:
    return [str(problem) for problem in inspected(document) if problem.severity == "error"]


def reason(path: Path, document: Mapping[str, Any], told: list[str]) -> str:
    """Why Istio refuses this document too; empty when it is not known to."""
    metadata = document.get("metadata") or {}
    name = f"{path.name} {document['kind']}/{metadata.get('name')}"
    if all(text.startswith(OWNERLESS) for text in told):
        return OWNERLESS
    found = (why for why, patterns in REFUSED.items() if any(fnmatch(name, each) for each in patterns))
    return next(found, "")


@pytest.mark.skipif(not SAMPLES, reason="ISTHMUS_SAMPLES names no directory with Istio's samples")
@pytest.mark.parametrize("path", files() or [Path()], ids=str)
def test_samples(path: Path) -> None:
    for document in documents(path):
        words = document.pop("_err", None)
        told = errors(document)
        if words is not None:
            assert words in " ".join(told), document
        elif told:
            assert reason(path, document, told), (document["kind"], document.get("metadata"), told)

"""AuthorizationPolicies -> those that a workload's proxy enforces.

    workload --selector--> policies of its own namespace and of the root namespace, the oldest first

What the actions mean together: a request that a CUSTOM or DENY policy is for is refused (CUSTOM: unless its
provider agrees); then, where ALLOW policies are, one of them must be for it. Without any, all is let through.
https://istio.io/latest/docs/reference/config/security/authorization-policy/
"""

from dataclasses import dataclass

from isthmus.api.meta import Key
from isthmus.api.security import AuthorizationPolicySpec, Rule
from isthmus.api.shapes import LabelSelector, PolicyTargetReference
from isthmus.engine import Reader
from isthmus.mesh import proxies, world
from isthmus.mesh.model import Labels, has_labels, labels_of

KIND = "AuthorizationPolicy"
DRY_RUN_ANNOTATION = "istio.io/dry-run"
"""`true`: the policy is counted and logged, and refuses nothing."""
GATEWAY_NAME_LABEL = "gateway.networking.k8s.io/gateway-name"
"""On the workload of a gateway: policies are attached to it by this name."""
_GATEWAY_GROUP = "gateway.networking.k8s.io"
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})


@dataclass(frozen=True, slots=True)
class Policy:
    """One AuthorizationPolicy that a proxy enforces."""

    key: Key
    action: str
    rules: tuple[Rule, ...]
    dry_run: bool = False


def enforced(q: Reader, workload: Key) -> tuple[Policy, ...]:
    """The policies that the proxy of a workload enforces."""
    return q(policies_for, workload.namespace, q(proxies.labels, workload))


def policies_for(q: Reader, namespace: str, labels: Labels) -> tuple[Policy, ...]:
    """The policies that a proxy in front of a workload with these labels enforces."""
    root = q(world.settings).root_namespace
    return tuple(
        policy
        for place in dict.fromkeys((root, namespace))
        for key in q(by_age, place)
        if q(concerns, key, namespace, labels) and (policy := q(_policy, key))
    )


def by_age(q: Reader, namespace: str) -> tuple[Key, ...]:
    """The AuthorizationPolicies of a namespace, the oldest first."""
    return tuple(sorted(world.keys(q, KIND, namespace), key=lambda key: q(world.seniority, key)))


def concerns(q: Reader, key: Key, namespace: str, labels: Labels) -> bool:
    """Whether a policy is about workloads of this namespace with these labels."""
    spec = world.spec(q, key, AuthorizationPolicySpec)
    if spec is None or key.namespace not in (namespace, q(world.settings).root_namespace):
        return False
    references = spec.target_refs or ((spec.target_ref,) if spec.target_ref else ())
    return is_about(spec.selector, references, labels, own=key.namespace == namespace)


def is_about(
    selector: LabelSelector | None,
    references: tuple[PolicyTargetReference, ...],
    labels: Labels,
    *,
    own: bool,
) -> bool:
    """Whether a policy with this selector, or attached to these resources, is about a workload.

    `own` says whether both are in one namespace. References mean gateways by name, and nothing else: a
    sidecar does not obey a policy that has any.
    """
    if references:
        gateway = dict(labels).get(GATEWAY_NAME_LABEL)
        return own and any(
            (each.group, each.kind, each.name) == (_GATEWAY_GROUP, "Gateway", gateway) for each in references
        )
    return selector is None or has_labels(labels, labels_of(selector.match_labels))


def _policy(q: Reader, key: Key) -> Policy | None:
    fact, spec = world.fact(q, key), world.spec(q, key, AuthorizationPolicySpec)
    if fact is None or spec is None:
        return None
    return Policy(key, spec.action, spec.rules, fact.annotations.get(DRY_RUN_ANNOTATION) in _TRUE)

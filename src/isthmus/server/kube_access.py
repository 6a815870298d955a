"""Who am I, what may I do? -> the user of the request, and the same roles, asked beforehand.

SelfSubjectReview, SelfSubjectAccessReview and SelfSubjectRulesReview.

https://kubernetes.io/docs/reference/kubernetes-api/authorization-resources/
"""

from collections.abc import Mapping
from typing import Any

from isthmus.api.kinds import KINDS, Kind, kind_by_plural
from isthmus.server.roles import READING, Act, User, allowed
from isthmus.server.status_errors import bad_request

_VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")


def subject_review(user: User) -> dict[str, Any]:
    """Who makes the request, with their roles."""
    roles = [f"{grant.role} in {grant.namespace}" if grant.namespace else grant.role for grant in user.grants]
    extra = {"extra": {"isthmus.dev/role": roles}} if roles else {}
    return {
        "kind": "SelfSubjectReview",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"creationTimestamp": None},
        "status": {"userInfo": {"username": user.name, "groups": ["system:authenticated"], **extra}},
    }


def review(document: Any, user: User) -> dict[str, Any]:
    """The review with its answer."""
    spec = _spec(document)
    asked = spec.get("resourceAttributes")
    if isinstance(asked, Mapping):
        fine = _resource_allowed({name: str(value) for name, value in asked.items()}, user)
    elif isinstance(spec.get("nonResourceAttributes"), Mapping):
        fine = user.is_admin or spec["nonResourceAttributes"].get("verb") == "get"
    else:
        raise bad_request("spec has neither resourceAttributes nor nonResourceAttributes")
    status = {"allowed": fine} if fine else {"allowed": False, "reason": "no role of the user allows it"}
    return {
        "kind": "SelfSubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": {},
        "spec": spec,
        "status": status,
    }


def rules_review(document: Any, user: User) -> dict[str, Any]:
    """What the user may do in one namespace."""
    spec = _spec(document)
    namespace = str(spec.get("namespace") or "")
    rules = []
    for kind in KINDS.values():
        where = namespace if kind.namespaced else ""
        verbs = [verb for verb in _VERBS if allowed(user, Act(verb, kind, where))]
        if verbs:
            rules.append({"verbs": verbs, "apiGroups": [kind.group], "resources": [kind.plural]})
    return {
        "kind": "SelfSubjectRulesReview",
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": {},
        "spec": spec,
        "status": {"resourceRules": rules, "nonResourceRules": [], "incomplete": False},
    }


def _spec(document: Any) -> dict[str, Any]:
    spec = document.get("spec") if isinstance(document, Mapping) else None
    if not isinstance(spec, dict):
        raise bad_request("the body of the request has no spec")
    return spec


def _resource_allowed(asked: Mapping[str, str], user: User) -> bool:
    verb, group, plural = asked.get("verb", ""), asked.get("group", ""), asked.get("resource", "")
    if user.is_admin:
        return True
    if verb not in {*_VERBS, *READING} or plural == "*":
        return False
    kind: Kind | None = kind_by_plural(group, plural)
    if kind is None:
        return False
    namespace = asked.get("namespace", "") if kind.namespaced else ""
    act = Act(verb, kind, namespace, asked.get("name", ""), asked.get("subresource") == "status")
    return allowed(user, act)

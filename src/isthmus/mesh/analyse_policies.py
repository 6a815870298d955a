"""AuthorizationPolicies among all other objects -> what their authors should know.

A policy that is about nobody; conditions on requests where the workload's port is not read as HTTP.
"""

from isthmus.api.meta import Key, Problem
from isthmus.api.security import AuthorizationPolicySpec, Rule
from isthmus.engine import Reader
from isthmus.mesh import authorization, proxies, scope_inbound, workloads, world
from isthmus.mesh.model import labels_of

_NAMED_PORTS = 3
"""So many ports a warning names; there may be thousands."""


def of_authorization_policy(q: Reader, key: Key) -> tuple[Problem, ...]:
    """The problems of an AuthorizationPolicy among all other objects."""
    spec = world.spec(q, key, AuthorizationPolicySpec)
    if spec is None:
        return ()
    about = q(_about, key)
    if not about:
        return _about_nobody(key, spec)
    mute = [number for number, rule in enumerate(spec.rules) if asks_of_requests(rule)]
    ports = q(_unread, about) if mute else ()
    if not ports:
        return ()
    named = ", ".join(f"port {number} of {workload}" for workload, number in ports[:_NAMED_PORTS])
    more = f" and {len(ports) - _NAMED_PORTS} more" if len(ports) > _NAMED_PORTS else ""
    means = "lets nothing through there" if spec.action == "ALLOW" else "is for every request there"
    text = f"requests are not read at {named}{more}: a rule that asks about them {means}"
    hint = "name the ports that it is about in to[].operation.ports, or name the port's protocol http"
    return tuple(Problem(f"spec.rules[{number}]", text, hint, "warning") for number in mute)


def asks_of_requests(rule: Rule) -> bool:
    """Whether a rule has conditions that only requests can meet, and does not say for which ports it is."""
    operations = [each.operation for each in rule.to if each.operation]
    if operations and all(each.ports for each in operations):
        return False
    return (
        any(
            o.hosts or o.not_hosts or o.methods or o.not_methods or o.paths or o.not_paths for o in operations
        )
        or any(
            each.source.request_principals or each.source.not_request_principals
            for each in rule.from_
            if each.source
        )
        or any(when.key.startswith("request.") for when in rule.when)
    )


def _about(q: Reader, key: Key) -> tuple[Key, ...]:
    """The workloads with a proxy that a policy is about."""
    root = q(world.settings).root_namespace
    places = q(world.namespaces, workloads.KIND) if key.namespace == root else (key.namespace,)
    return tuple(
        workload
        for place in places
        for workload in world.keys(q, workloads.KIND, place)
        if q(authorization.concerns, key, place, q(proxies.labels, workload))
    )


def _unread(q: Reader, about: tuple[Key, ...]) -> tuple[tuple[Key, int], ...]:
    """The declared ports of these workloads that are not read as HTTP."""
    return tuple(
        (workload, one.number)
        for workload in about
        if not q(proxies.is_gateway, workload)
        for one in q(scope_inbound.served, workload)
        if not one.protocol.may_be_http
    )


def _about_nobody(key: Key, spec: AuthorizationPolicySpec) -> tuple[Problem, ...]:
    if spec.target_refs or spec.target_ref:
        text = f"no gateway of namespace {key.namespace} has one of these names"
        hint = f"a gateway has the name that its workload's label {authorization.GATEWAY_NAME_LABEL} says"
        return (Problem("spec.targetRefs", text, hint, "warning"),)
    if spec.selector is None or not spec.selector.match_labels:
        return ()
    wanted = ", ".join(f"{name}={value}" for name, value in labels_of(spec.selector.match_labels))
    text = f"no WorkloadEntry in namespace {key.namespace} has the labels {wanted}"
    return (Problem("spec.selector", text, "compare with the labels of its WorkloadEntries", "warning"),)

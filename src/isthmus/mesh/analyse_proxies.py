"""All proxies together -> what the authors of services, Sidecars, mTLS rules and mesh settings should know.

every proxy's scope --plan--> places on listeners that were lost     by the object that lost
every proxy --conflicts--> ports on which services disagree
"""

from collections.abc import Iterable, Iterator, Mapping

from isthmus.api.meta import Key, Problem
from isthmus.api.networking.sidecar import SidecarSpec
from isthmus.engine import Reader
from isthmus.mesh import (
    policy,
    proxies,
    scope,
    scope_hosts,
    scope_inbound,
    services,
    settings,
    workloads,
    world,
)
from isthmus.mesh.model import Labels, MtlsMode, Scope, has_labels
from isthmus.mesh.routing_problems import near
from isthmus.mesh.scope_listeners import Loss, plan


def of_service(q: Reader, key: Key) -> tuple[Problem, ...]:
    """The ports of a Service or ServiceEntry of which others say something else."""
    return tuple(
        _warning(
            "spec.ports",
            f"port {shared.number} of {workload} speaks {shared.counts.value}, as {shared.winner} says, "
            f"which is older; this one says {shared.said.value}",
            "name the protocol alike in both",
        )
        for workload, shared in q(_disagreements, key)
    )


def losses(q: Reader) -> Mapping[Key, tuple[Problem, ...]]:
    """What Services and ServiceEntries lost to others, as far as they did."""
    found: dict[Key, dict[Loss, None]] = {}
    for each in q(_scopes):
        for loss in q(plan, each).losses:
            found.setdefault(loss.loser, {})[loss] = None
    return {key: tuple(_lost(q, key, loss) for loss in lost) for key, lost in found.items()}


def rehearsal(q: Reader) -> Iterator[None]:
    """Asks for what `losses` is made of, one thing about everything between one yield and the next."""
    for each in q(_scopes):
        q(scope.offered, each.namespace)
        yield
        q(scope.egress, each)
        yield
        q(plan, each)
        yield


def _lost(q: Reader, key: Key, loss: Loss) -> Problem:
    return _warning(
        _port_field(q, key, loss.port),
        f"{loss.host}:{loss.port} has no place on listener {loss.listener}, which {loss.winner} has: "
        f"{loss.reason}",
        "give one of them an address of its own, or another port",
    )


def of_sidecar(q: Reader, key: Key) -> tuple[Problem, ...]:
    """The problems of a Sidecar among all other objects."""
    spec = world.spec(q, key, SidecarSpec)
    if spec is None:
        return ()
    found = [*_of_selection(q, key)]
    for i, listener in enumerate(spec.egress):
        for j, text in enumerate(listener.hosts):
            hint = _unmatched(q, key, text)
            if hint is not None:
                field = f"spec.egress[{i}].hosts[{j}]"
                found.append(_warning(field, f"no service is named by {text}", hint))
    seen: dict[int, int] = {}
    for i, ingress in enumerate(spec.ingress):
        number = ingress.port.number if ingress.port else 0
        first = seen.setdefault(number, i)
        if number and first != i:
            field = f"spec.ingress[{i}].port.number"
            found.append(_warning(field, f"port {number} is taken by spec.ingress[{first}], which counts"))
    return tuple(found)


def of_peer_authentication(q: Reader, key: Key) -> tuple[Problem, ...]:
    """The problems of a PeerAuthentication among all other objects."""
    rules = q(policy.peer_rules, key.namespace)
    own = next((rule for rule in rules if rule.key == key), None)
    if own is None:
        return ()
    root = q(world.settings).root_namespace
    if own.selector and key.namespace == root:
        text = (
            "rules of the root namespace are about the whole mesh: with a selector this one counts for nobody"
        )
        return (_warning("spec.selector", text, "put it into the namespace of the workloads"),)
    if own.selector:
        if not any(has_labels(q(proxies.labels, w), own.selector) for w in _workloads(q, key.namespace)):
            wanted = ", ".join(f"{name}={value}" for name, value in own.selector)
            text = f"no WorkloadEntry in namespace {key.namespace} has the labels {wanted}"
            return (_warning("spec.selector", text),)
        by_age = [(rule.key, rule.selector) for rule in rules if rule.selector]
        return tuple(_overlaps(q, key, by_age, "spec.selector.matchLabels"))
    found = []
    older = next(rule for rule in rules if not rule.selector)
    if older.key != key:
        text = f"{older.key} is older and says the mode of the namespace; this one counts for nobody"
        found.append(_warning("spec", text, "keep one of them"))
    if any(mode is not MtlsMode.PERMISSIVE for _, mode in own.by_port):
        text = "modes of ports count only together with a selector"
        found.append(_warning("spec.portLevelMtls", text, "name the workloads in spec.selector"))
    return tuple(found)


def of_mesh_config(q: Reader, key: Key) -> tuple[Problem, ...]:
    """Whether a MeshConfig is the one that counts."""
    root = q(world.settings).root_namespace
    if (key.namespace, key.name) == (root, settings.NAME):
        return ()
    text = f"only the MeshConfig {settings.NAME} of namespace {root} counts"
    return (_warning("metadata", text, "put the settings into that one"),)


# Sidecars


def _of_selection(q: Reader, key: Key) -> Iterable[Problem]:
    wanted = q(scope.selector_of, key)
    if wanted is None:
        others = (k for k in q(scope.sidecars, key.namespace) if q(scope.selector_of, k) is None)
        older = next(others)
        if older != key:
            text = f"{older} is older and is the Sidecar of the namespace; this one counts for nobody"
            yield _warning("spec", text, "give it a workloadSelector, or keep one of them")
        return
    if not any(has_labels(q(proxies.labels, workload), wanted) for workload in _workloads(q, key.namespace)):
        labels = ", ".join(f"{name}={value}" for name, value in wanted)
        text = f"no WorkloadEntry in namespace {key.namespace} has the labels {labels}"
        yield _warning("spec.workloadSelector.labels", text)
    own = ((each, q(scope.selector_of, each)) for each in q(scope.sidecars, key.namespace))
    by_age = [(each, labels) for each, labels in own if labels is not None]
    yield from _overlaps(q, key, by_age, "spec.workloadSelector.labels")


def _overlaps(q: Reader, key: Key, by_age: list[tuple[Key, Labels]], field: str) -> Iterable[Problem]:
    """Workloads that an older object of the kind selects as well."""
    mine = dict(by_age)[key]
    before = by_age[: by_age.index((key, mine))]
    lost: dict[Key, list[str]] = {}
    for workload in _workloads(q, key.namespace):
        labels = q(proxies.labels, workload)
        first = next((other for other, wanted in before if has_labels(labels, wanted)), None)
        if first and has_labels(labels, mine):
            lost.setdefault(first, []).append(workload.name)
    for other, names in lost.items():
        text = f"{other} is older and is about {', '.join(names[:3])} as well: this one does not count there"
        yield _warning(field, text, "let them select different workloads, or put both into one")


def _unmatched(q: Reader, key: Key, text: str) -> str | None:
    """A hint when `namespace/host` names nothing; None when it does, or when it need not."""
    namespace, _, host = text.partition("/")
    if host in ("", "*") or namespace.startswith(scope_hosts.NOT):
        return None
    if key.namespace == q(world.settings).root_namespace and namespace == scope_hosts.OWN:
        return None  # each namespace has its own
    named = scope_hosts.parse((text,), key.namespace)
    for known in q(services.hosts):
        for claim in q(services.claims_of, known):
            if scope_hosts.names_service(named, claim.namespace, known):
                return None
    return near(q, host)


# who lost


def _scopes(q: Reader) -> tuple[Scope, ...]:
    """The scopes of all registered sidecars."""
    found: dict[Scope, None] = {}
    for namespace in q(world.namespaces, workloads.KIND):
        for workload in _workloads(q, namespace):
            one = q(scope.scope_of, workload)
            if one is not None and not one.router:
                found[one] = None
    return tuple(found)


def _disagreements(q: Reader, key: Key) -> tuple[tuple[Key, scope_inbound.Shared], ...]:
    """The workloads on which a service does not get its word."""
    declared = q(services.declared, key)
    selector = declared[0].selector if declared else ()
    return tuple(
        (workload, shared)
        for workload in q(workloads.selected, key.namespace, selector)
        if workload.kind == workloads.KIND
        for shared in q(scope_inbound.conflicts, workload)
        if shared.loser == key
    )


def _workloads(q: Reader, namespace: str) -> tuple[Key, ...]:
    return world.keys(q, workloads.KIND, namespace)


def _port_field(q: Reader, key: Key, number: int) -> str:
    for service in q(services.declared, key):
        for i, port in enumerate(service.ports):
            if port.number == number:
                return f"spec.ports[{i}]"
    return "spec.ports"


def _warning(field: str, text: str, hint: str = "") -> Problem:
    return Problem(field, text, hint, "warning")

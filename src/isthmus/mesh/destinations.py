"""DestinationRules -> subsets and traffic policy of a host, as one caller obeys them.

    caller's namespace, else the service's, else the root namespace --rules_for--> keys of rules
    keys --subsets, policy--> values that every scope with the same rules shares

In the first of these namespaces that says anything, the most specific host counts. Rules there that are alike
count as one: the oldest says the policy, each adds subsets.
https://istio.io/latest/docs/reference/config/networking/destination-rule/
"""

from collections.abc import Mapping
from dataclasses import dataclass

from isthmus.api.meta import Key
from isthmus.api.networking.destination_rule import (
    ClientTLSSettings,
    ConnectionPoolSettings,
    DestinationRuleSpec,
    LoadBalancerSettings,
    OutlierDetection,
    PortTrafficPolicy,
    ProxyProtocol,
    RetryBudget,
    TrafficPolicy,
    TunnelSettings,
)
from isthmus.api.networking.destination_rule import Subset as SubsetSpec
from isthmus.engine import Reader
from isthmus.mesh import services, world
from isthmus.mesh.hosts import most_specific
from isthmus.mesh.model import Labels, Subset, has_labels, labels_of

KIND = "DestinationRule"
_PRIVATE = frozenset({"."})
_PUBLIC = "*"


@dataclass(frozen=True, slots=True)
class Policy:
    """How callers treat one port of a host, or of a subset of it."""

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    tunnel: TunnelSettings | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a rule is about: a host (or wildcard), and callers by exportTo and (None: all) by labels."""

    host: str
    export_to: frozenset[str]
    selector: Labels | None

    def is_private(self, own: str) -> bool:
        """Whether only callers of its own namespace obey the rule."""
        return self.export_to in (_PRIVATE, frozenset({own}))


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules that count as one, the oldest first."""

    keys: tuple[Key, ...]
    export_to: frozenset[str]
    selector: Labels | None


# which rules


def rules_for(q: Reader, viewer: str, host: str, labels: Labels = (), owner: str = "") -> tuple[Key, ...]:
    """The DestinationRules that callers in namespace `viewer` obey towards a host, the oldest first.

    `labels` are the callers'. `owner` is the namespace of the service, where it is known.
    """
    chosen: tuple[Key, ...] = ()
    for found in q(rule_sets, viewer, host, owner):
        if found.selector is None:
            chosen = found.keys
        elif found.keys[0].namespace == viewer and has_labels(labels, found.selector):
            return found.keys
    return chosen


def rule_sets(q: Reader, viewer: str, host: str, owner: str) -> tuple[RuleSet, ...]:
    """The sets of rules of which callers in namespace `viewer` obey one towards a host."""
    root = q(world.settings).root_namespace
    own = most_specific(q(_by_host, viewer, "private" if viewer == root else "own"), host)
    if own:
        return own
    service = None if owner else q(services.service, host)
    for namespace in dict.fromkeys((owner or (service.namespace if service else ""), root)):
        seen = [
            found
            for found in most_specific(q(_by_host, namespace, "exported"), host) or ()
            if not found.export_to or found.export_to & {_PUBLIC, viewer}
        ]
        if seen:
            return tuple(seen)
    return ()


def _by_host(q: Reader, namespace: str, whose: str) -> Mapping[str, tuple[RuleSet, ...]]:
    """The rules of a namespace by host: for its `own` callers, those `exported`, or the `private` ones."""
    found: dict[str, list[RuleSet]] = {}
    defaults = q(world.settings).destination_rule_export_to
    for key in q(_by_age, namespace):
        said = q(subject, key)
        if said is None:
            continue
        private = said.is_private(namespace) or (not said.export_to and "." in defaults)
        mine = not said.export_to or bool(said.export_to & {_PUBLIC, ".", namespace})
        if {"own": mine, "exported": not private, "private": private}[whose]:
            _add(found.setdefault(said.host, []), key, said)
    return {host: tuple(sets) for host, sets in found.items()}


def _add(sets: list[RuleSet], key: Key, said: Subject) -> None:
    """Adds a rule to the sets that it is like; it stands for itself when there is none."""
    alone = True
    for i, held in enumerate(sets):
        wider = bool(held.export_to) and said.export_to >= held.export_to
        if said.selector == held.selector and (said.export_to == held.export_to or wider):
            sets[i] = RuleSet((*held.keys, key), held.export_to, held.selector)
            alone = False
    if alone:
        sets.append(RuleSet((key,), said.export_to, said.selector))


def _by_age(q: Reader, namespace: str) -> tuple[Key, ...]:
    def rank(key: Key) -> tuple[bool, tuple[str, str, str]]:
        said = q(subject, key)
        return said is None or said.selector is None, q(world.seniority, key)

    return tuple(sorted(world.keys(q, KIND, namespace), key=rank))


def subject(q: Reader, key: Key) -> Subject | None:
    """Whom a rule is about."""
    spec = world.spec(q, key, DestinationRuleSpec)
    if spec is None or not spec.host:
        return None
    selector = labels_of(spec.workload_selector.match_labels) if spec.workload_selector else None
    export_to = frozenset(spec.export_to) if selector is None else _PRIVATE
    return Subject(services.resolve(q, spec.host, key.namespace), export_to, selector)


def host_of(q: Reader, key: Key) -> str:
    """The host (or wildcard) that a rule is about."""
    said = q(subject, key)
    return said.host if said else ""


def sets_in(q: Reader, namespace: str, host: str, viewer: str) -> tuple[RuleSet, ...]:
    """What the rules of one namespace for exactly this host (or wildcard) are to callers in `viewer`.

    Of those for all workloads the last counts, of those for some the first.
    """
    found = q(_by_host, namespace, "own" if viewer == namespace else "exported").get(host, ())
    return tuple(
        each
        for each in found
        if viewer == namespace or not each.export_to or each.export_to & {_PUBLIC, viewer}
    )


# what they say


def subsets(q: Reader, rules: tuple[Key, ...]) -> tuple[Subset, ...]:
    """The subsets that the rules define, by name; of two with one name, the older rule's counts."""
    return tuple(q(_subset_index, rules).values())


def subset(q: Reader, rules: tuple[Key, ...], name: str) -> Subset | None:
    """One subset; the empty name is the whole host."""
    return q(_subset_index, rules).get(name) if name else Subset("", ())


def _subset_index(q: Reader, rules: tuple[Key, ...]) -> Mapping[str, Subset]:
    specs = q(_subset_specs, rules)
    return {name: Subset(name, labels_of(spec.labels)) for name, spec in sorted(specs.items())}


def _subset_specs(q: Reader, rules: tuple[Key, ...]) -> Mapping[str, SubsetSpec]:
    found: dict[str, SubsetSpec] = {}
    for key in rules:
        spec = world.spec(q, key, DestinationRuleSpec)
        for said in spec.subsets if spec else ():
            found.setdefault(said.name, said)
    return found


def policy(q: Reader, rules: tuple[Key, ...], subset: str, port: int) -> Policy:
    """The traffic policy of one port of a host or of its subset.

    A section of a subset replaces the host's. Settings of a port replace everything, and inherit nothing.
    """
    wide = q(_wide_policy, rules)
    named = q(_subset_specs, rules).get(subset) if subset else None
    base = _at_port(wide, port)[0]
    if named is None or named.traffic_policy is None:
        return base
    narrow, is_port = _at_port(named.traffic_policy, port)
    return Policy(
        load_balancer=narrow.load_balancer or (None if is_port else base.load_balancer),
        connection_pool=narrow.connection_pool or (None if is_port else base.connection_pool),
        outlier_detection=narrow.outlier_detection or (None if is_port else base.outlier_detection),
        tls=narrow.tls or (None if is_port else base.tls),
        tunnel=narrow.tunnel or base.tunnel,
        proxy_protocol=narrow.proxy_protocol or base.proxy_protocol,
        retry_budget=narrow.retry_budget or base.retry_budget,
    )


def _wide_policy(q: Reader, rules: tuple[Key, ...]) -> TrafficPolicy | None:
    specs = (world.spec(q, key, DestinationRuleSpec) for key in rules)
    return next((spec.traffic_policy for spec in specs if spec and spec.traffic_policy), None)


def _at_port(said: TrafficPolicy | None, port: int) -> tuple[Policy, bool]:
    """What a policy says of a port, and whether that are settings of the port itself."""
    if said is None:
        return Policy(), False
    at_port = next((s for s in said.port_level_settings if s.port and s.port.number == port), None)
    level: TrafficPolicy | PortTrafficPolicy = at_port or said
    return (
        Policy(
            load_balancer=level.load_balancer,
            connection_pool=level.connection_pool,
            outlier_detection=level.outlier_detection,
            tls=level.tls,
            tunnel=None if at_port else said.tunnel,
            proxy_protocol=None if at_port else said.proxy_protocol,
            retry_budget=None if at_port else said.retry_budget,
        ),
        at_port is not None,
    )


def has_selector(q: Reader, rules: tuple[Key, ...]) -> bool:
    """Whether the rules are for callers with certain labels only."""
    said = q(subject, rules[0]) if rules else None
    return said is not None and said.selector is not None


def failover_labels(q: Reader) -> frozenset[str]:
    """The names of callers' labels that some failoverPriority compares with those of endpoints."""
    mesh = q(world.settings).locality
    wide = {name.partition("=")[0] for name in (mesh.failover_priority if mesh else ())}
    return frozenset(wide.union(*(q(_failover_labels, key) for key in q(world.all_keys, KIND))))


def _failover_labels(q: Reader, key: Key) -> tuple[str, ...]:
    spec = world.spec(q, key, DestinationRuleSpec)
    if spec is None:
        return ()
    policies = [p for p in (spec.traffic_policy, *(s.traffic_policy for s in spec.subsets)) if p]
    balancers = [said.load_balancer for said in policies]
    balancers += [at_port.load_balancer for said in policies for at_port in said.port_level_settings]
    found: set[str] = set()
    for balancer in filter(None, balancers):
        for setting in (balancer.locality_lb_setting, balancer.zone_aware_lb_setting):
            found.update(name.partition("=")[0] for name in (setting.failover_priority if setting else ()))
    return tuple(sorted(found))

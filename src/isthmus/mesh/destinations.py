"""DestinationRules -> subsets and traffic policy of a host, as callers in one namespace obey them.

    caller's namespace, else the service's, else the root namespace --rules_for--> keys of rules
    keys --subsets, policy--> values that every scope with the same rules shares

Several rules of one namespace for one host count as one: the oldest says the policy, each adds subsets.
https://istio.io/latest/docs/reference/config/networking/destination-rule/
"""

from collections.abc import Mapping

from isthmus.api.meta import Key
from isthmus.api.networking.destination_rule import (
    DestinationRuleSpec,
    PortTrafficPolicy,
    TrafficPolicy,
)
from isthmus.api.networking.destination_rule import Subset as SubsetSpec
from isthmus.engine import Reader
from isthmus.mesh import services, world
from isthmus.mesh.hosts import exported, most_specific
from isthmus.mesh.model import Subset, labels_of

KIND = "DestinationRule"


def rules_for(q: Reader, viewer: str, host: str) -> tuple[Key, ...]:
    """The DestinationRules that callers in namespace `viewer` obey towards a host, the oldest first."""
    service = q(services.service, host)
    root = q(world.settings).root_namespace
    for namespace in dict.fromkeys((viewer, service.namespace if service else viewer, root)):
        found = most_specific(q(rules_by_host, namespace, viewer), host)
        if found:
            return found
    return ()


def rules_by_host(q: Reader, namespace: str, viewer: str) -> Mapping[str, tuple[Key, ...]]:
    """The rules of one namespace that `viewer` sees, by the host (or wildcard) they are about."""
    found: dict[str, list[Key]] = {}
    for key in sorted(world.keys(q, KIND, namespace), key=lambda key: q(world.seniority, key)):
        host, export_to = q(_subject, key)
        if host and exported(export_to, namespace, viewer):
            found.setdefault(host, []).append(key)
    return {host: tuple(keys) for host, keys in found.items()}


def host_of(q: Reader, key: Key) -> str:
    """The host (or wildcard) that a rule is about."""
    return q(_subject, key)[0]


def _subject(q: Reader, key: Key) -> tuple[str, tuple[str, ...]]:
    spec = world.spec(q, key, DestinationRuleSpec)
    return (services.resolve(q, spec.host, key.namespace), spec.export_to) if spec else ("", ())


def subsets(q: Reader, rules: tuple[Key, ...]) -> tuple[Subset, ...]:
    """The subsets that the rules define, by name; of two with one name, the older rule's counts."""
    found = {spec.name: labels_of(spec.labels) for spec in reversed(_subset_specs(q, rules))}
    return tuple(Subset(name, labels) for name, labels in sorted(found.items()))


def policy(q: Reader, rules: tuple[Key, ...], subset: str, port: int) -> PortTrafficPolicy:
    """The traffic policy of one port of a host or of its subset.

    A subset's section replaces the host's; a port's settings replace both, and inherit nothing.
    """
    specs = [world.spec(q, key, DestinationRuleSpec) for key in rules]
    wide = next((spec.traffic_policy for spec in specs if spec and spec.traffic_policy), None)
    named = next((s for s in _subset_specs(q, rules) if subset and s.name == subset), None)
    narrow = named.traffic_policy if named else None
    for said in (narrow, wide):
        at_port = _at_port(said, port)
        if at_port is not None:
            return at_port
    levels = [said for said in (narrow, wide) if said]
    return PortTrafficPolicy(
        load_balancer=next((said.load_balancer for said in levels if said.load_balancer), None),
        connection_pool=next((said.connection_pool for said in levels if said.connection_pool), None),
        outlier_detection=next((said.outlier_detection for said in levels if said.outlier_detection), None),
        tls=next((said.tls for said in levels if said.tls), None),
    )


def _at_port(said: TrafficPolicy | None, port: int) -> PortTrafficPolicy | None:
    settings = said.port_level_settings if said else ()
    return next((s for s in settings if s.port and s.port.number == port), None)


def _subset_specs(q: Reader, rules: tuple[Key, ...]) -> list[SubsetSpec]:
    specs = (world.spec(q, key, DestinationRuleSpec) for key in rules)
    return [subset for spec in specs if spec for subset in spec.subsets]

"""A DestinationRule among all other objects -> what its author should know."""

from collections.abc import Iterator

from isthmus.api.meta import Key, Problem
from isthmus.api.networking.destination_rule import DestinationRuleSpec
from isthmus.engine import Reader
from isthmus.mesh import destinations, endpoints, proxies, services, workloads, world
from isthmus.mesh.destinations import RuleSet
from isthmus.mesh.hosts import covers
from isthmus.mesh.model import Resolution, has_labels
from isthmus.mesh.routing_problems import near

_OTHERS = ""
"""A namespace that nobody names."""


def of_destination_rule(q: Reader, key: Key) -> tuple[Problem, ...]:
    """The problems of a DestinationRule."""
    spec = world.spec(q, key, DestinationRuleSpec)
    host = q(destinations.host_of, key)
    if spec is None:
        return ()
    matching = [known for known in q(services.hosts) if covers(host, known)]
    if not matching:
        return (_warning("spec.host", f"no service has the host {host}", near(q, host)),)
    found: list[Problem] = []
    if matching == [host]:
        found += _of_subsets(q, spec, host)
    found += _of_others(q, key, spec, host)
    return tuple(found)


# rules for the same host


def _of_others(q: Reader, key: Key, spec: DestinationRuleSpec, host: str) -> Iterator[Problem]:
    """What other rules of the namespace for the same host take from this one."""
    said = q(destinations.subject, key)
    if said is None:
        return
    if said.selector is not None:
        yield from _of_workloads(q, key, host)
    named = sorted(said.export_to - {"*", ".", "~"})
    lost_to: dict[Key, list[str]] = {}
    older: dict[Key, None] = {}
    for viewer in dict.fromkeys((key.namespace, *named, _OTHERS)):
        sets = q(destinations.sets_in, key.namespace, host, viewer)
        mine = [each for each in sets if key in each.keys]
        wide = [each for each in sets if each.selector is None]
        if not mine:
            continue
        if said.selector is None and key not in wide[-1].keys:
            lost_to.setdefault(wide[-1].keys[0], []).append(viewer)
        older.update(dict.fromkeys(other for other in mine[-1].keys[: mine[-1].keys.index(key)]))
    for other, viewers in lost_to.items():
        whom = ", ".join(viewer or "other namespaces" for viewer in viewers)
        text = f"{other} is about {host} as well, with another exportTo, and counts for callers of {whom}"
        hint = "give both the same exportTo, or put them into one DestinationRule"
        yield _warning("spec.exportTo", f"{text}: nothing of this one is used there", hint)
    yield from _of_older(q, tuple(older), spec, host)


def _of_older(q: Reader, older: tuple[Key, ...], spec: DestinationRuleSpec, host: str) -> Iterator[Problem]:
    """What rules that count together with this one, and before it, have said already."""
    before = [(other, said) for other in older if (said := world.spec(q, other, DestinationRuleSpec))]
    holder = next((other for other, said in before if said.traffic_policy), None)
    if holder and spec.traffic_policy:
        text = f"{holder} is older and says the traffic policy of {host}; this one's is not used"
        yield _warning("spec.trafficPolicy", text, "put the policy into one DestinationRule")
    names = {subset.name: other for other, said in reversed(before) for subset in said.subsets}
    for i, subset in enumerate(spec.subsets):
        if subset.name in names:
            text = f"{names[subset.name]} is older and defines subset {subset.name} of {host}"
            hint = "give it another name, or define it in one DestinationRule"
            yield _warning(f"spec.subsets[{i}].name", f"{text}; this one's is not used", hint)


def _of_workloads(q: Reader, key: Key, host: str) -> Iterator[Problem]:
    """Workloads that another rule with a selector is about as well."""
    sets = [s for s in q(destinations.sets_in, key.namespace, host, key.namespace) if s.selector is not None]
    lost: dict[Key, list[str]] = {}
    for workload in world.keys(q, workloads.KIND, key.namespace):
        labels = q(proxies.labels, workload)
        fitting: list[RuleSet] = [s for s in sets if has_labels(labels, s.selector or ())]
        if any(key in s.keys for s in fitting) and key not in fitting[0].keys:
            lost.setdefault(fitting[0].keys[0], []).append(workload.name)
    for other, names in lost.items():
        text = f"{other} is about {host} and {', '.join(names[:3])} as well, and counts there"
        yield _warning(
            "spec.workloadSelector", f"{text}: this one does not", "let them select different workloads"
        )


# subsets


def _of_subsets(q: Reader, spec: DestinationRuleSpec, host: str) -> list[Problem]:
    service = q(services.service, host)
    if service is None or service.resolution is not Resolution.ENDPOINTS:
        return []
    found = []
    for i, subset in enumerate(spec.subsets):
        labels = tuple(sorted(subset.labels.items()))
        if not any(q(endpoints.endpoints, host, port.number, labels) for port in service.ports):
            wanted = ", ".join(f"{name}={value}" for name, value in labels)
            text = f"no endpoint of {host} has the labels {wanted}: subset {subset.name} is empty"
            found.append(
                _warning(f"spec.subsets[{i}]", text, "compare with the labels of its WorkloadEntries")
            )
    return found


def _warning(field: str, text: str, hint: str = "") -> Problem:
    return Problem(field, text, hint, "warning")

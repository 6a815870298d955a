"""Rules that several kinds share -> problems: forms of text, labels, durations, selectors, exportTo.

Texts begin as Kubernetes' own do (`Invalid value: …`, `Required value`, `Duplicate value: …`): people and
programs know them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from isthmus.api.duration import parse_duration
from isthmus.api.fields import path
from isthmus.api.meta import Model, Problem
from isthmus.api.mistakes import REQUIRED
from isthmus.api.shapes import LabelSelector, PolicyTargetReference, WorkloadSelector
from isthmus.api.syntax import istio_label, label_key, label_value, tag_key, tag_value

_LONGEST_SHOWN, _MOST_LISTED = 128, 8
_SHORTEST_S = 0.001
_TARGETS = {
    ("", "Service"),
    ("core", "Service"),
    ("networking.istio.io", "ServiceEntry"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
}


def has(model: Model, *names: str) -> bool:
    """Whether any of the fields was written, whatever its value."""
    written = model.model_fields_set
    for name in names:
        if name in written and getattr(model, name) is not None:
            return True
    return False


def wrong(field: str, seen: object, fault: str, hint: str = "") -> Iterator[Problem]:
    """A problem with a value, when there is a fault."""
    if fault:
        shown = f'"{short(seen)}"' if isinstance(seen, str) else seen
        yield Problem(field, f"Invalid value: {shown}: {fault}", hint)


def short(text: str) -> str:
    """A text that is fit for a message: problems must stay small however large the object is."""
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def listed(texts: Iterable[str]) -> str:
    """The first of many texts."""
    *first, more = [*map(short, islice(texts, _MOST_LISTED + 1)), ""][: _MOST_LISTED + 1]
    return ", ".join([*filter(None, first), *(["…"] if more else [])])


def conflict(field: str, text: str, hint: str = "") -> Problem:
    """Fields of an object that do not go together."""
    return Problem(field, f'Invalid value: "object": {text}', hint)


def missing(field: str, text: str = "", hint: str = "") -> Problem:
    """A field that must be there."""
    return Problem(field, f"{REQUIRED}: {text}" if text else REQUIRED, hint)


def warning(field: str, text: str, hint: str = "") -> Problem:
    """Something that is let in and told."""
    return Problem(field, text, hint, severity="warning")


def labels(field: str, value_by_key: Mapping[str, str]) -> Iterator[Problem]:
    """Labels that Kubernetes would not take."""
    for key, value in value_by_key.items():
        yield from wrong(field, key, label_key(key))
        if fault := label_value(value):
            yield from wrong(path(field, [key]), value, fault)


def tags(field: str, value_by_key: Mapping[str, str]) -> Iterator[Problem]:
    """Labels inside an Istio spec."""
    for key, value in value_by_key.items():
        yield from wrong(field, key, tag_key(key))
        if fault := tag_value(value):
            yield from wrong(path(field, [key]), value, fault)


def plain_selector(field: str, value_by_key: Mapping[str, str]) -> Iterator[Problem]:
    """The selector of a Kubernetes Service: wildcards would be read as they are."""
    for key, value in value_by_key.items():
        yield from labels(field, {key: value})


def workload_selector(field: str, selector: WorkloadSelector | None) -> Iterator[Problem]:
    """Istio's networking selector."""
    if selector is None:
        return
    yield from _exact(f"{field}.labels", selector.labels, "wildcard is not supported in selector")
    if not selector.labels:
        text = "workload selector specified without labels, will be applied to all services in namespace"
        yield warning(field, text)


def label_selector(field: str, selector: LabelSelector | None) -> Iterator[Problem]:
    """Istio's policy selector."""
    if selector is None:
        return
    yield from _exact(
        f"{field}.matchLabels", selector.match_labels, "wildcard not allowed in label value match"
    )
    if not selector.match_labels:
        yield warning(field, "workload selector specified without labels: it selects the whole namespace")


def _exact(field: str, value_by_key: Mapping[str, str], wildcard: str) -> Iterator[Problem]:
    for key, value in value_by_key.items():
        if not key:
            yield Problem(field, f'Invalid value: "={value}": key must not be empty in selector')
        if "*" in key:
            yield Problem(
                field,
                f'Invalid value: "{key}": wildcard not allowed in label key match: not supported in selector',
            )
        if "*" in value:
            yield from wrong(path(field, [key]), value, f"{wildcard}: {key}={value}")


def attachment(spec: Model) -> Iterator[Problem]:
    """What a policy is attached to: `selector`, `targetRef` or `targetRefs`, only one of them."""
    selector: LabelSelector | None = getattr(spec, "selector", None)
    target: PolicyTargetReference | None = getattr(spec, "target_ref", None)
    targets: Sequence[PolicyTargetReference] = getattr(spec, "target_refs", ())
    if sum((has(spec, "selector"), has(spec, "target_ref"), has(spec, "target_refs"))) > 1:
        yield conflict("spec", "only one of targetRefs or selector can be set")
    yield from label_selector("spec.selector", selector)
    if target is not None:
        yield from _target("spec.targetRef", target)
    for index, one in enumerate(targets):
        yield from _target(f"spec.targetRefs[{index}]", one)


def _target(at: str, target: PolicyTargetReference) -> Iterator[Problem]:
    if target.namespace:
        text = "cross namespace referencing is not currently supported"
        yield from wrong(f"{at}.namespace", target.namespace, text)
    if (target.group, target.kind) not in _TARGETS:
        text = "targetRef must be to one of Service, ServiceEntry, Gateway, GatewayClass"
        yield from wrong(at, f"{target.group}/{target.kind}", text)


def duration(field: str, text: str | None) -> Iterator[Problem]:
    """Istio's durations are whole milliseconds, at least one."""
    if text is None:
        return
    seconds = parse_duration(text)
    if seconds < _SHORTEST_S:
        yield from at_least_a_millisecond(field, text)
    elif abs(seconds * 1e3 - round(seconds * 1e3)) > 1e-6:
        yield from wrong(field, text, "only durations to ms precision are supported")


def at_least_a_millisecond(field: str, text: str | None) -> Iterator[Problem]:
    """What the schemas ask of durations; where rules do not look, parts of milliseconds may be given."""
    if text is not None and parse_duration(text) < _SHORTEST_S:
        yield from wrong(
            field, text, "must be a valid duration greater than 1ms", "leave it out for the default"
        )


def port(field: str, number: int) -> Iterator[Problem]:
    """A port number, where the type does not say so."""
    if not 1 <= number <= 65535:
        yield from wrong(
            field, number, "port must be between 1-65535: port number must be in the range 1..65535"
        )


def port_name(field: str, name: str) -> Iterator[Problem]:
    """The name of a port."""
    yield from wrong(field, name, f"invalid port name: {fault}" if (fault := istio_label(name)) else "")


def share(field: str, value: float, what: str) -> Iterator[Problem]:
    """A percentage."""
    if not 0 <= value <= 100:
        bound = "max value of 100" if value > 100 else "min value of 0"
        yield from wrong(field, value, f"{what} must have a {bound}: it is not in range 0..100")


def duplicates(field: str, values: Iterable[object], what: str) -> Iterator[Problem]:
    """Values of which there may be only one each."""
    seen = set()
    for value in values:
        if value in seen:
            shown = f'"{short(value)}"' if isinstance(value, str) else value
            yield Problem(field, f"Duplicate value: {shown}: {what}")
        seen.add(value)


def export_to(
    field: str, namespaces: tuple[str, ...], home: str, *, hidden: bool = False
) -> Iterator[Problem]:
    """Where an object may be seen. `hidden`: `~`, which is nowhere, is allowed."""
    for index, namespace in enumerate(namespaces):
        if namespace == "~" and not hidden:
            text = "exportTo ~ (none) is not allowed for Istio configuration objects"
            yield from wrong(f"{field}[{index}]", namespace, text)
        elif namespace not in {"*", ".", "~"} and istio_label(namespace):
            text = "only ., *, or a valid DNS 1123 label is allowed as exportTo entry"
            yield from wrong(f"{field}[{index}]", namespace, text)
    named = [home if namespace == "." else namespace for namespace in namespaces]
    text = "duplicate entries in exportTo" + (
        f": . and current namespace {home}" if "." in namespaces else ""
    )
    yield from duplicates(field, named, text)
    if "*" in namespaces and len(namespaces) > 1:
        text = "cannot have both public (*) and non-public exportTo values for a resource"
        yield from wrong(field, "*", text, "leave the others out")
    if hidden and "~" in namespaces and len(namespaces) > 1:
        yield from wrong(field, "~", "cannot export service entry to no one (~) and someone")

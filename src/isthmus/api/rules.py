"""Rules that several kinds share -> problems: forms of text, labels, durations, exportTo."""

from collections.abc import Iterable, Iterator, Mapping

from isthmus.api.duration import parse_duration
from isthmus.api.fields import path
from isthmus.api.meta import Problem
from isthmus.api.syntax import dns_label, label_key, label_value


def wrong(field: str, seen: str, fault: str, hint: str = "") -> Iterator[Problem]:
    """A problem with a text, when there is a fault."""
    if fault:
        yield Problem(field, f'"{seen}" {fault}', hint)


def warning(field: str, text: str, hint: str = "") -> Problem:
    """Something that is let in and told."""
    return Problem(field, text, hint, severity="warning")


def labels(field: str, value_by_key: Mapping[str, str]) -> Iterator[Problem]:
    """Labels that Kubernetes would not take."""
    for key, value in value_by_key.items():
        yield from wrong(field, key, label_key(key))
        yield from wrong(path(field, [key]), value, label_value(value))


def selector(field: str, value_by_key: Mapping[str, str]) -> Iterator[Problem]:
    """Selectors match whole values: wildcards would be read as they are."""
    for key, value in value_by_key.items():
        if not key:
            yield Problem(field, f"empty key is not supported in selector: {key}={value}")
        elif "*" in key + value:
            yield Problem(field, f"wildcard is not supported in selector: {key}={value}")
        else:
            yield from labels(field, {key: value})


def duration(field: str, text: str | None) -> Iterator[Problem]:
    """Istio's durations are at least one millisecond."""
    if text is not None and parse_duration(text) < 0.001:
        yield Problem(field, f'"{text}" should be a duration of at least 1ms', "leave it out for the default")


def duplicates(field: str, values: Iterable[object], what: str) -> Iterator[Problem]:
    """Values of which there may be only one each."""
    seen = set()
    for value in values:
        if value in seen:
            yield Problem(field, f"{what} {value} is given twice")
        seen.add(value)


def export_to(field: str, namespaces: tuple[str, ...]) -> Iterator[Problem]:
    """Where an object may be seen."""
    for index, namespace in enumerate(namespaces):
        if namespace not in {"*", ".", "~"}:
            yield from wrong(f"{field}[{index}]", namespace, dns_label(namespace), "a namespace, '.' or '*'")
    yield from duplicates(field, namespaces, "namespace")
    if "*" in namespaces and len(namespaces) > 1:
        yield Problem(field, "'*' is every namespace, so nothing can stand beside it", "leave the others out")
    if "~" in namespaces and len(namespaces) > 1:
        yield Problem(field, "'~' is no namespace at all, so nothing can stand beside it")

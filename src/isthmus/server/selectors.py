"""`labelSelector` and `fieldSelector` of a request -> which objects are meant.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from isthmus.api.codec import encode
from isthmus.api.kinds import Kind
from isthmus.api.meta import Object
from isthmus.api.syntax import label_key, label_value

Selects = Callable[[Object], bool]

_SET = re.compile(r"\s*([^\s,!=<>()]+)\s+(in|notin)\s*\(([^()]*)\)\s*")
_EQUAL = re.compile(r"\s*([^\s,!=<>()]+)\s*(==|=|!=)\s*([^\s,!=<>()]*)\s*")
_ORDER = re.compile(r"\s*([^\s,!=<>()]+)\s*([<>])\s*(-?\d{1,18})\s*", re.ASCII)
_EXISTS = re.compile(r"\s*(!?)\s*([^\s,!=<>()]+)\s*")
_FIELDS = ("metadata.name", "metadata.namespace")
_MORE: Mapping[str, tuple[str, ...]] = {
    "Event": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "type",
        "reportingComponent",
        "source",
    ),
    "Secret": ("type",),
    "Namespace": ("status.phase",),
    "Pod": ("spec.nodeName", "spec.serviceAccountName", "status.phase", "status.podIP"),
}
"""Fields of kinds by which Kubernetes selects, beside name and namespace."""


def label_selector(text: str) -> Selects:
    """Objects whose labels meet every condition; ValueError when it cannot be read."""
    wanted = [_label_condition(part) for part in _conditions(text)] if text.strip() else []
    return lambda obj: all(holds(obj.meta.labels) for holds in wanted)


def field_selector(text: str, kind: Kind) -> Selects:
    """Objects whose fields meet every condition; ValueError when it cannot be read."""
    wanted: list[Selects] = []
    known = (*_FIELDS, *_MORE.get(kind.kind, ()))
    for part in filter(str.strip, _conditions(text)):
        match = _EQUAL.fullmatch(part)
        if match is None:
            raise ValueError(f"field selector {part!r}: write field=value or field!=value")
        if match[1] not in known:
            raise ValueError(f'field label not supported: "{match[1]}" (supported: {", ".join(known)})')
        wanted.append(_field_condition(_reader(match[1]), match[3], equal=match[2] != "!="))
    return lambda obj: all(holds(obj) for holds in wanted)


def _reader(field: str) -> Callable[[Object], str]:
    match field:
        case "metadata.name":
            return lambda obj: obj.meta.name
        case "metadata.namespace":
            return lambda obj: obj.meta.namespace
        case "source":
            field = "source.component"
    steps = field.split(".")

    def read(obj: Object) -> str:
        value: Any = encode(obj)
        for step in steps:
            value = value.get(step) if isinstance(value, Mapping) else None
        return "" if value is None else str(value)

    return read


def _conditions(text: str) -> list[str]:
    # commas inside parentheses belong to a set
    return re.split(r",(?![^(]*\))", text)


def _field_condition(read: Callable[[Object], str], value: str, *, equal: bool) -> Selects:
    return lambda obj: (read(obj) == value) is equal


def _label_condition(part: str) -> Callable[[Mapping[str, str]], bool]:
    if match := _SET.fullmatch(part):
        key, values = _key(match[1]), {_value(value.strip()) for value in match[3].split(",")}
        if match[2] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if match := _EQUAL.fullmatch(part):
        key, value = _key(match[1]), _value(match[3])
        if match[2] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if match := _EXISTS.fullmatch(part):
        key, absent = _key(match[2]), bool(match[1])
        return lambda labels: (key not in labels) is absent
    if match := _ORDER.fullmatch(part):
        key, bound, sign = _key(match[1]), int(match[3]), 1 if match[2] == ">" else -1
        return lambda labels: sign * (_number(labels.get(key), bound) - bound) > 0
    raise ValueError(f"label selector {part!r}: write key=value, key!=value, key in (a,b), key or !key")


def _key(text: str) -> str:
    if told := label_key(text):
        raise ValueError(f"label selector: {text!r} is no key of a label: it {told}")
    return text


def _value(text: str) -> str:
    if told := label_value(text):
        raise ValueError(f"label selector: {text!r} is no value of a label: it {told}")
    return text


def _number(text: str | None, otherwise: int) -> int:
    """A label's value as a number; what is none is neither more nor less than anything."""
    return int(text) if text and re.fullmatch(r"-?\d{1,18}", text, re.ASCII) else otherwise

"""A document -> all that is wrong with it by itself: what cannot be read, and what rules find in the rest.

    document --read--> places that cannot be read
        └── with other values in these places, turn by turn --read, validate--> findings of each turn

A rule may look at a place that cannot be read, and nobody knows what should stand there. So its finding
counts when it is the same whatever stands there, and is about another place: nothing is told that would go
away when what was told is mended.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from isthmus.api.codec import Location, Metadata, Misread, read
from isthmus.api.fields import path
from isthmus.api.kinds import KINDS, Kind
from isthmus.api.meta import Problem
from isthmus.api.mistakes import first
from isthmus.api.stand_ins import PORT_KEY, stand_ins
from isthmus.api.validate import validate

_MOST_MENDED = 100
"""With more places than these that cannot be read, they are all that is told."""
_MOST_VALUES = 200_000
"""No more values than these are read again, in all turns: that is about half a second."""
_NOTHING = object()


def inspected(document: Any, *, default_namespace: str = "default") -> list[Problem]:
    """Every problem of a document by itself, errors and warnings."""
    obj, misreads = read(document, default_namespace=default_namespace)
    if obj is not None:
        return validate(obj)
    findings = _certain(document, misreads, default_namespace) if len(misreads) <= _MOST_MENDED else []
    return first([*(misread.problem for misread in misreads), *findings])


def _certain(document: Any, misreads: Sequence[Misread], default_namespace: str) -> list[Problem]:
    """What the rules find in every turn."""
    kind = KINDS.get(str(document.get("kind"))) if isinstance(document, Mapping) else None
    if kind is None:
        return []
    turns = _turns(kind, misreads)
    if not _is_small(document, _MOST_VALUES // len(turns)):
        return []
    certain: list[Problem] | None = None
    for changes in turns:
        obj, _ = read(_put(document, changes), default_namespace=default_namespace)
        if obj is None:
            continue
        mended = [path("", location) for location, value in changes.items() if value is not _NOTHING]
        found = [problem for problem in validate(obj) if not _is_about(problem, mended)]
        known = set(found)
        certain = found if certain is None else [problem for problem in certain if problem in known]
        if not certain:
            break
    return certain or []


def _is_about(problem: Problem, fields: Iterable[str]) -> bool:
    """Whether the problem is one of these fields, or of what is below them."""
    return any(
        problem.field == field or problem.field.startswith((f"{field}.", f"{field}[")) for field in fields
    )


def _is_small(document: Any, most: int) -> bool:
    """Whether no more values than these stand in the document."""
    values, left = [document], most
    while values and left > 0:
        value = values.pop()
        left -= 1
        if isinstance(value, list | tuple):
            values += value
        elif isinstance(value, Mapping):
            values += value.values()
    return not values


def _turns(kind: Kind, misreads: Sequence[Misread]) -> list[Mapping[Location, Any]]:
    """What to put into each place that cannot be read: another value each turn."""
    surplus = {misread.location: _NOTHING for misread in misreads if misread.what != "value"}
    places = [_place(misread) for misread in misreads if misread.what != "surplus"]
    values_by_place = {place: values for place in places if (values := _values(kind, place))}
    # neighbours differ, so that nothing is found of their being alike
    return [
        surplus
        | {
            place: values[(turn + number) % len(values)]
            for number, (place, values) in enumerate(values_by_place.items())
        }
        for turn in range(max(map(len, values_by_place.values()), default=1))
    ]


def _place(misread: Misread) -> Location:
    """Where a value goes: for a key that cannot be read, under another one."""
    return (*misread.location[:-1], PORT_KEY) if misread.what == "key" else misread.location


def _values(kind: Kind, place: Location) -> Sequence[Any]:
    match place:
        case ("status", *_):
            return ({},)
        case ("metadata", *rest):
            return stand_ins(Metadata, rest)
        case ("spec", *rest) if kind.has_spec:
            return stand_ins(kind.spec_model, rest)
        case _:
            return stand_ins(kind.spec_model, place)


def _put(value: Any, new_by_location: Mapping[Location, Any]) -> Any:
    """The value with others in these places of it; only what is around them is copied."""
    if () in new_by_location:
        return new_by_location[()]
    below: dict[str | int, dict[Location, Any]] = {}
    for (part, *rest), new in new_by_location.items():
        below.setdefault(part, {})[tuple(rest)] = new
    around: Any = list(value) if isinstance(value, list | tuple) else dict(value or {})
    for part, inner in below.items():
        if inner.get(()) is _NOTHING:
            around.pop(part, None)
        elif isinstance(around, list):
            around[int(part)] = _put(around[int(part)], inner)
        else:
            around[part] = _put(around.get(part), inner)
    return around

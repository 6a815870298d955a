"""Sets of fields: which fields a document has, which two documents differ in, and how sets are written down.

A path is a tuple of steps, spelled as in `managedFields`: `f:spec`, `k:{"name":"http"}`, `v:"x"`. A set is a
frozenset of paths. The rules are those of Kubernetes' structured merge
(https://github.com/kubernetes-sigs/structured-merge-diff).

    document ─ fields_of ─▶ set      two documents ─ compare ─▶ added, changed, removed
    set ─ fields_v1 ─▶ JSON ─ from_fields_v1 ─▶ set
"""

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from isthmus.server.merge_shapes import ANY, Shape

Step = str
Path = tuple[Step, ...]
Fields = frozenset[Path]
NONE: Fields = frozenset()


class Unmergeable(ValueError):
    """A list cannot be merged: elements without their keys, or two that are the same."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How one document became another one."""

    added: Fields
    changed: Fields
    removed: Fields


def fields_of(value: Any, shape: Shape) -> Fields:
    """The fields that a document sets."""
    return frozenset(_walk(value, shape, ()))


def compare(before: Any, after: Any, shape: Shape) -> Difference:
    """The fields in which two documents differ."""
    found = _Found()
    found.compare(before, after, shape, ())
    return Difference(frozenset(found.added), frozenset(found.changed), frozenset(found.removed))


def with_parents(fields: Fields) -> Fields:
    """The set with the named fields that stand above its members."""
    above = {
        path[:length]
        for path in fields
        for length in range(1, len(path))
        if path[length - 1].startswith("f:")
    }
    return fields | above


class FieldsV1(dict[str, Any]):
    """A set as it is written down, which need not be read again. Never changed: many objects share it."""

    __slots__ = ("fields",)

    def __init__(self, fields: Fields) -> None:
        tree: dict[str, Any] = {}
        for path in sorted(fields):
            node = tree
            for step in path:
                node = node.setdefault(step, {})
            node["."] = {}
        super().__init__(_trimmed(tree))
        self.fields = fields


@lru_cache(maxsize=4096)  # thousands of objects of a kind have the same fields
def fields_v1(fields: Fields) -> FieldsV1:
    """A set as `fieldsV1` has it."""
    return FieldsV1(fields)


def from_fields_v1(tree: Any) -> Fields:
    """The set that `fieldsV1` spells; ValueError when it spells none."""
    if isinstance(tree, FieldsV1):
        return tree.fields
    return frozenset(_spelled(tree, ()))


def spelled(path: Path) -> str:
    """A path for people: `.spec.ports[port=80,protocol="TCP"].name`."""
    text = ""
    for step in path:
        mark, _, rest = step.partition(":")
        if mark == "f":
            text += f".{rest}"
        elif mark == "k":
            pairs = json.loads(rest).items()
            text += "[" + ",".join(f"{name}={json.dumps(value)}" for name, value in pairs) + "]"
        else:
            text += f"[{'=' if mark == 'v' else ''}{rest}]"
    return text


def in_order(path: Path) -> tuple[tuple[bool, Step], ...]:
    """A key that sorts paths as Kubernetes lists them: the members of a set before what stands deeper."""
    return tuple((index < len(path) - 1, step) for index, step in enumerate(path))


def without(value: Any, fields: Fields, shape: Shape) -> Any:
    """The document without these fields; None when nothing is left of it."""
    return _without(value, _tree(fields), shape)


def merged(live: Any, wanted: Any, shape: Shape) -> Any:
    """The live document with what another one sets laid over it."""
    match live, wanted:
        case Mapping(), Mapping() if shape.merge != "whole":
            result = dict(live)
            for name, value in wanted.items():
                below = _below(shape, name)
                result[name] = merged(live[name], value, below) if name in live else value
            return result
        case ((list() | tuple()), (list() | tuple())) if shape.merge in {"by keys", "as set"}:
            return _merged_lists(live, wanted, shape)
    return wanted


def steps(items: Sequence[Any], shape: Shape) -> list[Step]:
    """What each element of a list that merges is told apart by."""
    found = [_step(item, shape) for item in items]
    if len(set(found)) != len(found):
        twice = next(step for step in found if found.count(step) > 1)
        raise Unmergeable(f"duplicate entries for key [{spelled((twice,)).strip('[]')}]")
    return found


def _walk(value: Any, shape: Shape, at: Path) -> Iterator[Path]:
    match value:
        case Mapping() if shape.merge != "whole":
            if at and not value:
                yield at
            for name, item in value.items():
                yield from _walk(item, _below(shape, name), (*at, f"f:{name}"))
        case list() | tuple() if shape.merge in {"by keys", "as set"}:
            for step, item in zip(steps(value, shape), value, strict=True):
                yield (*at, step)
                yield from _walk(item, shape.element, (*at, step))
        case _:
            if at:
                yield at


_ABSENT = object()


@dataclass(slots=True, eq=False)
class _Found:
    """The differences between two documents, as far as they have been compared."""

    added: set[Path] = field(default_factory=set)
    changed: set[Path] = field(default_factory=set)
    removed: set[Path] = field(default_factory=set)

    def compare(self, before: Any, after: Any, shape: Shape, at: Path) -> None:
        if before is after or (before is not _ABSENT and after is not _ABSENT and before == after):
            return
        old = new = None
        if shape.merge != "whole" and _is_object(before) and _is_object(after):
            old, new = _named_children(before), _named_children(after)
        elif shape.merge in {"by keys", "as set"} and _is_list(before) and _is_list(after):
            old, new = _keyed_children(before, shape), _keyed_children(after, shape)
        if old is None or new is None:
            if at:
                self._of(before, after).add(at)
            return
        fields, element = shape.fields, shape.element
        for step in old | new:
            below = fields.get(step[2:], ANY) if step[0] == "f" else element
            self.compare(old.get(step, _ABSENT), new.get(step, _ABSENT), below, (*at, step))
        if at and (before is _ABSENT or after is _ABSENT):
            self._of(before, after).add(at)

    def _of(self, before: Any, after: Any) -> set[Path]:
        return self.added if before is _ABSENT else self.removed if after is _ABSENT else self.changed


def _is_object(value: Any) -> bool:
    return type(value) is dict or value is _ABSENT or isinstance(value, Mapping)


def _is_list(value: Any) -> bool:
    return value is _ABSENT or isinstance(value, list | tuple)


def _named_children(value: Any) -> dict[Step, Any]:
    return {} if value is _ABSENT else {f"f:{name}": item for name, item in value.items()}


def _keyed_children(value: Any, shape: Shape) -> dict[Step, Any] | None:
    try:
        return {} if value is _ABSENT else dict(zip(steps(value, shape), value, strict=True))
    except Unmergeable:
        return None


def _below(shape: Shape, name: str) -> Shape:
    return shape.fields.get(name, ANY)


def _step(item: Any, shape: Shape) -> Step:
    if shape.merge == "as set":
        return f"v:{_json(item)}"
    if not isinstance(item, Mapping):
        raise Unmergeable("an element of a list with keys is no object")
    found = {key: item.get(key, shape.defaults.get(key)) for key in shape.keys}
    missing = [key for key, value in found.items() if value is None]
    if len(missing) == len(found):
        raise Unmergeable(f"associative list with keys has an element that omits key field {missing[0]!r}")
    return f"k:{_json({key: value for key, value in found.items() if value is not None})}"


def _merged_lists(live: Sequence[Any], wanted: Sequence[Any], shape: Shape) -> list[Any]:
    """What both have stands in the order of `wanted`; what only one has stays between its neighbours."""
    old = dict(zip(steps(live, shape), live, strict=True))
    new = dict(zip(steps(wanted, shape), wanted, strict=True))
    result: list[Any] = []
    waiting, done = deque(new), set[Step]()
    for step, item in old.items():
        if step not in new:
            result.append(item)
        while step in new and step not in done:
            # up to and with this one, in the order of `wanted`
            first = waiting.popleft()
            done.add(first)
            result.append(merged(old[first], new[first], shape.element) if first in old else new[first])
    result += [new[step] for step in waiting]
    return result


def _without(value: Any, tree: Mapping[str, Any], shape: Shape) -> Any:
    match value:
        case Mapping() if shape.merge != "whole":
            kept = {}
            for name, item in value.items():
                node = tree.get(f"f:{name}")
                if node is None:
                    kept[name] = item
                elif "." not in node:
                    rest = _without(item, node, _below(shape, name))
                    if rest is not None:
                        kept[name] = rest
            return kept if kept or not value else None
        case list() | tuple() if shape.merge in {"by keys", "as set"}:
            left = []
            for step, item in zip(steps(value, shape), value, strict=True):
                node = tree.get(step)
                if node is None:
                    left.append(item)
                elif "." not in node:
                    left.append(_without(item, node, shape.element))
            return left if left or not value else None
    return value


def _tree(fields: Fields) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in fields:
        node = tree
        for step in path:
            node = node.setdefault(step, {})
        node["."] = {}
    return tree


def _trimmed(tree: dict[str, Any]) -> dict[str, Any]:
    if set(tree) == {"."}:
        return {}
    ordered = sorted(tree, key=lambda step: (step != ".", step))
    return {step: _trimmed(tree[step]) if step != "." else {} for step in ordered}


def _spelled(tree: Any, at: Path) -> Iterator[Path]:
    if not isinstance(tree, Mapping):
        raise ValueError("fieldsV1 is not made of objects")
    if at and not tree:
        yield at
    for step, below in tree.items():
        if step == ".":
            yield at
            continue
        if step[:2] not in {"f:", "k:", "v:", "i:"}:
            raise ValueError(f"{step!r} is no step of a path")
        if step[0] in "kv":
            step = f"{step[:2]}{_json(json.loads(step[2:]))}"
        yield from _spelled(below, (*at, step))


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)

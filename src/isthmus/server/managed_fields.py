"""Who wrote which fields: `managedFields` kept through updates, and server-side apply.

    update   live ─▶ new: what changed belongs to the writer now
    apply    live + what a manager wants ─▶ merged, without what it wanted before and nobody else has;
             fields that others own and that would change are conflicts, unless forced

The rules are Kubernetes' (https://kubernetes.io/docs/reference/using-api/server-side-apply/). Pure; documents
come without what nobody can own, as `ownable` makes them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from isthmus.server.fieldsets import (
    NONE,
    Fields,
    Path,
    compare,
    fields_of,
    fields_v1,
    from_fields_v1,
    in_order,
    merged,
    spelled,
    with_parents,
    without,
)
from isthmus.server.merge_shapes import Shape

Document = Mapping[str, Any]
BEFORE_FIRST_APPLY = "before-first-apply"
"""Who owns what stood, when nobody owned anything before the first apply."""
_MOST_UPDATERS = 10
_ANCIENT = "ancient-changes"
_NOBODYS = frozenset(
    {
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    }
)
"""Fields of the metadata that nobody owns."""


@dataclass(frozen=True, slots=True)
class Manager:
    """Who writes, how, and through which door."""

    name: str
    operation: Literal["Apply", "Update"]
    api_version: str
    subresource: str = ""

    @property
    def identity(self) -> tuple[str, ...]:
        """What tells managers apart: appliers are the same in every version."""
        version = "" if self.operation == "Apply" else self.api_version
        return self.name, self.operation, version, self.subresource


@dataclass(frozen=True, slots=True)
class Owned:
    """One entry of `managedFields`."""

    manager: Manager
    fields: Fields
    time: str = ""


Owners = tuple[Owned, ...]


@dataclass(slots=True, eq=False)
class ApplyConflict(Exception):
    """Others own fields that would change."""

    conflicts: Sequence[tuple[Owned, Path]]

    def causes(self) -> list[dict[str, str]]:
        """Every conflict as Kubernetes tells it."""
        return [
            {
                "reason": "FieldManagerConflict",
                "message": f"conflict with {_named(owned)}",
                "field": spelled(path),
            }
            for owned, path in self.conflicts
        ]

    def __str__(self) -> str:
        if len(self.conflicts) == 1:
            ((owned, path),) = self.conflicts
            return f"Apply failed with 1 conflict: conflict with {_named(owned)}: {spelled(path)}"
        lines: dict[str, list[str]] = {}
        for owned, path in self.conflicts:
            lines.setdefault(_named(owned), []).append(f"- {spelled(path)}")
        told = "\n".join(line for name in sorted(lines) for line in (f"conflicts with {name}:", *lines[name]))
        return f"Apply failed with {len(self.conflicts)} conflicts: {told}"


def owners(entries: Iterable[Mapping[str, Any]]) -> Owners:
    """What `managedFields` says; ValueError when it cannot be read."""
    found = []
    for entry in entries:
        operation = entry.get("operation")
        if operation not in ("Apply", "Update"):
            raise ValueError(f"operation {operation!r} is neither Apply nor Update")
        if entry.get("fieldsType") != "FieldsV1":
            raise ValueError(f"fieldsType {entry.get('fieldsType')!r} is not FieldsV1")
        manager = Manager(
            str(entry.get("manager", "")),
            operation,
            str(entry.get("apiVersion", "")),
            str(entry.get("subresource", "")),
        )
        fields = from_fields_v1(entry.get("fieldsV1") or {})
        found.append(Owned(manager, fields, str(entry.get("time", ""))))
    return tuple(found)


def entries(owners: Iterable[Owned]) -> tuple[dict[str, Any], ...]:
    """The owners as `managedFields` has them: appliers first, then by age and name."""
    ordered = sorted(owners, key=lambda one: (one.manager.operation, one.time, one.manager.identity))
    return tuple(map(_entry, ordered))


def ownable(document: Document, *, subresource: str = "") -> dict[str, Any]:
    """The part of a document that can be written through a door: the status, or all but the status."""
    if subresource:
        return {"status": document["status"]} if document.get("status") is not None else {}
    body = {
        name: value
        for name, value in document.items()
        if name not in {"apiVersion", "kind", "metadata", "status"}
    }
    metadata = document.get("metadata") or {}
    rest = {name: value for name, value in metadata.items() if name not in _NOBODYS}
    return {**({"metadata": rest} if rest else {}), **body}


def updated(
    live: Document, new: Document, before: Owners, *, manager: Manager, time: str, shape: Shape
) -> Owners:
    """Who owns what after a manager made `new` of `live`."""
    change = compare(live, new, shape)
    written = _real(change.added | change.changed)
    kept = [_less(owned, written | change.removed, manager) for owned in before]
    mine = next((owned for owned in before if owned.manager.identity == manager.identity), None)
    fields = ((mine.fields if mine else NONE) - change.removed) | written
    # a writer that sets nothing keeps its time
    entry = Owned(manager, fields, time if written or mine is None else mine.time)
    rest = [owned for owned in kept if owned.manager.identity != manager.identity]
    return _capped(tuple(owned for owned in (*rest, entry) if owned.fields))


def applied(
    live: Document,
    wanted: Document,
    before: Owners,
    *,
    manager: Manager,
    time: str,
    shape: Shape,
    force: bool = False,
) -> tuple[dict[str, Any], Owners]:
    """The document after a manager applied what it wants, and who owns what then; ApplyConflict."""
    last = next((owned for owned in before if owned.manager.identity == manager.identity), None)
    mine = Owned(manager, _real(fields_of(wanted, shape)))
    others = tuple(owned for owned in before if owned.manager.identity != manager.identity)
    new = merged(live, wanted, shape)
    if last is not None:
        new = _pruned(new, last.fields, (*others, mine), shape)
    change = compare(live, new, shape)
    # who changes nothing keeps its time, or gets none
    changed = change.added or change.changed or change.removed
    mine = replace(mine, time=time if changed else last.time if last else "")
    written = _real(change.added | change.changed)
    conflicts = [(owned, path) for owned in others for path in owned.fields & written]
    if conflicts and not force:
        raise ApplyConflict(sorted(conflicts, key=lambda one: (one[0].manager.identity, in_order(one[1]))))
    kept = [_less(owned, written | change.removed, manager) for owned in others]
    return new, tuple(owned for owned in (*kept, mine) if owned.fields)


def _pruned(new: dict[str, Any], last: Fields, managers: Owners, shape: Shape) -> dict[str, Any]:
    """What the manager wanted before goes, except what anybody (it included) has now."""
    result = without(new, with_parents(last), shape) or {}
    owned = with_parents(frozenset().union(*(one.fields for one in managers)))
    result = without(new, _members(new, shape) - (_members(result, shape) | owned), shape) or {}
    dangling = (_members(new, shape) - _members(result, shape)) & with_parents(last)
    return without(new, dangling, shape) or {}


def _members(document: Document, shape: Shape) -> Fields:
    return with_parents(fields_of(document, shape))


def _less(owned: Owned, lost: Fields, writer: Manager) -> Owned:
    if owned.manager.identity == writer.identity or not owned.fields & lost:
        return owned
    return replace(owned, fields=owned.fields - lost)


def _real(fields: Fields) -> Fields:
    """`metadata` itself is always there: nobody owns it."""
    return fields - {("f:metadata",)}


def _capped(owners: Owners) -> Owners:
    """At most so many updaters: the oldest become one."""
    updaters = [one for one in owners if one.manager.operation == "Update" and not one.manager.subresource]
    if len(updaters) <= _MOST_UPDATERS:
        return owners
    ordered = sorted(updaters, key=lambda one: (one.time, one.manager.identity))
    old = ordered[: len(updaters) - _MOST_UPDATERS + 1]
    fields = frozenset().union(*(one.fields for one in old))
    newest = old[-1]
    ancient = Owned(Manager(_ANCIENT, "Update", newest.manager.api_version), fields, newest.time)
    return (*(one for one in owners if one not in old), ancient)


def _entry(owned: Owned) -> dict[str, Any]:
    manager = owned.manager
    entry = {
        "manager": manager.name,
        "operation": manager.operation,
        "apiVersion": manager.api_version,
        "time": owned.time,
        "fieldsType": "FieldsV1",
        "fieldsV1": fields_v1(owned.fields),
        "subresource": manager.subresource,
    }
    return {name: value for name, value in entry.items() if value != ""}


def _named(owned: Owned) -> str:
    manager = owned.manager
    text = f'"{manager.name}"'
    if manager.subresource:
        text += f' with subresource "{manager.subresource}"'
    return text if manager.operation == "Apply" else f"{text} using {manager.api_version}"

"""Objects before and after a write -> the same with `managedFields` that tell who wrote which fields."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from isthmus.api.codec import encode
from isthmus.api.meta import Object
from isthmus.server.managed_fields import (
    BEFORE_FIRST_APPLY,
    Manager,
    Owners,
    entries,
    ownable,
    owners,
    updated,
)
from isthmus.server.merge_shapes import shape_of

_RESET: tuple[Mapping[str, Any], ...] = ({},)
"""`managedFields` with which a client asks that nobody owns anything."""


def own(
    obj: Object, before: Object | None, *, manager: Manager, time: str, written: Object | None = None
) -> Object:
    """The object with its `managedFields` after a manager made it of what stood before.

    `written` is what the manager sent, when the server completed it: what it fills in is nobody's. Nor is
    anything of an object that nobody owned, before somebody applies something.
    """
    part = manager.subresource
    if before is not None and not before.meta.managed_fields:
        return with_rows(obj, before, rows=())
    live = ownable(encode(before), subresource=part) if before else {}
    rows = updated(
        live,
        ownable(encode(written or obj), subresource=part),
        owners_of(before) if part else _claimed(obj, before),
        manager=manager,
        time=time,
        shape=shape_of(obj.key.kind),
    )
    return with_rows(obj, before, rows=entries(rows))


def with_rows(obj: Object, _: Object | None, *, rows: tuple[Mapping[str, Any], ...]) -> Object:
    """The object with these `managedFields`."""
    return replace(obj, meta=replace(obj.meta, managed_fields=rows))


def as_applied(obj: Object, before: Object | None, *, rows: tuple[Mapping[str, Any], ...]) -> Object:
    """The object with these `managedFields`; what changes nothing but the time of one is no change."""
    found = with_rows(obj, before, rows=rows)
    if before is None or _timeless(rows) != _timeless(before.meta.managed_fields):
        return found
    same = with_rows(obj, before, rows=before.meta.managed_fields)
    asked, stands = encode(same), encode(before)
    written = ("labels", "annotations", "ownerReferences", "finalizers")
    unchanged = all(asked["metadata"].get(name) == stands["metadata"].get(name) for name in written)
    return same if unchanged and asked | {"metadata": {}} == stands | {"metadata": {}} else found


def _timeless(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "time"} for row in rows]


def _claimed(obj: Object, before: Object | None) -> Owners:
    """Who owned what: as the client says, if it says anything that can be read, else as it was."""
    given = obj.meta.managed_fields
    if given == _RESET:
        return ()
    if before is not None and given == before.meta.managed_fields:
        return owners_of(before)
    try:
        if given and (found := owners(given)):
            return found
    except ValueError:
        pass
    return owners_of(before)


def owners_of(obj: Object | None) -> Owners:
    """Who owns which fields of a stored object."""
    return owners(obj.meta.managed_fields) if obj else ()


def owners_for_apply(obj: Object | None, *, manager: Manager, time: str) -> Owners:
    """Who owns which fields of a stored object when a manager applies something: all of it is somebody's."""
    if obj is None or obj.meta.managed_fields:
        return owners_of(obj)
    ancient = replace(manager, name=BEFORE_FIRST_APPLY, operation="Update")
    stands = ownable(encode(obj), subresource=manager.subresource)
    return updated({}, stands, (), manager=ancient, time=time, shape=shape_of(obj.key.kind))

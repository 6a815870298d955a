"""Objects before and after a write -> the same with `managedFields` that tell who wrote which fields."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from isthmus.api.codec import encode
from isthmus.api.meta import Object
from isthmus.server.managed_fields import Manager, Owners, entries, ownable, owners, updated
from isthmus.server.merge_shapes import shape_of

_RESET: tuple[Mapping[str, Any], ...] = ({},)
"""`managedFields` with which a client asks that nobody owns anything."""


def own(obj: Object, before: Object | None, *, manager: Manager, time: str) -> Object:
    """The object with its `managedFields` after a manager made it of what stood before."""
    part = manager.subresource
    live = ownable(encode(before), subresource=part) if before else {}
    rows = updated(
        live,
        ownable(encode(obj), subresource=part),
        _claimed(obj, before),
        manager=manager,
        time=time,
        shape=shape_of(obj.key.kind),
    )
    return with_rows(obj, before, rows=entries(rows))


def with_rows(obj: Object, _: Object | None, *, rows: tuple[Mapping[str, Any], ...]) -> Object:
    """The object with these `managedFields`."""
    return replace(obj, meta=replace(obj.meta, managed_fields=rows))


def _claimed(obj: Object, before: Object | None) -> Owners:
    """Who owned what: as the client says, if it says anything that can be read, else as it was."""
    given = obj.meta.managed_fields
    if given == _RESET:
        return ()
    try:
        if given and (found := owners(given)):
            return found
    except ValueError:
        pass
    return owners_of(before)


def owners_of(obj: Object | None) -> Owners:
    """Who owns which fields of a stored object."""
    return owners(obj.meta.managed_fields) if obj else ()

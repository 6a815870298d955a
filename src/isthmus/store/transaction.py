"""The latest objects + a sequence of writes -> the changes they make, all or none. Pure, and tells no file.

`State` is what stands, `Transaction` lays writes over it: later writes see earlier ones, and nothing reaches
the state before the changes are committed.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal
from uuid import uuid4

from isthmus.api.codec import encode_spec
from isthmus.api.meta import Key, Model, Object
from isthmus.clock import rfc3339
from isthmus.store.base import (
    MODIFIED,
    AlreadyExists,
    Conflict,
    Create,
    Delete,
    Event,
    Mutate,
    NotFound,
    Update,
    UpdateStatus,
    Write,
)


@dataclass(slots=True)
class State:
    """What stands: objects by key, the keys that each uid owns, and the newest revision."""

    objects: dict[Key, Object] = field(default_factory=dict)
    owned: dict[str, set[Key]] = field(default_factory=dict)
    revision: int = 0

    def put(self, obj: Object) -> None:
        """Sets one object."""
        self.drop(obj.key)
        self.objects[obj.key] = obj
        for uid in _owners(obj):
            self.owned.setdefault(uid, set()).add(obj.key)

    def drop(self, key: Key) -> None:
        """Forgets one object."""
        before = self.objects.pop(key, None)
        if before is None:
            return
        for uid in _owners(before):
            self.owned[uid].discard(key)
            if not self.owned[uid]:
                del self.owned[uid]

    def commit(self, events: Sequence[Event]) -> None:
        """Takes in what a transaction made."""
        for event in events:
            if event.type == "DELETED":
                self.drop(event.object.key)
            else:
                self.put(event.object)
            self.revision = event.revision


class Transaction:
    """Writes laid over a state. `events` are the changes so far, in order."""

    def __init__(self, state: State, now: Callable[[], float]) -> None:
        self.events: list[Event] = []
        self._state = state
        self._now = now
        self._overlay: dict[Key, Object | None] = {}
        self._revision = state.revision

    def apply(self, writes: Sequence[Write]) -> tuple[Object | None, ...]:
        """Makes all the writes, or raises and leaves the transaction as it was."""
        overlay, events, revision = dict(self._overlay), len(self.events), self._revision
        try:
            return tuple(self._write(write) for write in writes)
        except BaseException:
            self._overlay, self._revision = overlay, revision
            del self.events[events:]
            raise

    def get(self, key: Key) -> Object | None:
        """What stands at the key after the writes so far."""
        return self._overlay[key] if key in self._overlay else self._state.objects.get(key)

    def _write(self, write: Write) -> Object | None:
        match write:
            case Create(obj):
                if self.get(obj.key) is not None:
                    raise AlreadyExists(obj.key)
                return self._create(obj)
            case Update(obj, resource_version, uid):
                before = self._expected(obj.key, resource_version, uid)
                return self._update(before, replace(obj, status=before.status))
            case UpdateStatus(key, status, resource_version, uid):
                before = self._expected(key, resource_version, uid)
                return self._update(before, replace(before, status=status))
            case Delete(key, resource_version, uid):
                self._delete(self._expected(key, resource_version, uid))
                return None
            case Mutate(key, change):
                return self._mutate(key, change)

    def _mutate(self, key: Key, change: Callable[[Object | None], Object | None]) -> Object | None:
        before = self.get(key)
        after = change(before)
        if after is None:
            if before is not None:
                self._delete(before)
            return None
        assert after.key == key, f"a change of {key} made {after.key}"
        return self._create(after) if before is None else self._update(before, after)

    def _expected(self, key: Key, resource_version: int | None, uid: str) -> Object:
        obj = self.get(key)
        if obj is None:
            raise NotFound(key)
        if uid and obj.meta.uid != uid:
            raise Conflict(key, f"its uid is {obj.meta.uid}, not {uid}: it was deleted and made again")
        if resource_version is not None and obj.meta.resource_version != resource_version:
            raise Conflict(key, MODIFIED)
        return obj

    def _create(self, obj: Object) -> Object:
        meta = replace(
            obj.meta,
            uid=str(uuid4()),
            resource_version=self._next(),
            generation=1,
            creation_timestamp=rfc3339(self._now()),
        )
        return self._made("ADDED", replace(obj, meta=meta))

    def _update(self, before: Object, after: Object) -> Object:
        changed_spec = not _same_spec(before.spec, after.spec)
        if not changed_spec and _rest(before) == _rest(after):
            return before
        meta = replace(
            before.meta,
            labels=after.meta.labels,
            annotations=after.meta.annotations,
            owner_references=after.meta.owner_references,
            generation=before.meta.generation + changed_spec,
            resource_version=self._next(),
        )
        return self._made("MODIFIED", replace(after, meta=meta))

    def _delete(self, obj: Object) -> None:
        gone = replace(obj, meta=replace(obj.meta, resource_version=self._next()))
        self._overlay[obj.key] = None
        self.events.append(Event("DELETED", gone, gone.meta.resource_version))
        for key in sorted(self._dependents(obj)):
            # owners in a ring, or a namespace and an owner in it: it may be gone by now
            if (dependent := self.get(key)) is not None:
                self._delete(dependent)

    def _dependents(self, obj: Object) -> set[Key]:
        uid, laid = obj.meta.uid, self._overlay.items()
        keys = set(self._state.owned.get(uid, ()))
        keys |= {key for key, dependent in laid if dependent and uid in _owners(dependent)}
        if obj.key.kind == "Namespace":
            inside = obj.key.name
            keys |= {key for key in self._state.objects if key.namespace == inside}
            keys |= {key for key, dependent in laid if dependent and key.namespace == inside}
        return keys

    def _made(self, change: Literal["ADDED", "MODIFIED"], obj: Object) -> Object:
        self._overlay[obj.key] = obj
        self.events.append(Event(change, obj, obj.meta.resource_version))
        return obj

    def _next(self) -> int:
        self._revision += 1
        return self._revision


def _owners(obj: Object) -> list[str]:
    return [str(reference.get("uid", "")) for reference in obj.meta.owner_references]


def _rest(obj: Object) -> tuple[object, ...]:
    return (
        dict(obj.meta.labels),
        dict(obj.meta.annotations),
        tuple(dict(reference) for reference in obj.meta.owner_references),
        dict(obj.status),
    )


def _same_spec(one: Model, other: Model) -> bool:
    # as written, not as meant: a default that someone wrote out must come back from the store
    return one is other or json.dumps(encode_spec(one)) == json.dumps(encode_spec(other))

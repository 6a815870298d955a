"""The latest objects + a sequence of writes -> the changes they make, all or none. Pure, and tells no file.

`State` is what stands, `Transaction` lays writes over it: later writes see earlier ones, and nothing reaches
the state before the changes are committed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal
from uuid import uuid4

from isthmus.api.kinds import KINDS
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
    Propagation,
    Update,
    UpdateStatus,
    Write,
)

FOREGROUND = "foregroundDeletion"
"""The finalizer of an object that waits for what it owns."""


@dataclass(slots=True)
class State:
    """What stands: objects by key, the keys that each uid owns, and the newest revision."""

    objects: dict[Key, Object] = field(default_factory=dict)
    owned: dict[str, set[Key]] = field(default_factory=dict)
    by_namespace: dict[str, set[Key]] = field(default_factory=dict)
    by_uid: dict[str, Key] = field(default_factory=dict)
    revision: int = 0

    def put(self, obj: Object) -> None:
        """Sets one object."""
        before = self.objects.get(obj.key)
        if before is not None and before.meta.uid == obj.meta.uid and owners(before) == owners(obj):
            self.objects[obj.key] = obj
            return
        self.drop(obj.key)
        self.objects[obj.key] = obj
        self.by_uid[obj.meta.uid] = obj.key
        self.by_namespace.setdefault(obj.key.namespace, set()).add(obj.key)
        for uid in owners(obj):
            self.owned.setdefault(uid, set()).add(obj.key)

    def drop(self, key: Key) -> None:
        """Forgets one object."""
        before = self.objects.pop(key, None)
        if before is None:
            return
        self.by_uid.pop(before.meta.uid, None)
        self.by_namespace[key.namespace].discard(key)
        for uid in owners(before):
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
        # where to look for laid objects by owner and namespace: may name more than there is, never less
        self._laid: dict[str, set[Key]] = {}
        self._collecting: set[Key] = set()
        self._revision = state.revision

    def apply(self, writes: Sequence[Write]) -> tuple[Object | None, ...]:
        """Makes all the writes, or raises and leaves the transaction as it was."""
        overlay, events, revision = dict(self._overlay), len(self.events), self._revision
        try:
            return tuple(self._write(write) for write in writes)
        except BaseException:
            self._overlay, self._revision = overlay, revision
            self._collecting.clear()
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
            case Delete(key, resource_version, uid, propagation):
                self._delete(self._expected(key, resource_version, uid), propagation)
                return self.get(key)
            case Mutate(key, change):
                return self._mutate(key, change)

    def _mutate(self, key: Key, change: Callable[[Object | None], Object | None]) -> Object | None:
        before = self.get(key)
        after = change(before)
        if after is before:
            return before
        if after is None:
            if before is not None:
                self._delete(before, "Background")
            return self.get(key)
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
            generation=int(KINDS[obj.key.kind].counts_changes),
            creation_timestamp=rfc3339(self._now()),
            deletion_timestamp="",
        )
        return self._made("ADDED", replace(obj, meta=meta), None)

    def _update(self, before: Object, after: Object) -> Object | None:
        changed_spec = not _same_spec(before.spec, after.spec)
        if not changed_spec and _rest(before) == _rest(after):
            return before
        if before.meta.deletion_timestamp and not after.meta.finalizers:
            self._remove(before)
            return None
        meta = replace(
            before.meta,
            labels=after.meta.labels,
            annotations=after.meta.annotations,
            owner_references=after.meta.owner_references,
            finalizers=after.meta.finalizers,
            managed_fields=after.meta.managed_fields,
            generation=_next_generation(before) if changed_spec else before.meta.generation,
            resource_version=self._next(),
        )
        return self._made("MODIFIED", replace(after, meta=meta), before)

    def _delete(self, obj: Object, propagation: Propagation) -> None:
        """Removes an object, or marks it when something must happen before."""
        if obj.meta.deletion_timestamp:
            return
        finalizers = tuple(word for word in obj.meta.finalizers if word != FOREGROUND)
        dependents = self._dependents(obj)
        inside = obj.key.kind == "Namespace" and any(one.meta.finalizers for one in dependents)
        if dependents and (propagation == "Foreground" or inside):
            self._mark(obj, (*finalizers, FOREGROUND))
            self._collecting.add(obj.key)
            self._collect(obj, propagation)
            self._collecting.discard(obj.key)
            self._settle(obj.key)
            return
        if propagation == "Orphan":
            for dependent in dependents:
                self._disown(dependent, {obj.meta.uid})
        if finalizers:
            self._mark(obj, finalizers)
        else:
            self._remove(obj)

    def _mark(self, obj: Object, finalizers: tuple[str, ...]) -> None:
        meta = replace(
            obj.meta,
            finalizers=finalizers,
            deletion_timestamp=rfc3339(self._now()),
            generation=_next_generation(obj),
            resource_version=self._next(),
        )
        # https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/namespace-v1/
        ends = {"phase": "Terminating"} if obj.key.kind == "Namespace" else {}
        self._made("MODIFIED", replace(obj, meta=meta, status={**obj.status, **ends}), obj)

    def _remove(self, obj: Object) -> None:
        """Takes an object away, and then what only it owned; who waited for it goes on."""
        gone = replace(obj, meta=replace(obj.meta, resource_version=self._next()))
        self._overlay[obj.key] = None
        self.events.append(Event("DELETED", gone, gone.meta.resource_version, obj))
        self._collect(obj, "Background")
        waiting = [key for uid in owners(obj) if (key := self._by_uid(uid)) is not None]
        if obj.key.namespace:
            waiting.append(Key("Namespace", "", obj.key.namespace))
        for key in waiting:
            self._settle(key)

    def _collect(self, owner: Object, propagation: Propagation) -> None:
        """Deletes what an object owns, unless something else owns it, too."""
        for dependent in self._dependents(owner):
            # owners in a ring, or a namespace and an owner in it: it may be gone by now
            present = self.get(dependent.key)
            if present is None or present.meta.uid != dependent.meta.uid:
                continue
            inside = owner.key.kind == "Namespace" and dependent.key.namespace == owner.key.name
            others = [uid for uid in owners(dependent) if uid != owner.meta.uid and self._by_uid(uid)]
            if others and not inside:
                self._disown(present, {uid for uid in owners(present) if uid not in others})
            else:
                self._delete(present, propagation)

    def _disown(self, obj: Object, uids: set[str]) -> None:
        kept = tuple(one for one in obj.meta.owner_references if one.get("uid") not in uids)
        self._update(obj, replace(obj, meta=replace(obj.meta, owner_references=kept)))

    def _settle(self, key: Key) -> None:
        """Lets an object go that waited for what it owned, when nothing of that is left."""
        obj = self.get(key) if key not in self._collecting else None
        if obj is None or not obj.meta.deletion_timestamp or FOREGROUND not in obj.meta.finalizers:
            return
        if any(_blocks(dependent, obj) for dependent in self._dependents(obj)):
            return
        rest = tuple(word for word in obj.meta.finalizers if word != FOREGROUND)
        self._update(obj, replace(obj, meta=replace(obj.meta, finalizers=rest)))

    def _dependents(self, obj: Object) -> list[Object]:
        uid = obj.meta.uid
        keys = self._state.owned.get(uid, set()) | self._laid.get(uid, set())
        if obj.key.kind == "Namespace":
            inside = obj.key.name
            keys = keys | self._state.by_namespace.get(inside, set()) | self._laid.get(inside, set())
        found = [self.get(key) for key in sorted(keys)]
        return [one for one in found if one is not None and _belongs(one, obj)]

    def _by_uid(self, uid: str) -> Key | None:
        """Where the object with this uid stands, None when there is none."""
        key = self._state.by_uid.get(uid)
        if key is not None and (found := self.get(key)) is not None and found.meta.uid == uid:
            return key
        laid = (self.get(key) for key in self._laid.get(uid, ()))
        return next((obj.key for obj in laid if obj is not None and obj.meta.uid == uid), None)

    def _made(self, change: Literal["ADDED", "MODIFIED"], obj: Object, before: Object | None) -> Object:
        self._overlay[obj.key] = obj
        for name in (obj.meta.uid, obj.key.namespace, *owners(obj)):
            self._laid.setdefault(name, set()).add(obj.key)
        self.events.append(Event(change, obj, obj.meta.resource_version, before))
        return obj

    def _next(self) -> int:
        self._revision += 1
        return self._revision


def owners(obj: Object) -> list[str]:
    """The uids of an object's owners."""
    return [str(reference.get("uid", "")) for reference in obj.meta.owner_references]


def _next_generation(obj: Object) -> int:
    return obj.meta.generation + KINDS[obj.key.kind].counts_changes


def _belongs(dependent: Object, owner: Object) -> bool:
    if owner.meta.uid in owners(dependent):
        return True
    return owner.key.kind == "Namespace" and dependent.key.namespace == owner.key.name


def _blocks(dependent: Object, owner: Object) -> bool:
    """Whether the owner's deletion waits for this one."""
    if owner.key.kind == "Namespace" and dependent.key.namespace == owner.key.name:
        return True
    return any(
        one.get("uid") == owner.meta.uid and one.get("blockOwnerDeletion")
        for one in dependent.meta.owner_references
    )


def _rest(obj: Object) -> tuple[object, ...]:
    meta = obj.meta
    return (
        meta.labels,
        meta.annotations,
        meta.owner_references,
        meta.finalizers,
        meta.managed_fields,
        obj.status,
    )


def _same_spec(one: Model, other: Model) -> bool:
    # as written, not as meant: a default that someone wrote out must come back from the store
    return one is other or _written(one) == _written(other)


def _written(spec: Model) -> str:
    return spec.model_dump_json(by_alias=True, exclude_unset=True)

"""What the control plane said in objects' conditions -> what it says again when others took or changed it.

    the start      what stands was said before
    its writes ──▶ noted ◀── compared ── every other write of a status ──▶ doubtful: to be said again

Who may write a status may wipe these conditions, or forge them: they are not theirs, and come back.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from isthmus.api.kinds import KINDS
from isthmus.api.meta import Key, Object
from isthmus.clock import backoff
from isthmus.store.base import Event, Store, StoreError
from isthmus.xds.verdicts import PROGRAMMED, RESOLVED

_OURS = (PROGRAMMED, RESOLVED)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Said:
    """The conditions that were written on the object of this uid, by type."""

    uid: str = ""
    conditions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def back_on(self, obj: Object) -> Object:
        """The object with these conditions in place of what it says itself; the same when it says them."""
        if not self.conditions and "conditions" not in obj.status:
            return obj
        missing = dict(self.conditions) if self.uid == obj.meta.uid else {}
        old: list[Mapping[str, Any]] = list(obj.status.get("conditions", ()))
        kept = [
            missing.pop(name) if name in missing else condition
            for condition in old
            if (name := str(condition.get("type"))) in missing or name not in _OURS
        ]
        conditions = [*kept, *missing.values()]
        return obj if conditions == old else replace(obj, status={**obj.status, "conditions": conditions})


class Memory:
    """What was said of every object that proxies are configured from."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._said: dict[Key, Said] = {}
        self._doubtful: set[Key] = set()

    async def start(self) -> int:
        """Takes what stands for what was said; returns the revision to watch from."""
        revision = self._store.revision
        for kind in KINDS.values():
            if kind.programmed:
                objects, _ = await self._store.list(kind.kind)
                self.note(objects)
        return revision

    def note(self, written: Iterable[Object | None]) -> None:
        """The control plane wrote these, and they stand like this."""
        for obj in written:
            if obj is not None:
                conditions = {
                    name: one
                    for one in obj.status.get("conditions", ())
                    if (name := one.get("type")) in _OURS
                }
                self._said[obj.key] = Said(obj.meta.uid, conditions)

    def of(self, key: Key) -> Said:
        """What was said of an object: nothing, when it is new."""
        return self._said.get(key, _NOTHING)

    async def altered(self) -> list[Key]:
        """The objects that others made say something else since the last call."""
        doubtful, self._doubtful = self._doubtful, set()
        standing = [obj for key in doubtful if (obj := await self._store.get(key)) is not None]
        return [obj.key for obj in standing if self._is_altered(obj)]

    async def watch(self, since: int, wake: Callable[[], None]) -> None:
        """Looks at every write of a status, for ever; `wake` is called when one may be of others."""
        waits = backoff(0.1, 5.0)
        while True:
            try:
                async for event in self._store.watch(None, since):
                    waits = backoff(0.1, 5.0)
                    if self._take(event):
                        wake()
            except StoreError as error:
                _log.warning("watch of conditions ended, all are compared: %s", error)
            await asyncio.sleep(next(waits))
            since = self._store.revision
            self._doubtful.update(self._said)
            wake()

    def _take(self, event: Event) -> bool:
        """Whether the object may say something else than was said."""
        obj = event.object
        if event.type == "DELETED":
            self._said.pop(obj.key, None)
            return False
        if not KINDS[obj.key.kind].programmed or not self._is_altered(obj):
            return False
        self._doubtful.add(obj.key)
        return True

    def _is_altered(self, obj: Object) -> bool:
        return self.of(obj.key).back_on(obj) is not obj


_NOTHING = Said()

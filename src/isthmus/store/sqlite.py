"""The embedded store: everything in memory for readers, every change durable in one SQLite file.

    apply ─▶ queue ─▶ writer thread: evaluate ≤ 64 against the latest state ─▶ one transaction, synced
                                                                                │
    get, list, watch ◀─ published state ◀─ event loop ◀─────────────────────────┘ then the callers resume

One thread owns the file and the latest state; the event loop owns what is published. Nothing is published
or acknowledged before it is durable; when the disk refuses, all writes of the group fail and nothing changed.
"""

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isthmus.api.meta import Key, Object
from isthmus.store.base import Event, StoreUnavailable, Write
from isthmus.store.file import StoreFile
from isthmus.store.log import WatchLog
from isthmus.store.transaction import State, Transaction

_GROUP = 64
"""Most calls of `apply` in one transaction: enough to share a disk sync, few enough to answer soon."""
_WATCH_LOG = 20_000

_Result = tuple[Object | None, ...]


@dataclass(slots=True, eq=False)
class _Call:
    writes: tuple[Write, ...]
    done: "asyncio.Future[_Result]"
    result: _Result = ()
    error: BaseException | None = None


@dataclass(slots=True)
class _Published:
    """What readers see."""

    by_kind: dict[str, dict[Key, Object]] = field(default_factory=dict)

    def take(self, events: Sequence[Event]) -> None:
        for event in events:
            key = event.object.key
            objects = self.by_kind.setdefault(key.kind, {})
            if event.type == "DELETED":
                objects.pop(key, None)
            else:
                objects[key] = event.object


class SqliteStore:
    """A `Store` over one file. Open it with `await SqliteStore.open(path)`, end it with `await close()`."""

    def __init__(self, file: StoreFile, state: State, now: Callable[[], float]) -> None:
        self._file = file
        self._state = state
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._published = _Published()
        for key, obj in state.objects.items():
            self._published.by_kind.setdefault(key.kind, {})[key] = obj
        self._log = WatchLog(state.revision, _WATCH_LOG)
        self._closing = False
        self._closed = asyncio.Event()
        self._writer = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._writer.start()

    @classmethod
    async def open(cls, path: Path, now: Callable[[], float] = time.time) -> "SqliteStore":
        """Opens or makes the file; StoreUnreadable when it cannot be used. `now` gives epoch seconds."""

        def load() -> tuple[StoreFile, State]:
            file = StoreFile.open(path)
            try:
                return file, file.load()
            except BaseException:
                file.close()
                raise

        file, state = await asyncio.to_thread(load)
        return cls(file, state, now)

    @property
    def revision(self) -> int:
        """The revision of the newest change that readers see."""
        return self._log.revision

    async def get(self, key: Key) -> Object | None:
        """The object, None when there is none."""
        return self._published.by_kind.get(key.kind, {}).get(key)

    async def list(self, kind: str, namespace: str | None = None) -> tuple[tuple[Object, ...], int]:
        """All objects of a kind (in a namespace) by namespace and name, and the revision they are at."""
        objects = self._published.by_kind.get(kind, {})
        found = sorted(key for key in objects if namespace is None or key.namespace == namespace)
        return tuple(objects[key] for key in found), self.revision

    async def apply(self, writes: Sequence[Write]) -> tuple[Object | None, ...]:
        """Makes all the writes or none, durably. Returns what stands at each write's key afterwards."""
        if self._closing:
            raise StoreUnavailable("the store is closed")
        call = _Call(tuple(writes), self._loop.create_future())
        self._calls.put(call)
        return await call.done

    def watch(self, kind: str | None, since: int) -> AsyncIterator[Event]:
        """Every change after revision `since`, in order, without end; Expired when those are not known."""
        return self._log.watch(kind, since)

    async def close(self) -> None:
        """Finishes the writes under way; later ones are refused, watches end."""
        if not self._closing:
            self._closing = True
            self._calls.put(None)
        await self._closed.wait()

    def _run(self) -> None:
        open_ = True
        while open_:
            group = [self._calls.get()]
            while len(group) < _GROUP and group[-1] is not None:
                try:
                    group.append(self._calls.get_nowait())
                except queue.Empty:
                    break
            open_ = group[-1] is not None
            self._settle([call for call in group if call is not None])
        self._file.close()
        self._tell(self._finish)

    def _settle(self, calls: Sequence[_Call]) -> None:
        transaction = Transaction(self._state, self._now)
        for call in calls:
            try:
                call.result = transaction.apply(call.writes)
            except Exception as error:
                call.error = error
        events = transaction.events
        try:
            if events:
                self._file.commit(events)
        except Exception as error:
            # refusals were judged against writes that did not happen, so they fail with them
            for call in calls:
                call.error = error
            events = []
        self._state.commit(events)
        self._tell(self._publish, calls, events)

    def _publish(self, calls: Sequence[_Call], events: Sequence[Event]) -> None:
        if events:
            self._published.take(events)
            self._log.publish(events, events[-1].revision)
        for call in calls:
            if call.done.done():
                continue  # the caller was cancelled; what it asked for happened all the same
            if call.error is not None:
                call.done.set_exception(call.error)
            else:
                call.done.set_result(call.result)

    def _finish(self) -> None:
        self._log.close()
        self._closed.set()

    def _tell(self, callback: Callable[..., None], *args: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            # the loop is gone, and with it everybody who could be told
            self._closing = True

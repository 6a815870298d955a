"""The embedded store: everything in memory for readers, every change durable in one SQLite file.

    apply ─▶ queue ─▶ writer thread: evaluate ≤ 64 against the latest state ─▶ one transaction, synced
               └ at the end of a turn of the event loop                         │
    get, list, watch ◀─ published state ◀─ event loop ◀─────────────────────────┘ then the callers resume

One thread owns the file and the latest state; the event loop owns what is published. Nothing is published
or acknowledged before it is durable; when the disk refuses, all writes of the group fail and nothing changed.
"""

import asyncio
import queue
import threading
import time
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
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
_WATCH_LOG = 10_000
"""Changes of each kind that watchers can go back to."""

_Result = tuple[Object | None, ...]
_Name = tuple[str, str]
"""Namespace and name."""


@dataclass(slots=True, eq=False)
class _Call:
    writes: tuple[Write, ...]
    done: "asyncio.Future[_Result]"
    result: _Result = ()
    error: BaseException | None = None


@dataclass(slots=True, eq=False)
class _Copy:
    path: Path
    done: "asyncio.Future[None]"


_Item = _Call | _Copy


@dataclass(slots=True)
class _Shelf:
    """The objects of one kind, in order of namespace and name."""

    objects: dict[_Name, Object] = field(default_factory=dict)
    order: list[_Name] = field(default_factory=list)

    def take(self, event: Event) -> None:
        name = (event.object.key.namespace, event.object.key.name)
        if event.type == "DELETED":
            if self.objects.pop(name, None) is not None:
                del self.order[bisect_left(self.order, name)]
            return
        if name not in self.objects:
            insort(self.order, name)
        self.objects[name] = event.object

    def within(self, namespace: str | None) -> list[_Name]:
        if namespace is None:
            return self.order
        first = bisect_left(self.order, (namespace, ""))
        return self.order[first : bisect_left(self.order, (namespace + "\0", ""))]


class _Published:
    """What readers see."""

    def __init__(self, objects: Iterable[Object]) -> None:
        self.by_kind: dict[str, _Shelf] = defaultdict(_Shelf)
        for obj in objects:
            self.by_kind[obj.key.kind].objects[(obj.key.namespace, obj.key.name)] = obj
        for shelf in self.by_kind.values():
            shelf.order = sorted(shelf.objects)

    def take(self, events: Sequence[Event]) -> None:
        for event in events:
            self.by_kind[event.object.key.kind].take(event)


class SqliteStore:
    """A `Store` over one file. Open it with `await SqliteStore.open(path)`, end it with `await close()`."""

    def __init__(
        self, file: StoreFile, state: State, past: Sequence[Event], now: Callable[[], float]
    ) -> None:
        self._file = file
        self._state = state
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._calls: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._gathered: list[_Item] = []
        """What was asked for in this turn of the event loop."""
        self._published = _Published(state.objects.values())
        self._log = WatchLog(state.revision, _WATCH_LOG, past)
        self._closing = False
        self._closed = asyncio.Event()
        self._writer = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._writer.start()

    @classmethod
    async def open(cls, path: Path, now: Callable[[], float] = time.time) -> "SqliteStore":
        """Opens or makes the file; StoreUnreadable when it cannot be used. `now` gives epoch seconds."""

        def load() -> tuple[StoreFile, State, list[Event]]:
            file = StoreFile.open(path)
            try:
                state = file.load()
                return file, state, file.changes(state)
            except BaseException:
                file.close()
                raise

        file, state, past = await asyncio.to_thread(load)
        return cls(file, state, past, now)

    @property
    def revision(self) -> int:
        """The revision of the newest change that readers see."""
        return self._log.revision

    async def get(self, key: Key) -> Object | None:
        """The object, None when there is none."""
        return self._published.by_kind[key.kind].objects.get((key.namespace, key.name))

    async def list(self, kind: str, namespace: str | None = None) -> tuple[tuple[Object, ...], int]:
        """All objects of a kind (in a namespace) by namespace and name, and the revision they are at."""
        shelf = self._published.by_kind[kind]
        return tuple(map(shelf.objects.__getitem__, shelf.within(namespace))), self.revision

    async def apply(self, writes: Sequence[Write]) -> tuple[Object | None, ...]:
        """Makes all the writes or none, durably. Returns what stands at each write's key afterwards."""
        if self._closing:
            raise StoreUnavailable("the store is closed")
        call = _Call(tuple(writes), self._loop.create_future())
        self._hand_over_soon(call)
        return await call.done

    def changes(self, kind: str, since: int) -> Sequence[Event]:
        """The changes of a kind after revision `since` that readers see by now; Expired when not known."""
        return self._log.changes(kind, since)

    def watch(self, kind: str | None, since: int) -> AsyncIterator[Event]:
        """Every change after revision `since`, in order, without end; Expired when those are not known."""
        return self._log.watch(kind, since)

    async def copy(self, path: Path) -> None:
        """Writes everything as it stands into a new file, while work goes on."""
        if self._closing:
            raise StoreUnavailable("the store is closed")
        item = _Copy(path, self._loop.create_future())
        self._hand_over_soon(item)
        await item.done

    async def close(self) -> None:
        """Finishes the writes under way; later ones are refused, watches end."""
        if not self._closing:
            self._closing = True
            self._hand_over()
            self._calls.put(None)
        await self._closed.wait()

    def _hand_over_soon(self, item: _Item) -> None:
        # calls of one turn share a transaction: to wake the writer for each costs more than to write it
        if not self._gathered:
            self._loop.call_soon(self._hand_over)
        self._gathered.append(item)

    def _hand_over(self) -> None:
        gathered, self._gathered = self._gathered, []
        for item in gathered:
            self._calls.put(item)

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
            self._settle([call for call in group if isinstance(call, _Call)])
            for copy in group:
                if isinstance(copy, _Copy):
                    self._copy(copy)
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

    def _copy(self, copy: _Copy) -> None:
        error: StoreUnavailable | None = None
        try:
            self._file.copy(copy.path)
        except StoreUnavailable as refusal:
            error = refusal
        self._tell(_answer, copy.done, error)

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


def _answer(done: "asyncio.Future[None]", error: Exception | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)

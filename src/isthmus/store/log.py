"""Published changes -> what each watcher has not seen yet.

Old changes are forgotten; who still needs them must list again. Each kind has a shelf of its own, so that a
watcher sleeps through the changes of others.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence
from itertools import groupby

from isthmus.store.base import Event, Expired, StoreUnavailable


class _Shelf:
    """The newest changes of one kind, or of all, in order."""

    def __init__(self, known_since: int, capacity: int) -> None:
        self.known_since = known_since
        self.events: list[Event] = []
        self.published = asyncio.Event()
        self._capacity = capacity

    def add(self, events: Sequence[Event]) -> None:
        self.events += events
        # twice the capacity before cutting: a cut moves every event that stays
        if len(self.events) > 2 * self._capacity:
            forgotten = len(self.events) - self._capacity
            self.known_since = self.events[forgotten - 1].revision
            del self.events[:forgotten]
        self.wake()

    def after(self, revision: int) -> list[Event]:
        events = self.events
        if not events or events[-1].revision <= revision:
            return []
        # most watchers have seen all but the last
        if len(events) == 1 or events[-2].revision <= revision:
            return [events[-1]]
        return events[bisect_right(events, revision, key=_revision) :]

    def wake(self) -> None:
        self.published.set()
        self.published = asyncio.Event()


class WatchLog:
    """The newest changes in order, and everybody who waits for the next one. Lives in one event loop."""

    def __init__(self, revision: int, capacity: int, past: Sequence[Event] = ()) -> None:
        """`past`: the newest changes up to the revision, all from the first of them on."""
        self._started = past[0].revision - 1 if past else revision
        self._capacity = capacity
        self._shelves: dict[str | None, _Shelf] = {}
        self._closed = False
        self.publish(past, revision)

    def publish(self, events: Sequence[Event], revision: int) -> None:
        """Appends changes and wakes the watchers."""
        self.revision = revision
        self._shelf(None).add(events)
        by_kind = sorted(events, key=_kind)  # stable: changes of one kind stay in order
        for kind, group in groupby(by_kind, key=_kind):
            self._shelf(kind).add(list(group))

    def close(self) -> None:
        """Ends every watch."""
        self._closed = True
        for shelf in self._shelves.values():
            shelf.wake()

    def changes(self, kind: str, since: int) -> Sequence[Event]:
        """The changes of a kind after revision `since`; Expired when they are not known."""
        shelf = self._shelf(kind)
        if since < shelf.known_since:
            raise Expired(f"too old resource version: {since} ({shelf.known_since})")
        return shelf.after(since)

    async def watch(self, kind: str | None, since: int) -> AsyncIterator[Event]:
        """Every change after `since`, in order, without end."""
        if since > self.revision:
            raise Expired(f"too new resource version: {since} ({self.revision})")
        shelf = self._shelf(kind)
        position = since
        while not self._closed:
            if position < shelf.known_since:
                raise Expired(f"too old resource version: {position} ({shelf.known_since})")
            # taken before reading: a publication between reading and waiting is not missed
            published = shelf.published
            fresh = shelf.after(position)
            for event in fresh:
                position = event.revision
                yield event
            if not fresh:
                position = self.revision
                await published.wait()
        raise StoreUnavailable("the store is closed")

    def _shelf(self, kind: str | None) -> _Shelf:
        found = self._shelves.get(kind)
        if found is None:
            found = self._shelves[kind] = _Shelf(self._started, self._capacity)
        return found


def _kind(event: Event) -> str:
    return event.object.key.kind


def _revision(event: Event) -> int:
    return event.revision

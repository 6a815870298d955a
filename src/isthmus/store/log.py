"""Published changes -> what each watcher has not seen yet.

Old changes are forgotten; who still needs them must list again.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Sequence

from isthmus.store.base import Event, Expired, StoreUnavailable


class WatchLog:
    """The newest changes in order, and everybody who waits for the next one. Lives in one event loop."""

    def __init__(self, revision: int, capacity: int) -> None:
        self.revision = revision
        self._known_since = revision
        self._capacity = capacity
        self._events: list[Event] = []
        self._published = asyncio.Event()
        self._closed = False

    def publish(self, events: Sequence[Event], revision: int) -> None:
        """Appends changes and wakes the watchers."""
        self._events += events
        self.revision = revision
        # twice the capacity before cutting: a cut moves every event that stays
        if len(self._events) > 2 * self._capacity:
            forgotten = len(self._events) - self._capacity
            self._known_since = self._events[forgotten - 1].revision
            del self._events[:forgotten]
        self._wake()

    def close(self) -> None:
        """Ends every watch."""
        self._closed = True
        self._wake()

    async def watch(self, kind: str | None, since: int) -> AsyncIterator[Event]:
        """Every change after `since`, in order, without end."""
        if since > self.revision:
            raise Expired(f"revision {since} is newer than the newest, {self.revision}")
        position = since
        while not self._closed:
            if position < self._known_since:
                raise Expired(
                    f"changes after {position} are forgotten; known are those after {self._known_since}"
                )
            # taken before reading: a publication between reading and waiting is not missed
            published = self._published
            fresh = self._events[bisect_right(self._events, position, key=lambda event: event.revision) :]
            for event in fresh:
                position = event.revision
                if kind is None or event.object.key.kind == kind:
                    yield event
            if not fresh:
                position = self.revision
                await published.wait()
        raise StoreUnavailable("the store is closed")

    def _wake(self) -> None:
        self._published.set()
        self._published = asyncio.Event()

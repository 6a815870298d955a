"""The store's changes -> the lines of a watch: `{"type": …, "object": …}`, one per change.

    what stands (unless the client knows it) ─▶ [initial-events-end] ─▶ changes … bookmarks … ─▶ end in time

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from isthmus.api.meta import Object
from isthmus.api.text import dumped, text
from isthmus.server.kube_encoding import Encodings, line
from isthmus.server.kube_http import Form, Target
from isthmus.server.kube_tables import columns, metadata_document, row, table, utc_now
from isthmus.server.selectors import Selects
from isthmus.server.status_errors import failure_of
from isthmus.store.base import Event, Store, StoreError

LONGEST_S = 3600.0
"""A watch ends after this time; clients go on with a new one."""
BOOKMARK_S = 60.0
"""How often a client is told how far it is, when nothing else tells it."""
_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Watched:
    """What a client watches, and how it wants to see it."""

    target: Target
    selects: Selects
    form: Form
    since: int | None
    """None: first everything that stands."""
    timeout_s: float
    bookmarks: bool = False
    marks_end: bool = False
    """Whether the end of what stands is told."""
    include: str = ""


class WatchResponse(Response):
    """An answer that lasts: the lines of one watch, until its time is over or the client goes."""

    def __init__(self, store: Store, encodings: Encodings, watched: Watched) -> None:
        super().__init__(media_type="application/json")
        self._store = store
        self._lines = _Lines(encodings, watched)
        self._watched = watched
        self._position = watched.since or 0
        self._sending = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the lines."""
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-cache, private")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async with asyncio.TaskGroup() as tasks:
            beside = [tasks.create_task(_gone(receive))]
            told = tasks.create_task(self._tell(send))
            beside[0].add_done_callback(lambda _: told.cancel())
            if self._watched.bookmarks:
                beside.append(tasks.create_task(self._bookmark(send)))
            try:
                await told
            except asyncio.CancelledError:
                if not beside[0].done():
                    raise
                return
            finally:
                for task in beside:
                    task.cancel()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, send: Send) -> None:
        try:
            async with asyncio.timeout(self._watched.timeout_s):
                await self._changes(send)
        except TimeoutError:
            if self._watched.bookmarks and not self._sending:
                await self._send(send, self._lines.bookmark(self._position))
        except StoreError as error:
            await self._send(send, line("ERROR", dumped(failure_of(error).document())))

    async def _changes(self, send: Send) -> None:
        watched = self._watched
        if watched.since is None:
            await self._present(send)
        events = self._store.watch(watched.target.kind.kind, self._position)
        async for event in events:
            self._position = event.revision
            told = self._lines.told(event)
            if told:
                await self._send(send, told)

    async def _present(self, send: Send) -> None:
        target = self._watched.target
        objects, revision = await self._store.list(target.kind.kind, target.namespace)
        chunk = bytearray()
        for obj in filter(self._watched.selects, objects):
            chunk += self._lines.line("ADDED", obj)
            if len(chunk) > _CHUNK:
                await self._send(send, bytes(chunk))
                chunk.clear()
        self._position = revision
        if self._watched.marks_end:
            chunk += self._lines.bookmark(revision, end=True)
        if chunk:
            await self._send(send, bytes(chunk))

    async def _bookmark(self, send: Send) -> None:
        while True:
            await asyncio.sleep(BOOKMARK_S - 1)
            reached = self._store.revision
            # whoever waits for changes by then, and not for a slow client, has seen all up to here
            await asyncio.sleep(1)
            if not self._sending:
                self._position = max(self._position, reached)
                await self._send(send, self._lines.bookmark(self._position))

    async def _send(self, send: Send, body: bytes) -> None:
        self._sending = True
        await send({"type": "http.response.body", "body": body, "more_body": True})
        self._sending = False


class _Lines:
    """Makes the lines of one watch, in bytes that all watches of the kind share."""

    def __init__(self, encodings: Encodings, watched: Watched) -> None:
        self._encodings = encodings
        self._watched = watched
        self._headed = False

    def told(self, event: Event) -> bytes:
        """What a change is to this client; empty when it is nothing.

        An object that a change takes out of the selection is told as deleted, as in Kubernetes.
        """
        watched, obj = self._watched, event.object
        if watched.target.namespace is not None and obj.key.namespace != watched.target.namespace:
            return b""
        before = event.before is not None and watched.selects(event.before)
        if event.type == "DELETED":
            return self.line("DELETED", obj) if before or watched.selects(obj) else b""
        if watched.selects(obj):
            return self.line("MODIFIED" if before else "ADDED", obj)
        if before and event.before is not None:
            return self.line("DELETED", _at(event.before, event.revision), shared=False)
        return b""

    def line(self, change: str, obj: Object, *, shared: bool = True) -> bytes:
        """The line for a change of one object."""
        watched = self._watched
        api_version = watched.target.api_version
        head = watched.form == "table" and not self._headed
        self._headed = self._headed or head

        def shown() -> bytes:
            if watched.form == "table":
                return self._table(obj, head=head)
            if watched.form == "metadata":
                return dumped(metadata_document(obj))
            return text(obj, api_version)

        if head or not shared:
            return line(change, shown())
        form = f"{watched.form} {watched.include}"
        return self._encodings.event(change, obj, api_version, form, shown)

    def bookmark(self, revision: int, *, end: bool = False) -> bytes:
        """The line that says how far the watch is."""
        kind = self._watched.target.kind
        metadata: dict[str, Any] = {"resourceVersion": str(revision)}
        if end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        api_version = self._watched.target.api_version
        shown: dict[str, Any] = {"kind": kind.kind, "apiVersion": api_version, "metadata": metadata}
        if self._watched.form != "whole":
            shown |= {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
        if self._watched.form == "table":
            head, self._headed = not self._headed, True
            mark = {"cells": ["", *(None for _ in columns(kind))], "object": shown}
            shown = table(kind, [mark], {"resourceVersion": str(revision)}, head=head)
        return line("BOOKMARK", dumped(shown))

    def _table(self, obj: Object, *, head: bool) -> bytes:
        target = self._watched.target
        one = row(obj, target.kind, target.api_version, utc_now(), include=self._watched.include)
        metadata = {"resourceVersion": str(obj.meta.resource_version)}
        return dumped(table(target.kind, [one], metadata, head=head))


def _at(obj: Object, revision: int) -> Object:
    return replace(obj, meta=replace(obj.meta, resource_version=revision))


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

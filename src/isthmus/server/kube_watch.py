"""The store's changes -> the lines of a watch: `{"type": …, "object": …}`, one per change.

https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from isthmus.api.codec import encode
from isthmus.api.meta import Object
from isthmus.server.kube_http import Target
from isthmus.server.selectors import Selects
from isthmus.server.status_errors import failure_of
from isthmus.store.base import Event, Store, StoreError

LONGEST_S = 3600.0
"""A watch ends after this time; clients go on with a new one."""


async def watch_lines(
    store: Store, target: Target, selects: Selects, *, since: int | None, timeout_s: float
) -> AsyncIterator[bytes]:
    """The lines of a watch after revision `since` (None: first everything that stands, then changes).

    An object that a change takes out of the selection is told as deleted, as in Kubernetes.
    """
    kind = target.kind.kind
    if since is None:
        objects, since = await store.list(kind, target.namespace)
        for obj in filter(selects, objects):
            yield _line("ADDED", obj, target)
    deadline = asyncio.get_running_loop().time() + timeout_s
    events = store.watch(kind, since)
    outside: set[str] = set()
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                event = await anext(events)
        except (TimeoutError, StopAsyncIteration):
            return
        except StoreError as error:
            yield _dump({"type": "ERROR", "object": failure_of(error).document()})
            return
        told = _told(event, target, selects, outside)
        if told is not None:
            yield _line(told.type, told.object, target)


def _told(event: Event, target: Target, selects: Selects, outside: set[str]) -> Event | None:
    obj, uid = event.object, event.object.meta.uid
    if target.namespace is not None and obj.key.namespace != target.namespace:
        return None
    if selects(obj):
        was_outside = uid in outside
        outside.discard(uid)
        return replace(event, type="ADDED") if was_outside and event.type == "MODIFIED" else event
    if event.type == "MODIFIED" and uid not in outside:
        outside.add(uid)
        return replace(event, type="DELETED")
    return None


def _line(kind: str, obj: Object, target: Target) -> bytes:
    return _dump({"type": kind, "object": encode(obj, target.api_version)})


def _dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"

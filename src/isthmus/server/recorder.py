"""Changes in the store -> Events: what the control plane decided, for `kubectl get events` and `describe`.

    change ─▶ notices (enrolled, left, address given, programmed, rejected, …) ─▶ Event objects, counted

The same notice again counts up instead of adding another Event. Events go after an hour. In a storm the
Normal ones are left out first: they must not cost more than what they tell of.
"""

import asyncio
import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal

from isthmus.api.cluster import EventSource, EventSpec, ObjectReference
from isthmus.api.core import ServiceSpec
from isthmus.api.kinds import KINDS
from isthmus.api.meta import Key, Object, ObjectMeta
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.clock import backoff, rfc3339
from isthmus.store.base import Event, Expired, Mutate, Store, StoreError

COMPONENT = "isthmus"
LIFE = timedelta(hours=1)
_FLUSH_S = 0.5
_SWEEP_S = 60.0
_MOST_NORMAL = 50
"""Normal notices between two flushes; those beyond are left out."""
_MOST_WAITING = 500
"""Notices between two flushes, of any type."""

_AT_ONCE = 200
"""Most Events that are deleted in one transaction."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that happened to an object."""

    about: Object
    reason: str
    text: str
    type: Literal["Normal", "Warning"] = "Normal"

    @property
    def key(self) -> Key:
        """The Event that tells it: the same notice of the same object is the same Event."""
        same = f"{self.about.meta.uid} {self.reason} {self.text}".encode()
        name = f"{self.about.key.name[:230]}.{hashlib.sha256(same).hexdigest()[:16]}"
        return Key("Event", self.about.key.namespace, name)


class Recorder:
    """Writes Events for as long as it runs."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: dict[Key, tuple[Notice, int]] = {}
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Records for ever, from now on."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            tasks.create_task(self._flush())
            tasks.create_task(self._sweep())

    async def _watch(self) -> None:
        waits = backoff(0.1, 5.0)
        while True:
            try:
                async for event in self._store.watch(None, self._store.revision):
                    for notice in notices(event):
                        self._take(notice)
            except Expired:
                continue  # what was missed is not told: the objects themselves say how they are
            except StoreError as error:
                _log.warning("events are not recorded for now: %s", error)
            await asyncio.sleep(next(waits))

    def _take(self, notice: Notice) -> None:
        if len(self._waiting) >= (_MOST_NORMAL if notice.type == "Normal" else _MOST_WAITING):
            return
        _, count = self._waiting.get(notice.key, (notice, 0))
        self._waiting[notice.key] = (notice, count + 1)
        self._wake.set()

    async def _flush(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            waiting, self._waiting = self._waiting, {}
            now = rfc3339()
            namespaces = {obj.key.name for obj in (await self._store.list("Namespace"))[0]}
            changes = [
                Mutate(key, partial(recorded, notice=notice, count=count, now=now))
                for key, (notice, count) in waiting.items()
                if key.namespace in namespaces  # it may be gone with its objects
            ]
            try:
                await self._store.apply(changes)
            except StoreError as error:
                _log.warning("%d events not recorded: %s", len(changes), error)
            await asyncio.sleep(_FLUSH_S)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            objects, _ = await self._store.list("Event")
            oldest = rfc3339((datetime.now(UTC) - LIFE).timestamp())
            old = [obj.key for obj in objects if is_over(obj, oldest)]
            for begin in range(0, len(old), _AT_ONCE):
                try:
                    await self._store.apply(
                        [Mutate(key, partial(_kept, oldest=oldest)) for key in old[begin : begin + _AT_ONCE]]
                    )
                except StoreError as error:
                    _log.warning("events not deleted: %s", error)
                    break


def notices(event: Event) -> Iterator[Notice]:
    """What a change is worth telling."""
    obj, before = event.object, event.before
    if obj.key.kind == "Event" or not obj.key.namespace:
        return
    if isinstance(obj.spec, WorkloadEntrySpec) and (group := _group(obj)):
        if event.type == "ADDED":
            yield Notice(obj, "Enrolled", f"joined {group} with address {obj.spec.address}")
        elif event.type == "DELETED":
            yield Notice(obj, "Left", f"is no longer in {group}")
    if event.type == "DELETED":
        return
    if before is not None and before.status.get("usedBy") and obj.status.get("givenBackAt"):
        text = f"the join as {before.status.get('workload')} failed, and the token is unused again"
        yield Notice(obj, "GivenBack", text, "Warning")
    if (given := _addresses(obj)) and given != (_addresses(before) if before else ()):
        yield Notice(obj, "AddressGiven", f"virtual addresses are {', '.join(given)}")
    if before and before.status == obj.status:
        return
    old = _conditions(before) if before else {}
    for name, condition in _conditions(obj).items():
        if _said(condition) != _said(old.get(name, {})):
            yield from _of_condition(obj, name, condition)


def recorded(before: Object | None, *, notice: Notice, count: int, now: str) -> Object:
    """The Event after a notice came so often (once more)."""
    about = notice.about
    if before is not None and isinstance(before.spec, EventSpec):
        spec = before.spec.model_copy(
            update={"count": (before.spec.count or 1) + count, "last_timestamp": now}
        )
        return replace(before, spec=spec)
    spec = EventSpec(
        involved_object=ObjectReference(
            api_version=KINDS[about.key.kind].api_versions[0],
            kind=about.key.kind,
            namespace=about.key.namespace,
            name=about.key.name,
            uid=about.meta.uid,
            resource_version=str(about.meta.resource_version),
        ),
        reason=notice.reason,
        message=notice.text[:1024],
        type=notice.type,
        source=EventSource(component=COMPONENT),
        reporting_component=COMPONENT,
        count=count,
        first_timestamp=now,
        last_timestamp=now,
    )
    key = notice.key
    return Object(key, ObjectMeta(key.name, key.namespace), spec)


def _kept(obj: Object | None, *, oldest: str) -> Object | None:
    return None if obj is None or is_over(obj, oldest) else obj  # it may have been seen again meanwhile


def is_over(obj: Object, oldest: str) -> bool:
    """Whether an Event was last seen before a moment."""
    spec = obj.spec
    assert isinstance(spec, EventSpec)
    series = spec.series.last_observed_time if spec.series else None
    seen = series or spec.last_timestamp or spec.event_time or obj.meta.creation_timestamp
    return seen[:19] < oldest[:19]


def _of_condition(obj: Object, name: str, condition: Mapping[str, Any]) -> Iterator[Notice]:
    state, reason = condition.get("status"), str(condition.get("reason") or name)
    text = str(condition.get("message") or reason)
    if name == "Programmed" and state == "True":
        yield Notice(obj, "Programmed", f"generation {condition.get('observedGeneration')}: {text}")
    elif state == "False":
        yield Notice(obj, reason, text, "Warning")


def _conditions(obj: Object) -> dict[str, Mapping[str, Any]]:
    return {str(one.get("type")): one for one in obj.status.get("conditions", ()) if isinstance(one, Mapping)}


def _said(condition: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(condition.get(name) for name in ("status", "reason", "observedGeneration", "message"))


def _addresses(obj: Object) -> tuple[str, ...]:
    if isinstance(obj.spec, ServiceSpec):
        return tuple(address for address in obj.spec.cluster_ips if address != "None")
    rows = obj.status.get("addresses", ()) if obj.key.kind == "ServiceEntry" else ()
    return tuple(str(row.get("value", "")) for row in rows if isinstance(row, Mapping))


def _group(obj: Object) -> str:
    for owner in obj.meta.owner_references:
        if owner.get("kind") == "WorkloadGroup":
            return f"WorkloadGroup {owner.get('name')}"
    return ""

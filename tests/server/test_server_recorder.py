"""Events: what is worth telling, told once and counted."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from documents import document, namespace, service, workload_entry
from isthmus.api.cluster import EventSpec
from isthmus.api.codec import decode
from isthmus.api.meta import Object
from isthmus.server.recorder import Notice, Recorder, is_over, notices, recorded
from isthmus.store.base import Create, Delete, Event, UpdateStatus
from isthmus.store.sqlite import SqliteStore


def made(doc: dict[str, Any], **status: Any) -> Object:
    """An object with a status."""
    obj, problems = decode(doc)
    assert obj is not None, problems
    return replace(obj, status=status)


def told(change: str, obj: Object, before: Object | None = None) -> list[tuple[str, str]]:
    """Type and reason of what a change is worth telling."""
    event = Event(change, obj, 1, before)  # type: ignore[arg-type]
    return [(notice.type, notice.reason) for notice in notices(event)]


OWNER = {"apiVersion": "networking.istio.io/v1", "kind": "WorkloadGroup", "name": "g", "uid": "u"}


def programmed(status: str, reason: str, generation: int = 1) -> dict[str, Any]:
    """A status with the condition Programmed."""
    condition = {"type": "Programmed", "status": status, "reason": reason, "observedGeneration": generation}
    return {"conditions": [condition]}


def test_what_is_worth_telling() -> None:
    joined = made(workload_entry("a", ownerReferences=[OWNER]))
    assert told("ADDED", joined) == [("Normal", "Enrolled")]
    assert told("DELETED", joined, joined) == [("Normal", "Left")]
    assert told("ADDED", made(workload_entry("a"))) == []
    fine = made(workload_entry("a"), **programmed("True", "Programmed"))
    refused = made(workload_entry("a"), **programmed("False", "Rejected"))
    waiting = made(workload_entry("a"), **programmed("Unknown", "Pending"))
    assert told("MODIFIED", fine, waiting) == [("Normal", "Programmed")]
    assert told("MODIFIED", refused, fine) == [("Warning", "Rejected")]
    assert told("MODIFIED", waiting, refused) == []
    assert told("MODIFIED", fine, fine) == []
    with_address = service("s", clusterIP="240.240.0.1", clusterIPs=["240.240.0.1"])
    assert told("ADDED", made(with_address)) == [("Normal", "AddressGiven")]
    assert told("MODIFIED", made(with_address), made(with_address)) == []
    assert told("ADDED", made(namespace())) == []
    event = document("v1", "Event", "e", "n", {})
    del event["spec"]
    assert told("ADDED", made(event)) == []


def test_the_same_again_is_counted() -> None:
    notice = Notice(made(workload_entry("a")), "Rejected", "no", "Warning")
    first = recorded(None, notice=notice, count=2, now="2026-01-01T00:00:00Z")
    second = recorded(first, notice=notice, count=1, now="2026-01-01T00:10:00Z")
    assert isinstance(second.spec, EventSpec)
    assert (second.key, second.spec.count) == (first.key, 3)
    assert (second.spec.first_timestamp, second.spec.last_timestamp) == (
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:10:00Z",
    )
    assert is_over(second, "2026-01-01T00:10:01Z")
    assert not is_over(second, "2026-01-01T00:10:00Z")


async def test_events_are_recorded(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "isthmus.db")
    await store.apply([Create(made(namespace()))])
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(Recorder(store).run())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        (entry,) = await store.apply([Create(made(workload_entry("a", ownerReferences=[OWNER])))])
        assert entry is not None
        await store.apply([UpdateStatus(entry.key, programmed("False", "Rejected"))])
        await store.apply([Delete(entry.key)])
        async with asyncio.timeout(60):
            async for _ in store.watch("Event", entry.meta.resource_version):
                found, _ = await store.list("Event")
                if len(found) == 3:
                    break
        running.cancel()
    assert {obj.spec.reason for obj in found if isinstance(obj.spec, EventSpec)} == {
        "Enrolled",
        "Rejected",
        "Left",
    }
    await store.close()

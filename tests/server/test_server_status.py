"""Verdicts on objects -> conditions in a real store."""

import asyncio
import itertools
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from isthmus.api.meta import Key, Object, ObjectMeta, Problem
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.engine import Engine, Reader
from isthmus.registry.feed import Feed
from isthmus.server.status import StatusWriter, judged
from isthmus.store.base import Create, StoreUnavailable, Update, UpdateStatus
from isthmus.store.sqlite import SqliteStore
from isthmus.xds.fleet import Fleet
from isthmus.xds.verdicts import Condition, Verdict

VM = Key("WorkloadEntry", "shop", "vm")
HEALTHY = {"type": "Healthy", "status": "True", "lastTransitionTime": "t0"}


def workload(address: str, status: Mapping[str, Any] | None = None, **meta: Any) -> Object:
    return Object(VM, ObjectMeta("vm", "shop", **meta), WorkloadEntrySpec(address=address), status or {})


def verdict(reason: str, status: Any = "True", *, generation: int = 1, strength: int = 3) -> Verdict:
    return Verdict(
        "u",
        generation,
        Condition("Programmed", status, reason, f"{reason}!"),
        Condition("Resolved", "True", "Resolved", ""),
        strength,
    )


def conditions(obj: Object | None) -> dict[str, str]:
    assert obj is not None
    return {
        c["type"]: f"{c['status']} {c.get('reason')} {c.get('observedGeneration')} {c['lastTransitionTime']}"
        for c in obj.status["conditions"]
    }


def test_conditions_of_others_stay() -> None:
    obj = workload("a", {"conditions": [HEALTHY], "address": "kept"}, uid="u", generation=1)
    after = judged(obj, verdict("Programmed"), "t1")
    assert conditions(after) == {
        "Healthy": "True None None t0",
        "Programmed": "True Programmed 1 t1",
        "Resolved": "True Resolved 1 t1",
    }
    assert after is not None
    assert after.status["address"] == "kept"


def test_time_moves_only_with_the_status() -> None:
    obj = judged(workload("a", uid="u", generation=2), verdict("NoProxies", strength=1), "t1")
    again = judged(obj, verdict("Programmed"), "t2")
    assert conditions(again)["Programmed"] == "True Programmed 1 t1"
    refused = judged(again, verdict("Rejected", "False", generation=2, strength=2), "t3")
    assert conditions(refused)["Programmed"] == "False Rejected 2 t3"


def test_equal_verdict_changes_nothing() -> None:
    obj = judged(workload("a", uid="u", generation=1), verdict("Programmed"), "t1")
    assert judged(obj, verdict("Programmed"), "t2") is obj


def test_verdict_on_something_else_is_dropped() -> None:
    gone, another = workload("a", uid="u", generation=1), workload("a", uid="other", generation=1)
    assert judged(None, verdict("Programmed"), "t1") is None
    assert judged(another, verdict("Programmed"), "t1") is another
    assert judged(gone, verdict("Programmed", generation=2), "t1") is gone


def test_waiting_does_not_hide_an_answer() -> None:
    obj = judged(workload("a", uid="u", generation=1), verdict("Programmed"), "t1")
    assert judged(obj, verdict("Pending", "Unknown", strength=0), "t2") is obj


async def test_conditions_reach_the_store_and_cause_no_further_commits(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    await store.apply([Create(workload("10.0.0.1")), UpdateStatus(VM, {"conditions": [HEALTHY]})])
    engine = Engine()

    def problems(q: Reader) -> Mapping[Key, tuple[Problem, ...]]:
        address = q.input("fact", "WorkloadEntry", "shop", "vm").spec.address
        return {VM: (Problem("spec.address", "is odd"),)} if address.endswith("3") else {}

    feed = Feed(store, engine, on_commit=lambda touched: fleet.committed(touched))
    fleet = Fleet(
        engine,
        manifest=lambda q, type_url, proxy: {},
        problems=problems,
        objects=feed.programmed,
        registered=lambda proxy: None,
        outdated=lambda proxy, signed_at: False,
        now=monotonic,
    )
    await feed.start()
    writer = StatusWriter(store, fleet, now=lambda: "t1")

    async def generation_with_status() -> tuple[int, dict[str, str]]:
        obj = await store.get(VM)
        assert obj is not None
        return obj.meta.generation, conditions(obj)

    async def until(expected: dict[str, str]) -> None:
        async with asyncio.timeout(60):
            while (await generation_with_status())[1] != expected:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    healthy = {"Healthy": "True None None t0"}
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(feed.run()), tasks.create_task(writer.run())]
        await until({**healthy, "Programmed": "True NoProxies 1 t1", "Resolved": "True Resolved 1 t1"})
        await store.apply([Update(workload("10.0.0.3"))])
        await until({**healthy, "Programmed": "True NoProxies 2 t1", "Resolved": "False Problems 2 t1"})
        assert (await generation_with_status())[0] == 2
        revision = store.revision
        await asyncio.sleep(0.1)  # nothing more may happen
        assert (engine.revision, store.revision) == (2, revision)
        for task in running:
            task.cancel()
    await store.close()


Written = list[dict[str, Any]]


def forged(generation: int) -> Written:
    return [
        {
            "type": "Programmed",
            "status": "True",
            "reason": "Programmed",
            "observedGeneration": generation,
            "lastTransitionTime": "t9",
        }
    ]


@pytest.mark.parametrize(
    "written",
    [[], [HEALTHY], forged(1), forged(99), [*forged(1), *forged(2), HEALTHY]],
    ids=["wiped", "replaced", "forged", "forged for a later generation", "twice"],
)
@pytest.mark.parametrize("restarted", [False, True])
async def test_what_others_make_of_conditions_is_put_right(
    tmp_path: Path, written: Written, restarted: bool
) -> None:
    """A wiped condition comes back as it was, a forged one goes; conditions of others are theirs."""
    store = await SqliteStore.open(tmp_path / "store.db")
    await store.apply([Create(workload("10.0.0.1"))])
    engine = Engine()
    told: dict[Key, tuple[Problem, ...]] = {VM: (Problem("spec.address", "is odd"),)}
    feed = Feed(store, engine)
    await feed.start()

    def writer(now: str) -> StatusWriter:
        fleet = Fleet(
            engine,
            manifest=lambda q, type_url, proxy: {},
            problems=lambda q: told,
            objects=feed.programmed,
            registered=lambda proxy: None,
            outdated=lambda proxy, signed_at: False,
            now=monotonic,
        )
        return StatusWriter(store, fleet, now=lambda: now)

    ours = {"Programmed": "True NoProxies 1 t1", "Resolved": "False Problems 1 t1"}

    async def until(expected: dict[str, str]) -> None:
        async with asyncio.timeout(60):
            while conditions(await store.get(VM)) != expected:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(writer("t1").run())
        await store.apply([UpdateStatus(VM, {"conditions": []})])
        await until(ours)
        if restarted:
            running.cancel()
            running = tasks.create_task(writer("t2").run())
            await asyncio.sleep(0)
        await store.apply([UpdateStatus(VM, {"conditions": written, "mark": "theirs"})])
        await until(ours | ({"Healthy": "True None None t0"} if HEALTHY in written else {}))
        obj = await store.get(VM)
        assert obj is not None
        assert (obj.status["mark"], len(obj.status["conditions"])) == ("theirs", 2 + (HEALTHY in written))
        running.cancel()
    await store.close()


async def test_a_full_disk_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("isthmus.server.status.backoff", lambda base_s, cap_s: itertools.repeat(0.001))
    caplog.set_level("INFO")
    store = await SqliteStore.open(tmp_path / "store.db")
    fleet = Fleet(
        Engine(),
        manifest=lambda q, type_url, proxy: {},
        problems=lambda q: {},
        objects={},
        registered=lambda proxy: None,
        outdated=lambda proxy, signed_at: False,
        now=monotonic,
    )
    writer, tries, full = StatusWriter(store, fleet), [], True

    async def write() -> None:
        tries.append(1)
        if full:
            raise StoreUnavailable("No space left on device")

    monkeypatch.setattr(writer, "_write", write)
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(60):
        task = tasks.create_task(writer.run())
        while len(tries) < 5:  # noqa: ASYNC110 - a loop of ours is waited for
            await asyncio.sleep(0.001)
        full = False
        while "status written again" not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        task.cancel()
    await store.close()
    assert caplog.text.count("No space left") == 1

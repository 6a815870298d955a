"""A real store and engine with the feed between them."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from isthmus.api.core import NamespaceSpec
from isthmus.api.meta import Key, Object, ObjectMeta
from isthmus.api.networking.service_entry import ServiceEntrySpec
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.engine import Engine, Reader
from isthmus.registry.feed import Feed
from isthmus.store.base import Create, Delete, Mutate, Update, UpdateStatus
from isthmus.store.sqlite import SqliteStore

VM = Key("WorkloadEntry", "shop", "vm")
DB = Key("ServiceEntry", "shop", "db")


def workload(address: str, *, name: str = "vm", labels: dict[str, str] | None = None) -> Object:
    key = Key("WorkloadEntry", "shop", name)
    return Object(key, ObjectMeta(name, "shop", labels=labels or {}), WorkloadEntrySpec(address=address))


def entry() -> Object:
    return Object(DB, ObjectMeta("db", "shop"), ServiceEntrySpec(hosts=("db.shop",)))


class World:
    """The store, the engine, and the commits that were made."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.engine = Engine()
        self.commits: list[int] = []
        self._made = asyncio.Event()
        self.feed = Feed(store, self.engine, on_commit=self._committed, constants={("mesh",): "settings"})

    def _committed(self, _: Collection[Key]) -> None:
        self.commits.append(self.engine.revision)
        self._made.set()

    async def write(self, *writes: Any) -> None:
        """Applies, and waits for the commit that comes of it."""
        self._made.clear()
        await self.store.apply(writes)
        async with asyncio.timeout(60):
            await self._made.wait()


@asynccontextmanager
async def world(tmp_path: Path, *present: Object) -> AsyncIterator[World]:
    store = await SqliteStore.open(tmp_path / "store.db")
    try:
        if present:
            await store.apply([Create(obj) for obj in present])
        made = World(store)
        await made.feed.start()
        async with asyncio.TaskGroup() as tasks:
            feeding = tasks.create_task(made.feed.run())
            yield made
            feeding.cancel()
    finally:
        await store.close()


async def test_everything_there_is_comes_in_one_commit(tmp_path: Path) -> None:
    namespace = Object(Key("Namespace", "", "shop"), ObjectMeta("shop"), NamespaceSpec())
    async with world(tmp_path, namespace, workload("10.0.0.1"), entry()) as made:
        assert made.commits == [1]
        assert made.engine.input("mesh") == "settings"
        assert made.engine.input("fact", "WorkloadEntry", "shop", "vm").spec.address == "10.0.0.1"
        assert made.engine.input("keys", "WorkloadEntry", "shop") == (Key("WorkloadEntry", "shop", "vm"),)
        assert made.engine.input("namespaces", "WorkloadEntry") == ("shop",)
        assert made.engine.input("keys", "Namespace", "") == (Key("Namespace", "", "shop"),)
        assert {key: (known.generation, known.revision) for key, known in made.feed.programmed.items()} == {
            VM: (1, 1),
            DB: (1, 1),
        }


async def test_empty_store_is_a_state_too(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        assert made.commits == [1]
        await made.write(Create(workload("10.0.0.1")))
        assert made.engine.input("keys", "WorkloadEntry", "shop") == (Key("WorkloadEntry", "shop", "vm"),)


async def test_change_and_removal(tmp_path: Path) -> None:
    async with world(tmp_path, workload("10.0.0.1"), workload("10.0.0.3", name="other")) as made:
        await made.write(Update(workload("10.0.0.2")))
        assert made.engine.input("fact", "WorkloadEntry", "shop", "vm").spec.address == "10.0.0.2"
        assert (made.feed.programmed[VM].generation, made.feed.programmed[VM].revision) == (2, 2)
        await made.write(Delete(VM))
        assert made.engine.input("fact", "WorkloadEntry", "shop", "vm") is None
        assert made.engine.input("keys", "WorkloadEntry", "shop") == (Key("WorkloadEntry", "shop", "other"),)
        assert VM not in made.feed.programmed
        await made.write(Delete(Key("WorkloadEntry", "shop", "other")))
        assert made.engine.input("keys", "WorkloadEntry", "shop") is None
        assert made.engine.input("namespaces", "WorkloadEntry") is None


async def test_objects_written_together_are_committed_together(tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        await made.write(*(Create(workload(f"10.0.0.{n}", name=f"vm{n}")) for n in range(1, 9)))
        assert len(made.commits) == 2
        assert len(made.engine.input("keys", "WorkloadEntry", "shop")) == 8


async def test_own_status_is_noise(tmp_path: Path) -> None:
    async with world(tmp_path, workload("10.0.0.1"), entry()) as made:
        own = {"conditions": [{"type": "Programmed", "status": "True"}]}
        await made.store.apply([UpdateStatus(VM, own), UpdateStatus(DB, own)])
        await made.write(Update(workload("10.0.0.2")))
        assert made.commits == [1, 2]
        assert made.engine.input("status", "WorkloadEntry", "shop", "vm") is None


async def test_health_and_addresses_are_configuration(tmp_path: Path) -> None:
    async with world(tmp_path, workload("10.0.0.1"), entry()) as made:
        unhealthy = {"type": "Healthy", "status": "False"}
        await made.write(
            UpdateStatus(VM, {"conditions": [unhealthy, {"type": "Programmed", "status": "True"}]})
        )
        assert made.engine.input("status", "WorkloadEntry", "shop", "vm") == {"conditions": [unhealthy]}
        assert made.feed.programmed[VM].revision == 1  # what people wrote did not change
        addresses = [{"value": "240.240.0.1", "host": "db.shop"}]
        await made.write(UpdateStatus(DB, {"addresses": addresses, "conditions": []}))
        assert made.engine.input("status", "ServiceEntry", "shop", "db") == {"addresses": addresses}


async def test_object_made_again_under_its_name_is_a_new_one(tmp_path: Path) -> None:
    async with world(tmp_path, workload("10.0.0.1")) as made:
        before = made.feed.programmed[VM]
        await made.write(Delete(VM), Create(workload("10.0.0.1")))
        after = made.feed.programmed[VM]
        assert after.uid != before.uid
        assert after.revision == 2


async def test_labels_count_though_the_generation_stays(tmp_path: Path) -> None:
    async with world(tmp_path, workload("10.0.0.1")) as made:
        await made.write(
            Mutate(VM, lambda obj: obj and replace(obj, meta=replace(obj.meta, labels={"version": "v2"})))
        )
        assert made.engine.input("fact", "WorkloadEntry", "shop", "vm").labels == {"version": "v2"}
        assert (made.feed.programmed[VM].generation, made.feed.programmed[VM].revision) == (1, 2)


async def test_changes_too_old_to_be_watched_are_listed(tmp_path: Path) -> None:
    async with world(tmp_path, workload("10.0.0.1"), entry()) as made:
        missed = Feed(made.store, engine := Engine())
        await missed.start()
        await made.write(Delete(DB), Update(workload("10.0.0.2")))
        made.store._log._shelf(None).known_since = made.store.revision  # what a long pause does
        async with asyncio.TaskGroup() as tasks:
            feeding = tasks.create_task(missed.run())
            async with asyncio.timeout(60):
                while engine.input("fact", "ServiceEntry", "shop", "db") is not None:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            feeding.cancel()
        assert engine.input("fact", "WorkloadEntry", "shop", "vm").spec.address == "10.0.0.2"
        assert list(missed.programmed) == [VM]


def _everybody(q: Reader) -> dict[str, str]:
    names = [key.name for key in q.input("keys", "WorkloadEntry", "shop") or ()]
    return {name: q.input("fact", "WorkloadEntry", "shop", name).spec.address for name in names}


async def test_foreseeing_answers_as_if_and_leaves_no_trace(tmp_path: Path) -> None:
    async with world(tmp_path, workload("10.0.0.1")) as here:
        commits = list(here.commits)
        asked = [workload("10.0.0.9"), workload("10.0.0.2", name="new")]
        seen = here.feed.foresee(asked, lambda q: q(_everybody))
        assert seen == {"vm": "10.0.0.9", "new": "10.0.0.2"}
        assert here.engine(_everybody) == {"vm": "10.0.0.1"}
        assert here.commits == commits, "no stream is woken"
        await here.write(Create(workload("10.0.0.2", name="new")))
        assert here.engine(_everybody) == {"vm": "10.0.0.1", "new": "10.0.0.2"}

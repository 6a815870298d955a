"""Watchers go on after a restart: the newest changes stand in the store's file."""

import asyncio
import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from store_world import entry, key

from isthmus.store.base import Create, Delete, Event, Expired, StoreError, Update, UpdateStatus, Write
from isthmus.store.history import KEPT
from isthmus.store.sqlite import SqliteStore


def changes(store: SqliteStore, since: int = 0) -> list[Event]:
    """The changes of WorkloadEntries after a revision."""
    return list(store.changes("WorkloadEntry", since))


async def test_a_watch_goes_on_where_it_was(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "isthmus.db")
    await store.apply([Create(entry("a")), Create(entry("b"))])
    await store.apply([Update(entry("a", "10.0.0.2"))])
    await store.apply([UpdateStatus(key("b"), {"conditions": [{"type": "Ready", "status": "True"}]})])
    await store.apply([Delete(key("a")), Create(entry("a", "10.0.0.3"))])
    before = changes(store)
    assert [event.type for event in before] == ["ADDED", "ADDED", "MODIFIED", "MODIFIED", "DELETED", "ADDED"]
    await store.close()
    again = await SqliteStore.open(tmp_path / "isthmus.db")
    watch = again.watch(None, 4)
    assert [await anext(watch), await anext(watch)] == before[4:]
    await again.apply([Create(entry("c"))])
    assert (await anext(watch)).object.key.name == "c"
    await again.close()


async def test_after_any_writes_a_restart_changes_no_history(tmp_path: Path) -> None:
    chance = random.Random(5)
    store = await SqliteStore.open(tmp_path / "isthmus.db")
    for number in range(300):
        name = chance.choice("abcd")
        obj = entry(name, f"10.0.0.{chance.randint(1, 3)}", finalizers=chance.choice([[], ["x/y"]]))
        choices: list[Write] = [Create(obj), Update(obj), Delete(obj.key)]
        write = chance.choice(choices)
        again = Update(entry(name, f"10.0.1.{number % 250}"))
        try:
            await store.apply([write] if chance.random() < 0.5 else [write, again])
        except StoreError:
            continue
        if number % 10 == 0:
            before = changes(store)
            await store.close()
            store = await SqliteStore.open(tmp_path / "isthmus.db")
            assert changes(store) == before
    assert len(changes(store)) > 100
    await store.close()


async def test_older_changes_are_forgotten(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "isthmus.db")
    for begin in range(0, 2 * KEPT, 50):
        await store.apply([Create(entry(f"e{number}")) for number in range(begin, begin + 50)])
    await store.close()
    again = await SqliteStore.open(tmp_path / "isthmus.db")
    assert len(changes(again, KEPT)) == KEPT
    with pytest.raises(Expired):
        changes(again)
    # nothing is remembered of a kind that did not change since then, which is also an answer
    assert again.changes("Gateway", KEPT) == []
    with pytest.raises(Expired):
        again.changes("Gateway", 0)
    await again.close()


async def test_after_a_crash_watchers_list_again(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "isthmus.db")
    await store.apply([Create(entry("a"))])
    await store.close()
    store = await SqliteStore.open(tmp_path / "isthmus.db")
    await store.apply([Create(entry("b"))])
    assert [event.object.key.name for event in changes(store)] == ["a", "b"]
    # what a killed server leaves: the write, and the changes as they were at the last orderly end
    for end in (".db", ".db-wal"):
        await asyncio.to_thread(shutil.copy, tmp_path / f"isthmus{end}", tmp_path / f"killed{end}")
    await store.close()
    again = await SqliteStore.open(tmp_path / "killed.db")
    assert (again.revision, changes(again, 2)) == (2, [])
    with pytest.raises(Expired):
        changes(again, 1)
    await again.close()


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM history WHERE revision = 2",
        "UPDATE newest SET revision = 9",
        "UPDATE history SET before = '{}' WHERE revision = 2",
        "UPDATE history SET before = 'x' WHERE revision = 2",
        "DELETE FROM objects WHERE name = 'b'",
    ],
)
async def test_a_history_that_does_not_fit_is_forgotten(tmp_path: Path, damage: str) -> None:
    store = await SqliteStore.open(tmp_path / "isthmus.db")
    await store.apply([Create(entry("a"))])
    await store.apply([Update(entry("a", "10.0.0.2"))])
    await store.apply([Create(entry("b"))])
    await store.close()
    await asyncio.to_thread(_damage, tmp_path / "isthmus.db", damage)
    again = await SqliteStore.open(tmp_path / "isthmus.db")
    with pytest.raises(Expired):
        changes(again)
    with pytest.raises(Expired):
        changes(again, 1)
    await again.close()


def _damage(path: Path, statement: str) -> None:
    file = sqlite3.connect(path, isolation_level=None)
    file.execute(statement)
    file.close()

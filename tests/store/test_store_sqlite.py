"""What only the embedded store promises: crashes, full disks, files that are not ours."""

import asyncio
import json
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from store_world import StoreWorld, entry, key, sqlite

from isthmus.api.codec import encode
from isthmus.api.meta import Object
from isthmus.store.base import Create, Event, Expired, StoreUnavailable, StoreUnreadable, Update
from isthmus.store.file import StoreFile
from isthmus.store.log import WatchLog
from isthmus.store.sqlite import SqliteStore

HERE = Path(__file__).parent


def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    path, acknowledged = tmp_path / "isthmus.db", set[str]()
    # the writer runs the code that this test runs
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent), *sys.path])}
    chance = random.Random(7)
    for _ in range(6):
        command = [sys.executable, str(HERE / "store_writer.py"), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as writer:
            assert writer.stdout is not None
            # the kill comes at any moment of any write, after at least one was acknowledged
            first = writer.stdout.readline().strip()
            assert first, "the writer ended by itself"
            acknowledged.add(first)
            time.sleep(chance.uniform(0.005, 0.12))
            writer.send_signal(signal.SIGKILL)
            acknowledged.update(line.strip() for line in writer.stdout if line.endswith("\n"))
        objects, revision = asyncio.run(stored(path))
        names = {obj.key.name for obj in objects}
        assert {f"{side}-{name}" for name in acknowledged for side in ("one", "two")} <= names
        halves = [{name[4:] for name in names if name.startswith(side)} for side in ("one", "two")]
        assert halves[0] == halves[1], "a write was made by half"
        assert revision == max(obj.meta.resource_version for obj in objects)
    assert len(acknowledged) > 20


@pytest.mark.parametrize("again", [False, True], ids=["new", "again"])
def test_a_commit_is_on_the_disk_before_it_returns(tmp_path: Path, again: bool) -> None:
    """SIGKILL proves nothing of a power cut: that takes the log to be synced at each commit."""
    if again:
        StoreFile.open(tmp_path / "isthmus.db").close()
    file = StoreFile.open(tmp_path / "isthmus.db")
    asked = ("journal_mode", "synchronous", "locking_mode")
    # these are of a connection, not of the file: no other connection could tell
    found = [file._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in asked]
    file.close()
    assert found == ["wal", 2, "exclusive"]


async def stored(path: Path) -> tuple[Sequence[Object], int]:
    """The entries in a file, and its revision."""
    store = await SqliteStore.open(path)
    found = await store.list("WorkloadEntry")
    await store.close()
    return found


@contextmanager
def full_disk(directory: Path) -> Iterator[None]:
    """No file may grow any more."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    size = max(file.stat().st_size for file in directory.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)


BIG = {"x": "y" * 500_000}


async def test_a_full_disk_fails_the_write_and_changes_nothing(tmp_path: Path) -> None:
    world = StoreWorld(sqlite, tmp_path, reopens=False)
    await world.open()
    await world.apply(Create(entry("a")))
    revision = world.store.revision
    with full_disk(tmp_path):
        results = await asyncio.gather(
            world.apply(Create(entry("big", annotations=BIG))),
            world.apply(Update(entry("a", annotations=BIG))),
            return_exceptions=True,
        )
    assert [type(result) for result in results] == [StoreUnavailable, StoreUnavailable]
    assert "nothing was written" in str(results[0])
    assert (await world.get("big"), (await world.there("a")).meta.annotations) == (None, {})
    assert world.store.revision == revision
    # space again: the same store goes on
    await world.apply(Create(entry("b")))
    await world.store.close()
    await world.open()
    assert [obj.key.name for obj in (await world.list())[0]] == ["a", "b"]
    assert world.store.revision == revision + 1
    await world.store.close()


async def test_a_refusal_is_not_judged_by_writes_that_failed(tmp_path: Path) -> None:
    world = StoreWorld(sqlite, tmp_path, reopens=False)
    await world.open()
    await world.apply(Create(entry("a")))
    with full_disk(tmp_path):
        results = await asyncio.gather(
            *(world.apply(Create(entry("b", annotations=BIG))) for _ in range(3)), return_exceptions=True
        )
    assert {type(result) for result in results} == {StoreUnavailable}
    await world.store.close()


async def test_a_cancelled_caller_leaves_the_store_sound(tmp_path: Path) -> None:
    world = StoreWorld(sqlite, tmp_path, reopens=False)
    await world.open()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await world.apply(Create(entry("a")))
    await world.apply(Create(entry("b")))
    assert [obj.key.name for obj in (await world.list())[0]] in (["b"], ["a", "b"])
    await world.store.close()


class CountedFile(StoreFile):
    """How often something was committed to it."""

    commits = 0

    def commit(self, events: Sequence[Event]) -> None:
        self.commits += 1
        super().commit(events)


async def test_writes_of_one_turn_share_a_transaction(tmp_path: Path) -> None:
    file = CountedFile.open(tmp_path / "isthmus.db")
    assert isinstance(file, CountedFile)
    store = SqliteStore(file, file.load(), [], time.time)
    await asyncio.gather(*(store.apply([Create(entry(f"e{number}"))]) for number in range(40)))
    assert file.commits == 1
    await store.close()


def modes(directory: Path) -> set[int]:
    """Who may do what with the files."""
    return {file.stat().st_mode & 0o777 for file in directory.iterdir()}


async def test_the_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "isthmus.db"
    store = await SqliteStore.open(path)
    await store.apply([Create(entry("a"))])
    assert modes(tmp_path) == {0o600}
    with pytest.raises(StoreUnreadable, match="in use by another isthmus serve"):
        await SqliteStore.open(path)
    assert await store.get(key("a")) is not None
    await store.close()


def sealed(path: Path) -> bytes:
    """A file's bytes, to see that nobody touched it."""
    return path.read_bytes()


async def refused(path: Path, words: str) -> None:
    """Opening is refused in these words, and the file stays as it is."""
    before = sealed(path)
    with pytest.raises(StoreUnreadable, match=words):
        await SqliteStore.open(path)
    assert sealed(path) == before


async def test_files_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "text.db"
    text.write_text("not a database, but somebody's notes\n" * 100)
    await refused(text, "is damaged")
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()
    await refused(other, "another program")


async def test_what_an_earlier_version_left_out_is_there_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "isthmus.db"
    await (await SqliteStore.open(path)).close()
    slices = {"addressType": "IPv4", "ports": [{"port": 80}]}
    old: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "generation": 1}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "n", "generation": 4}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "a", "namespace": "n", "generation": 4},
            **slices,
        },
    ]
    with sqlite3.connect(path) as connection:
        for row in old:
            meta = row["metadata"]
            assert isinstance(meta, dict)
            values = (row["kind"], meta.get("namespace", ""), meta["name"], json.dumps(row))
            connection.execute("INSERT INTO objects VALUES (?, ?, ?, ?)", values)
    connection.close()
    store = await SqliteStore.open(path)
    found = {
        kind: encode((await store.list(kind))[0][0]) for kind in ("Namespace", "Secret", "EndpointSlice")
    }
    await store.close()
    assert found["Namespace"]["status"] == {"phase": "Active"}
    assert found["Secret"]["type"] == "Opaque"
    assert found["EndpointSlice"]["ports"] == [{"name": "", "port": 80, "protocol": "TCP"}]
    assert [found[kind]["metadata"].get("generation") for kind in found] == [None, None, 4]


async def test_a_newer_or_damaged_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "isthmus.db"
    store = await SqliteStore.open(path)
    await store.apply([Create(entry(f"e{number}", annotations={"x": "y" * 900})) for number in range(50)])
    await store.close()
    damaged = tmp_path / "damaged.db"
    raw = bytearray(path.read_bytes())
    raw[5000:9000] = b"\xff" * 4000
    damaged.write_bytes(raw)
    await refused(damaged, "is damaged")
    for sql, words in (
        ("UPDATE objects SET document = '{}' WHERE name = 'e7'", "WorkloadEntry/n/e7 cannot be read"),
        ("UPDATE objects SET document = '{' WHERE name = 'e7'", "is damaged"),
        ("PRAGMA user_version = 2", "newer version of Isthmus"),
    ):
        with sqlite3.connect(path) as connection:
            connection.execute(sql)
        connection.close()
        await refused(path, words)


async def test_a_directory_that_is_missing_or_a_path_that_is_one(tmp_path: Path) -> None:
    for path in (tmp_path / "missing" / "isthmus.db", tmp_path):
        with pytest.raises(StoreUnreadable, match="cannot be opened"):
            await SqliteStore.open(path)


async def test_the_watch_log_forgets_and_says_so() -> None:
    log = WatchLog(0, capacity=2)
    slow = log.watch(None, 0)
    for revision in range(1, 8):
        log.publish([Event("ADDED", entry("a"), revision)], revision)
    with pytest.raises(Expired, match="too old resource version"):
        await anext(slow)
    kept = log.watch(None, 5)
    assert [(await anext(kept)).revision for _ in range(2)] == [6, 7]
    log.close()
    with pytest.raises(StoreUnavailable):
        await anext(kept)


async def test_a_copy_is_made_while_work_goes_on(tmp_path: Path) -> None:
    world = StoreWorld(sqlite, tmp_path, reopens=False)
    await world.open()
    assert isinstance(world.store, SqliteStore)
    await world.apply(Create(entry("a")))
    await asyncio.gather(world.store.copy(tmp_path / "copy.db"), world.apply(Create(entry("b"))))
    with pytest.raises(StoreUnavailable, match="no copy was made"):
        await world.store.copy(tmp_path / "copy.db")
    await world.store.close()
    assert modes(tmp_path) == {0o600}
    objects, revision = await stored(tmp_path / "copy.db")
    assert [obj.key.name for obj in objects] in (["a"], ["a", "b"])
    assert revision == len(objects)
    with pytest.raises(StoreUnavailable):
        await world.store.copy(tmp_path / "late.db")

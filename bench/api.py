"""The API over TLS on loopback: durable writes, lists, watchers, and how fast it starts with much in it."""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from bench import client, servers
from bench.distribution import Bar, row
from bench.servers import Api

OBJECTS = 10_000
LISTS = 15
WRITE_S = 10.0
WATCHERS = 1_000
CHANGES = 20
_PER_ADDRESS = 50
"""Watchers of one source address: the server gives each client so much room."""
_ENTRIES = client.path("WorkloadEntry")

Serving = Callable[[Path], AbstractContextManager[Api]]


def run() -> Iterator[str]:
    """The rows of this section."""
    for name, serving, present in (
        ("API and store", servers.api_and_store, 1_000),
        ("whole serve", servers.whole, 1_000),
        ("whole serve", servers.whole, OBJECTS),
    ):
        with _directory() as directory:
            yield from _writes(directory, name, serving, present)
    with _directory() as directory:
        yield from _reads(directory)


@contextmanager
def _directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="isthmus-bench-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def _writes(directory: Path, name: str, serving: Serving, present: int) -> Iterator[str]:
    half = present // 2
    with serving(directory) as api:
        asyncio.run(client.fill(api, "WorkloadEntry", "w", half))
        asyncio.run(client.fill(api, "ServiceEntry", "s", half))
        time.sleep(3)  # until the conditions of these are written
        for verb, kind, prefix in (
            ("create", "WorkloadEntry", "new-w"),
            ("patch", "WorkloadEntry", "w"),
            ("create", "ServiceEntry", "new-s"),
            ("patch", "ServiceEntry", "s"),
        ):
            told = f"{name}, {present} there: {verb} {kind}"
            yield _write_row(told, api, verb, kind, prefix, half)


def _write_row(told: str, api: Api, verb: str, kind: str, prefix: str, present: int) -> str:
    """Writes per second, in each second but the first, of sixteen clients."""
    command = (sys.executable, "-m", "bench.writers", str(api.port), str(api.directory), str(WRITE_S))
    before = api.cpu_s()
    done = subprocess.run(
        [*command, verb, kind, prefix, str(present)], check=True, stdout=subprocess.PIPE, text=True
    )
    used = api.cpu_s() - before
    found = json.loads(done.stdout)
    note = (
        f"p50 {found['p50']:.1f} ms, p99 {found['p99']:.1f} ms; "
        f"server {used / found['writes'] * 1e6:.0f} us a write, "
        f"{used / WRITE_S:.2f} cores; clients {found['cores']:.2f} cores"
    )
    by_second = [float(number) for number in found["by_second"][1:]]
    return row(told, by_second, "/s", Bar(2000, at_least=True), note=note)


def _reads(directory: Path) -> Iterator[str]:
    with servers.whole(directory) as api:
        asyncio.run(client.fill(api, "WorkloadEntry", "e", OBJECTS))
        time.sleep(3)
        yield row(f"whole serve: list of {OBJECTS} objects", asyncio.run(_lists(api)), "ms", Bar(300))
        medians, lasts = asyncio.run(_watched(api))
        yield row(f"write to sight of {WATCHERS} watchers (median watcher)", medians, "ms", Bar(150))
        yield row(f"write to sight of {WATCHERS} watchers (last watcher)", lasts, "ms")
    starts = []
    for _ in range(3):
        started = time.monotonic()
        with servers.whole(directory):
            starts.append((time.monotonic() - started) * 1000)
    yield row(f"start of whole serve with {OBJECTS} objects", starts, "ms", Bar(3000))


async def _lists(api: Api) -> list[float]:
    samples = []
    async with client.connected(api) as connection:
        for _ in range(LISTS):
            started = time.monotonic()
            body = await connection.ask("GET", _ENTRIES)
            samples.append((time.monotonic() - started) * 1000)
            assert body.count(b'"kind":"WorkloadEntry"') == OBJECTS
    return samples


async def _watched(api: Api) -> tuple[list[float], list[float]]:
    """From sending a change to the moment at which half of the watchers, and all of them, have seen it."""
    seen: list[float] = []
    wanted = 0
    everybody = asyncio.Event()
    open_ = asyncio.Semaphore(50)

    async def watch(number: int, since: str) -> None:
        source = f"127.0.0.{2 + number // _PER_ADDRESS}"
        async with open_:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", api.port, ssl=api.context, local_addr=(source, 0)
            )
        try:
            where = f"{_ENTRIES}?watch=true&resourceVersion={since}&fieldSelector=metadata.name%3De0"
            async for line in _lines(api, reader, writer, where):
                # its conditions come later, and are another change
                if json.loads(line)["object"]["metadata"]["generation"] == wanted:
                    seen.append(time.monotonic())
                if len(seen) == WATCHERS:
                    everybody.set()
        finally:
            writer.transport.abort()

    medians, lasts = [], []
    async with client.connected(api) as connection:
        wanted = json.loads(await connection.ask("GET", f"{_ENTRIES}/e0"))["metadata"]["generation"]
        listed = json.loads(await connection.ask("GET", f"{_ENTRIES}?limit=1"))
        async with asyncio.TaskGroup() as tasks:
            since = listed["metadata"]["resourceVersion"]
            watchers = [tasks.create_task(watch(number, since)) for number in range(WATCHERS)]
            await asyncio.sleep(10)
            for number in range(CHANGES + 1):
                await asyncio.sleep(0.5)
                seen.clear()
                everybody.clear()
                wanted += 1
                started = time.monotonic()
                spec = client.document("WorkloadEntry", "e0", number + 1)["spec"]
                await connection.ask("PATCH", f"{_ENTRIES}/e0", {"spec": spec})
                async with asyncio.timeout(20):
                    await everybody.wait()
                if number:  # the first also tells that all are there
                    moments = sorted(seen[:WATCHERS])
                    medians.append((moments[WATCHERS // 2] - started) * 1000)
                    lasts.append((moments[-1] - started) * 1000)
            for task in watchers:
                task.cancel()
    return medians, lasts


async def _lines(
    api: Api, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str
) -> AsyncIterator[bytes]:
    writer.write(api.head("GET", path, 0))
    await reader.readuntil(b"\r\n\r\n")
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)

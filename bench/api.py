"""The API over TLS on loopback: lists, durable writes, watchers, and how fast it starts with much in it."""

import asyncio
import json
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.distribution import row

OBJECTS = 10_000
LISTS = 15
CLIENTS = 16
WRITE_S = 8.0
WATCHERS = 1_000
CHANGES = 20
_NAMESPACE = "bench"
_ENTRIES = f"/apis/networking.istio.io/v1/namespaces/{_NAMESPACE}/workloadentries"


def run() -> Iterator[str]:
    """The rows of this section."""
    directory = Path(tempfile.mkdtemp(prefix="isthmus-bench-"))
    try:
        yield from _rows(directory)
    finally:
        shutil.rmtree(directory)


def _rows(directory: Path) -> Iterator[str]:
    with _serving(directory) as api:
        rates = asyncio.run(_writes(api))
        yield row(f"durable writes, {CLIENTS} clients (creates, per second)", rates, "/s", ">= 2000")
        asyncio.run(_fill(api))
        samples = asyncio.run(_lists(api))
        yield row(f"list of {OBJECTS} objects", samples, "ms", "<= 300")
        medians, lasts = asyncio.run(_watched(api))
        yield row(f"write to sight of {WATCHERS} watchers (median watcher)", medians, "ms", "<= 150")
        yield row(f"write to sight of {WATCHERS} watchers (last watcher)", lasts, "ms")
    starts = []
    for _ in range(3):
        started = time.monotonic()
        with _serving(directory):
            starts.append((time.monotonic() - started) * 1000)
    yield row(f"start with {OBJECTS} objects", starts, "ms", "<= 3000")


@dataclass(frozen=True, slots=True)
class _Api:
    port: int
    token: str
    context: ssl.SSLContext

    def head(self, method: str, path: str, length: int) -> bytes:
        return (
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        ).encode()


class _Connection:
    """One kept connection of a client that costs little itself."""

    def __init__(self, api: _Api, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._api, self._reader, self._writer = api, reader, writer

    async def ask(self, method: str, path: str, body: Any = None) -> bytes:
        raw = b"" if body is None else json.dumps(body).encode()
        self._writer.write(self._api.head(method, path, len(raw)) + raw)
        head = await self._reader.readuntil(b"\r\n\r\n")
        assert head[9:10] == b"2", head
        found = re.search(rb"(?i)content-length: (\d+)", head)
        return await self._reader.readexactly(int(found[1])) if found else b""

    async def lines(self, path: str) -> AsyncIterator[bytes]:
        self._writer.write(self._api.head("GET", path, 0))
        await self._reader.readuntil(b"\r\n\r\n")
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            yield await self._reader.readexactly(size)
            await self._reader.readexactly(2)


@asynccontextmanager
async def _connected(api: _Api) -> AsyncIterator[_Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port, ssl=api.context, limit=64 * 2**20)
    try:
        yield _Connection(api, reader, writer)
    finally:
        writer.transport.abort()


@contextmanager
def _serving(directory: Path) -> Iterator[_Api]:
    """The API and its store, without a mesh."""
    command = [sys.executable, "-m", "bench.api_server", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = process.stdout.readline()
        found = re.search(r"https://[^:]+:(\d+)", ready)
        assert found, f"not ready: {ready!r}"
        token = re.search(r"token: (\S+)", (directory / "admin.kubeconfig").read_text())
        assert token
        context = ssl.create_default_context(cafile=str(directory / "ca" / "root-cert.pem"))
        context.check_hostname = False
        try:
            yield _Api(int(found[1]), token[1], context)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)


def _entry(name: str, number: int) -> dict[str, Any]:
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {"name": name, "namespace": _NAMESPACE, "labels": {"app": "bench"}},
        "spec": {"address": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"},
    }


async def _writes(api: _Api) -> list[float]:
    """Creates per second in each second of the run."""
    counts: dict[int, int] = {}
    began = time.monotonic()

    async def client(index: int) -> None:
        async with _connected(api) as connection:
            number = 0
            while time.monotonic() - began < WRITE_S:
                name = f"w{index}-{number}"
                await connection.ask("POST", _ENTRIES, _entry(name, index * 10_000 + number))
                second = int(time.monotonic() - began)
                counts[second] = counts.get(second, 0) + 1
                number += 1

    async with _connected(api) as connection:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}}
        await connection.ask("POST", "/api/v1/namespaces", body)
    async with asyncio.TaskGroup() as tasks:
        for index in range(CLIENTS):
            tasks.create_task(client(index))
    return [float(counts[second]) for second in sorted(counts)[1:-1]]


async def _fill(api: _Api) -> None:
    """Exactly so many objects."""
    async with _connected(api) as connection:
        await connection.ask("DELETE", _ENTRIES)
        for begin in range(0, OBJECTS, 500):
            batch = [_entry(f"e{number:05}", number) for number in range(begin, begin + 500)]
            await connection.ask("POST", "/apis/isthmus.dev/v1alpha1/apply", {"objects": batch})


async def _lists(api: _Api) -> list[float]:
    samples = []
    async with _connected(api) as connection:
        for _ in range(LISTS):
            started = time.monotonic()
            body = await connection.ask("GET", _ENTRIES)
            samples.append((time.monotonic() - started) * 1000)
            assert body.count(b'"kind":"WorkloadEntry"') == OBJECTS
    return samples


async def _watched(api: _Api) -> tuple[list[float], list[float]]:
    """From sending a change to the moment at which half of the watchers, and all of them, have seen it."""
    seen: list[float] = []
    everybody = asyncio.Event()
    open_ = asyncio.Semaphore(50)

    async def watch(since: str) -> None:
        async with open_:
            connecting = _connected(api)
            connection = await connecting.__aenter__()
        try:
            async for _ in connection.lines(f"{_ENTRIES}?watch=true&resourceVersion={since}"):
                seen.append(time.monotonic())
                if len(seen) == WATCHERS:
                    everybody.set()
        finally:
            await connecting.__aexit__(None, None, None)

    medians, lasts = [], []
    async with _connected(api) as connection:
        listed = json.loads(await connection.ask("GET", f"{_ENTRIES}?limit=1"))
        since = listed["metadata"]["resourceVersion"]
        async with asyncio.TaskGroup() as tasks:
            watchers = [tasks.create_task(watch(since)) for _ in range(WATCHERS)]
            await asyncio.sleep(5)
            for number in range(CHANGES + 1):
                seen.clear()
                everybody.clear()
                started = time.monotonic()
                await connection.ask("PUT", f"{_ENTRIES}/e00000", _entry("e00000", number + 1))
                async with asyncio.timeout(20):
                    await everybody.wait()
                if number:  # the first also tells that all are there
                    medians.append((_middle(seen) - started) * 1000)
                    lasts.append((max(seen) - started) * 1000)
            for task in watchers:
                task.cancel()
    return medians, lasts


def _middle(moments: Sequence[float]) -> float:
    return sorted(moments)[len(moments) // 2]

"""A client of the API that costs little itself: kept connections, HTTP by hand."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bench.servers import Api

NAMESPACE = "bench"
KINDS = {"WorkloadEntry": "workloadentries", "ServiceEntry": "serviceentries"}
_LENGTH = re.compile(rb"(?i)content-length: (\d+)")


def path(kind: str) -> str:
    """Where the objects of a kind are."""
    return f"/apis/networking.istio.io/v1/namespaces/{NAMESPACE}/{KINDS[kind]}"


def document(kind: str, name: str, number: int) -> dict[str, Any]:
    """An object whose spec depends on the number."""
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    spec: dict[str, Any] = {"address": address, "labels": {"app": f"app{number % 100}"}}
    if kind == "ServiceEntry":
        spec = {
            "hosts": [f"{name}.example.com"],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "resolution": "STATIC",
            "endpoints": [{"address": address}],
        }
    metadata = {"name": name, "namespace": NAMESPACE, "labels": {"app": "bench"}}
    return {"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


class Connection(asyncio.Protocol):
    """One kept connection with one request under way."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._seen = b""
        self._answer: asyncio.Future[bytes] | None = None
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server hung up"))

    def data_received(self, data: bytes) -> None:
        self._seen += data
        end = self._seen.find(b"\r\n\r\n")
        found = _LENGTH.search(self._seen, 0, end) if end >= 0 else None
        if found is None or len(self._seen) < (whole := end + 4 + int(found[1])):
            return
        answer, self._seen = self._seen[:whole], self._seen[whole:]
        assert self._answer is not None, answer
        self._answer.set_result(answer)

    async def ask(self, method: str, path: str, body: Any = None) -> bytes:
        """The body of the answer, which must be a good one."""
        raw = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(self._api.head(method, path, len(raw)) + raw)
        answer = await self._answer
        assert answer[9:10] == b"2", answer
        return answer[answer.index(b"\r\n\r\n") + 4 :]


@asynccontextmanager
async def connected(api: Api) -> AsyncIterator[Connection]:
    """A connection."""
    loop = asyncio.get_running_loop()
    _, made = await loop.create_connection(lambda: Connection(api), "127.0.0.1", api.port, ssl=api.context)
    try:
        yield made
    finally:
        made.transport.abort()


async def fill(api: Api, kind: str, prefix: str, count: int) -> None:
    """The namespace, and so many objects in it."""
    async with connected(api) as connection:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        for begin in range(0, count, 500):
            batch = [document(kind, f"{prefix}{n}", n) for n in range(begin, min(begin + 500, count))]
            await connection.ask("POST", "/apis/isthmus.dev/v1alpha1/apply", {"objects": [namespace, *batch]})

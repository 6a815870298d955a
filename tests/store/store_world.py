"""What store tests share: objects, and every store of the product, which may be reopened before each read.

Another store gets an entry in STORES: how it is opened, from a directory that is its own and stays the same
when it is opened again. All of test_store_conformance.py then holds for it, restarts included; what it alone
promises gets a file beside test_store_sqlite.py.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from documents import document
from isthmus.api.codec import decode
from isthmus.api.meta import Key, Object
from isthmus.store.base import Store, Write
from isthmus.store.sqlite import SqliteStore

Open = Callable[[Path, Callable[[], float]], Awaitable[Store]]
"""Opens the store of a directory, with a clock in epoch seconds."""


async def sqlite(directory: Path, now: Callable[[], float]) -> Store:
    """The embedded store."""
    return await SqliteStore.open(directory / "isthmus.db", now=now)


STORES: Mapping[str, Open] = {"sqlite": sqlite}


def entry(name: str, address: str = "10.0.0.1", namespace: str = "n", **metadata: Any) -> Object:
    """A WorkloadEntry."""
    spec = {"address": address}
    return made(document("networking.istio.io/v1", "WorkloadEntry", name, namespace, spec, **metadata))


def made(doc: dict[str, Any]) -> Object:
    """The object of a document that is right."""
    obj, problems = decode(doc)
    assert obj is not None, problems
    return obj


def key(name: str, namespace: str = "n") -> Key:
    """The key of a WorkloadEntry."""
    return Key("WorkloadEntry", namespace, name)


class StoreWorld:
    """A store under test. `reopens`: every read is from a store that was just opened."""

    store: Store

    def __init__(self, open_: Open, directory: Path, *, reopens: bool) -> None:
        self.directory = directory
        self.reopens = reopens
        self._open = open_
        self.seconds = 1_000_000_000.0

    async def open(self) -> None:
        """Opens the store."""
        self.store = await self._open(self.directory, lambda: self.seconds)

    async def apply(self, *writes: Write) -> tuple[Object | None, ...]:
        """One atomic write."""
        return await self.store.apply(writes)

    async def get(self, name: str, namespace: str = "n") -> Object | None:
        """A WorkloadEntry as it stands."""
        await self._reopen()
        return await self.store.get(key(name, namespace))

    async def there(self, name: str, namespace: str = "n") -> Object:
        """A WorkloadEntry that must stand."""
        obj = await self.get(name, namespace)
        assert obj is not None
        return obj

    async def list(
        self, kind: str = "WorkloadEntry", namespace: str | None = None
    ) -> tuple[Sequence[Object], int]:
        """All objects of a kind and the revision."""
        await self._reopen()
        return await self.store.list(kind, namespace)

    async def _reopen(self) -> None:
        if self.reopens:
            await self.store.close()
            await self.open()

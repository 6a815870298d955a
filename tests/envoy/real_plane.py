"""A control plane without its process: its parts, joined as `isthmus serve` joins them.

admission ──▶ store (SQLite) ──▶ feed ──▶ engine ──▶ fleet ──▶ door ──▶ Envoy      up ⇄ down, as a process is
              ▲                                      └──▶ conditions ──┐
              └────────────────────────────────────────────────────────┘
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from isthmus.api.codec import decode
from isthmus.api.kinds import KINDS
from isthmus.api.meta import Key, Object
from isthmus.engine import Engine
from isthmus.envoy.manifest import manifest
from isthmus.envoy.resource import HOST, TYPES, Manifest, ProxyId
from isthmus.envoy.soundness import unsound
from isthmus.mesh.analyse import problems
from isthmus.mesh.model import MeshSettings
from isthmus.registry.feed import Feed
from isthmus.registry.inputs import whole
from isthmus.server.admission import Admission, Draft
from isthmus.server.status import StatusWriter
from isthmus.store.base import Delete
from isthmus.store.sqlite import SqliteStore
from isthmus.xds.fleet import Fleet
from isthmus.xds.standing import StreamState
from isthmus.xds.vetting import Vetting

SERVED = tuple(type_url for type_url in TYPES if type_url != HOST)


@dataclass(slots=True)
class Plane:
    """One life of the control plane, over a store that outlives it."""

    proxy: ProxyId
    store: SqliteStore
    engine: Engine
    fleet: Fleet
    vetting: Vetting

    async def write(self, *objects: Object) -> None:
        """Creates or replaces objects through admission; Rejected with what is wrong with them."""
        admission = Admission(self.store)
        await admission.write([Draft(obj, "apply") for obj in objects])

    async def delete(self, key: Key) -> None:
        """Deletes an object, if it is there."""
        if await self.store.get(key) is not None:
            await self.store.apply([Delete(key)])

    async def objects(self) -> list[Object]:
        """Everything that is stored."""
        return [obj for kind in KINDS for obj in (await self.store.list(kind))[0]]

    async def condition(self, key: Key, type_: str = "Programmed") -> Mapping[str, Any]:
        """A condition of an object; empty when there is none of that type."""
        obj = await self.store.get(key)
        found = obj.status.get("conditions", ()) if obj else ()
        return next((each for each in found if each["type"] == type_), {})

    async def wanted(self) -> dict[str, Manifest]:
        """What a fresh engine renders for the proxy from what is stored."""
        engine = Engine()
        engine.commit({**whole(await self.objects()), ("mesh",): MeshSettings()})
        return {type_url: engine(manifest, type_url, self.proxy) for type_url in SERVED}

    @property
    def stream(self) -> StreamState | None:
        """How the proxy's stream stands; None without one, or with a second."""
        found = self.fleet.connected()
        return found[0] if len(found) == 1 else None

    @property
    def refused(self) -> dict[tuple[str, str], str]:
        """The proxy's words against what it refused, by type and name."""
        types = self.stream.types if self.stream else {}
        return {(t, name): text for t, state in types.items() for name, text in state.refused.items()}

    @property
    def at_rest(self) -> bool:
        """Whether the proxy has answered everything."""
        stream = self.stream
        return (
            stream is not None
            and stream.synced
            and not any(state.pending or state.in_flight for state in stream.types.values())
        )

    async def settled(self, seconds: float = 20.0) -> dict[str, Manifest]:
        """Waits until everything stored has arrived, and been answered; what the proxy should hold."""
        wanted = await self.wanted()
        async with asyncio.timeout(seconds):
            while not (self.at_rest and self._serves(wanted)):  # noqa: ASYNC110 - it lies in other processes
                await asyncio.sleep(0.005)
        return wanted

    def _serves(self, wanted: Mapping[str, Manifest]) -> bool:
        return all(
            _versions(self.engine(manifest, t, self.proxy)) == _versions(held) for t, held in wanted.items()
        )


@asynccontextmanager
async def up(path: Path, proxy: ProxyId) -> AsyncIterator[Plane]:
    """The control plane over the store in a file, without its door; afterwards nothing of it is left."""
    store = await SqliteStore.open(path)
    engine = Engine()
    feed = Feed(
        store,
        engine,
        constants={("mesh",): MeshSettings()},
        on_commit=lambda touched: fleet.committed(touched),
    )
    vetting = Vetting(monotonic)
    fleet = Fleet(
        engine,
        manifest=manifest,
        unsound=unsound,
        problems=problems,
        objects=feed.programmed,
        registered=lambda known: known.namespace if known == proxy else None,
        outdated=lambda known, signed_at: False,
        now=monotonic,
        vetting=vetting,
    )
    try:
        await feed.start()
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(feed.run()), tasks.create_task(StatusWriter(store, fleet).run())]
            try:
                yield Plane(proxy, store, engine, fleet, vetting)
            finally:
                for task in running:
                    task.cancel()
    finally:
        await store.close()


def read(*documents: Mapping[str, Any]) -> list[Object]:
    """Objects from documents; one that cannot be read fails the test."""
    found = []
    for document in documents:
        obj, wrong = decode(dict(document))
        assert obj is not None, [str(problem) for problem in wrong]
        found.append(obj)
    return found


def document(
    kind: str, name: str, spec: Mapping[str, Any], namespace: str = "shop", **metadata: Any
) -> dict[str, Any]:
    """A whole document of a kind."""
    where = {"namespace": namespace} if namespace else {}
    meta = {"name": name, **where, **metadata}
    return {"apiVersion": KINDS[kind].api_versions[0], "kind": kind, "metadata": meta, "spec": spec}


def _versions(held: Manifest) -> dict[str, str]:
    return {name: resource.version for name, resource in held.items()}

"""Whatever happens on the way, a real Envoy ends with what a fresh engine makes of what is stored.

    writes, deletions, broken streams, restarts ──▶ at rest ──▶ config dump = fresh render

`make histories` asks for more of them than the few of every run, and for other ones each time.
"""

import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent / "envoy"))

from fed_envoy import Envoy, Held, Identities, door, envoy, expected
from histories import is_refused, service_ports, steps
from real_envoy import can_unshare
from real_plane import Plane, document, read, up

from isthmus.api.meta import Key, Object
from isthmus.envoy.resource import CLUSTER, LISTENER, ROUTES, Manifest, ProxyId
from isthmus.server.admission import Rejected

HISTORIES = int(os.environ.get("ISTHMUS_HISTORIES", "0"))
VM = ProxyId("shop", "vm-1")

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.timeout(100 + 10 * HISTORIES),
    pytest.mark.skipif(not can_unshare(), reason="needs network namespaces (unshare --user --net)"),
]


class World:
    """A control plane, and an Envoy that it feeds; both are where the test's steps find them."""

    def __init__(self, directory: Path, identities: Identities, stack: AsyncExitStack) -> None:
        self.directory, self.identities, self._stack = directory, identities, stack
        self.socket = directory / "ads.sock"
        self.spoilt: set[str] = set()
        """The route tables that were ever made from a rule that Envoy refuses."""

    async def start(self, *first: Object) -> None:
        self._life = await self._stack.enter_async_context(AsyncExitStack())
        self.plane: Plane = await self._life.enter_async_context(up(self.directory / "store.db", VM))
        if first:
            await self.plane.write(*first)
        await self._open()

    async def _open(self) -> None:
        self._door = await self._life.enter_async_context(AsyncExitStack())
        await self._door.enter_async_context(door(self.plane.fleet, self.socket, self.identities))

    async def write(self, documents: Sequence[Mapping[str, Any]]) -> None:
        for made in read(*documents):
            try:
                await self.plane.write(made)
                await self._look()
            except Rejected as rejected:
                note(f"not admitted: {rejected.errors}")

    async def delete(self, number: int) -> None:
        found = [obj.key for obj in await self.plane.objects() if obj.key not in FOUNDATION]
        if found:
            await self.plane.delete(found[number % len(found)])
            await self._look()

    async def _look(self) -> None:
        bad = {obj.key for obj in await self.plane.objects() if is_refused(obj)}
        if bad:
            tables = (await self.plane.wanted())[ROUTES].items()
            self.spoilt |= {name for name, table in tables if bad & set(table.sources)}

    async def settle(self, _: None) -> None:
        await self.plane.settled()

    async def breathe(self, milliseconds: int) -> None:
        await asyncio.sleep(milliseconds / 1000)

    async def break_streams(self, _: None) -> None:
        await self._door.aclose()
        await self._open()

    async def restart(self, _: None) -> None:
        await self._life.aclose()
        await self.start()


def base(role: str) -> list[Object]:
    """A machine of a role, and a service."""
    spec = {"address": "10.0.0.1", "labels": {"app": "a"}, "serviceAccount": "shop"}
    annotations = {"isthmus.dev/proxy": "gateway"} if role == "gateway" else {}
    return read(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
        document("WorkloadEntry", "vm-1", spec, annotations=annotations),
        document("Service", "c", {"selector": {"app": "a"}, "ports": service_ports(((82, "http"),))}),
    )


FOUNDATION = {obj.key for obj in base("sidecar")}


async def converged(world: World, envoy: Envoy) -> None:
    """The Envoy holds what it should, but for what it refused: that was wrong, and its authors are told."""
    wanted = await world.plane.settled()
    refused = world.plane.refused
    authors = {obj.key for obj in await world.plane.objects() if is_refused(obj)}
    for type_url, name in refused:
        made_from = set(wanted[type_url][name].sources)
        assert made_from & authors, f"{name} was refused, though nothing is wrong with {sorted(made_from)}"
        for key in made_from & authors:
            condition = await told(world.plane, key)
            assert "RE2 program size" in condition["message"], condition
    assert set(refused) <= {(ROUTES, name) for name in world.spoilt}
    held = await ready(envoy, wanted, refused)
    for type_url, content in expected(wanted).items():
        good = {name: each for name, each in content.items() if (type_url, name) not in refused}
        seen = held.resources[type_url]
        assert {name: seen.get(name) for name in good} == good
    for type_url in (CLUSTER, ROUTES):  # a listener of which only chains change keeps its old version's name
        versions = {n: r.version for n, r in wanted[type_url].items() if (type_url, n) not in refused}
        assert {name: held.versions[type_url].get(name) for name in versions} == versions
    counted = await envoy.refusals()
    # a table that is refused is counted for all that came with it, but no table is refused without a cause
    assert bool(counted) <= bool(world.spoilt), counted
    assert all(".rds." in name and name.endswith("update_rejected") for name in counted), counted


async def ready(envoy: Envoy, wanted: Mapping[str, Manifest], refused: Mapping[tuple[str, str], str]) -> Held:
    """What the Envoy holds when nothing warms, and nothing is left that it should not have."""
    deadline = monotonic() + 60
    while True:
        held = await envoy.held()
        left = {
            (t, name)
            for t in (CLUSTER, LISTENER, ROUTES)
            for name in held.resources[t].keys() - wanted[t].keys()
        }
        if refused:
            # what the last good routes lead to stays with them, and new listeners wait for good ones
            left = {(t, name) for t, name in left if t == LISTENER}
        if not left and (refused or not held.warming):
            return held
        assert monotonic() < deadline, f"left: {left}, warming: {held.warming}"
        await asyncio.sleep(0.01)


async def told(plane: Plane, key: Key) -> Mapping[str, Any]:
    async with asyncio.timeout(60):
        while (condition := await plane.condition(key)).get("reason") != "Rejected":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return condition


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    return Identities.in_directory(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("role", ["sidecar", "gateway"])
@settings(
    max_examples=HISTORIES or 10,
    derandomize=not HISTORIES,
    database=None,
    # to make a failing history shorter takes minutes: ask for more histories, and it is done
    phases=(Phase.generate, Phase.shrink) if HISTORIES else (Phase.generate,),
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
        HealthCheck.large_base_example,
    ],
)
@given(history=st.lists(steps, min_size=3, max_size=12))
async def test_envoy_ends_with_what_is_stored(
    identities: Identities, role: str, history: list[tuple[str, Any]]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        async with AsyncExitStack() as stack:
            world = World(directory, identities, stack)
            await world.start(*base(role))
            proxy = await stack.enter_async_context(envoy(directory, world.socket, identities, VM))
            for action, what in history:
                await getattr(world, action)(what)
            await converged(world, proxy)

            for key in [obj.key for obj in await world.plane.objects() if is_refused(obj)]:
                await world.plane.delete(key)
            await converged(world, proxy)
            assert world.plane.refused == {}

"""An Envoy is led through every world there is, and refuses nothing: its own counters say so.

The way is the product's: delta streams, make before break, from each world to the next. Gateways' worlds have
an Envoy of their own: 1.40 dies where a listener of two addresses becomes one that is bound, which is what
becoming a gateway would mean.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from corpus import World, worlds
from fed_envoy import Envoy, Identities, door, envoy
from real_envoy import can_unshare

sys.path.insert(0, str(Path(__file__).parents[1] / "xds"))

from xds_mesh import Mesh, until

from isthmus.envoy.resource import LISTENER, ProxyId

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
    pytest.mark.skipif(not can_unshare(), reason="needs network namespaces (unshare --user --net)"),
]
PROXY = ProxyId("shop", "vm-1")


@dataclass
class Traveller:
    """The Envoy, and the mesh that it is fed from."""

    mesh: Mesh
    envoy: Envoy

    @property
    def arrived(self) -> bool:
        """Whether it has answered everything."""
        states = self.mesh.fleet.connected()
        return bool(states) and all(
            state.synced and not any(kind.pending or kind.in_flight for kind in state.types.values())
            for state in states
        )


@asynccontextmanager
async def travelling(directory: Path) -> AsyncIterator[Traveller]:
    identities, mesh = Identities.in_directory(directory), Mesh(accounts={PROXY: PROXY.namespace})
    socket = directory / "ads.sock"
    async with door(mesh.fleet, socket, identities), envoy(directory, socket, identities, PROXY) as running:
        await until(lambda: bool(mesh.fleet.connected()))
        yield Traveller(mesh, running)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def travellers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Traveller, Traveller]]:
    """A sidecar and a gateway."""
    one, other = (tmp_path_factory.mktemp(role) for role in ("sidecar", "gateway"))
    async with travelling(one) as sidecar, travelling(other) as gateway:
        yield sidecar, gateway


@pytest.mark.parametrize("world", worlds(), ids=lambda world: world.name)
async def test_nothing_is_refused(world: World, travellers: tuple[Traveller, Traveller]) -> None:
    manifests = world.made()
    traveller = travellers["virtualInbound" not in manifests[LISTENER]]
    mesh = traveller.mesh
    mesh.commit(*(resource for manifest in manifests.values() for resource in manifest.values()))
    try:
        await until(lambda: traveller.arrived, seconds=20)
    except TimeoutError:
        pytest.fail(f"not answered: {mesh.fleet.connected()}, {traveller.envoy.log.read_text()[-2000:]}")
    async with asyncio.timeout(20):
        while await traveller.envoy.warming():  # noqa: ASYNC110 - it lies in another process
            await asyncio.sleep(0.005)
    assert await traveller.envoy.refusals() == {}

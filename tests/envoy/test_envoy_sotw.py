"""An Envoy that asks for the state of the world, as old ones do, is led through the goldens as others are."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from fed_envoy import Identities, door, envoy, expected
from golden import CASES, manifests
from real_envoy import can_unshare

sys.path.insert(0, str(Path(__file__).parents[1] / "xds"))

from xds_mesh import Mesh, until

from isthmus.envoy.resource import CLUSTER, HOST, LISTENER, Manifest, ProxyId

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not can_unshare(), reason="needs network namespaces (unshare --user --net)"),
]
PROXY = ProxyId("shop", "vm-1")
AT_LEAST = 10


async def test_the_state_of_the_world(tmp_path: Path) -> None:
    sidecars = {case.name: found for case in CASES if _fits(found := manifests(case))}
    assert len(sidecars) >= AT_LEAST
    identities, mesh = Identities.in_directory(tmp_path), Mesh(accounts={PROXY: PROXY.namespace})
    socket = tmp_path / "ads.sock"

    def at_rest() -> bool:
        (stream,) = mesh.fleet.connected()
        return stream.synced and not any(kind.pending or kind.in_flight for kind in stream.types.values())

    async with (
        door(mesh.fleet, socket, identities),
        envoy(tmp_path, socket, identities, PROXY, api_type="GRPC") as running,
    ):
        await until(lambda: bool(mesh.fleet.connected()))
        for name, found in sidecars.items():
            del found[HOST]
            mesh.commit(*(resource for manifest in found.values() for resource in manifest.values()))
            await until(at_rest, seconds=20)
            async with asyncio.timeout(20):
                while await running.warming():  # noqa: ASYNC110 - it lies in another process
                    await asyncio.sleep(0.005)
            held = (await running.held()).resources
            for type_url, content in expected(found).items():
                assert {each: held[type_url].get(each) for each in content} == content, name
            assert held[LISTENER].keys() == found[LISTENER].keys(), name
            assert await running.refusals() == {}, name


def _fits(found: Mapping[str, Manifest]) -> bool:
    """Whether it is a sidecar that names no credential: this protocol cannot say that one does not exist."""
    named = any(b"kubernetes://" in each.body for each in found[CLUSTER].values())
    return "virtualInbound" in found[LISTENER] and not named

"""Objects in, Envoy resources out, reviewed like code; each case is also given to a real Envoy."""

import asyncio
from pathlib import Path

import pytest
from golden import CASES, manifests, readable
from real_envoy import can_unshare, running, served
from real_identity import secrets

from isthmus.envoy.resource import CLUSTER, ENDPOINTS, EXTENSION, HOST, LISTENER, ROUTES
from isthmus.envoy.soundness import faults

_each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@_each_case
def test_golden(case: Path, update_goldens: bool) -> None:
    made, path = readable(case), case / "out.json"
    if update_goldens:
        path.write_text(made, encoding="utf-8")
    expected = path.read_text(encoding="utf-8") if path.exists() else ""
    assert made == expected, "if this is meant: pytest tests/envoy/test_envoy_goldens.py --update-goldens"


@_each_case
def test_it_is_sound(case: Path) -> None:
    assert [str(fault) for fault in faults(manifests(case)) if fault.fatal] == []


@pytest.mark.envoy
@pytest.mark.skipif(not can_unshare(), reason="needs network namespaces (unshare --user --net)")
@_each_case
async def test_envoy_takes_it(case: Path, tmp_path: Path) -> None:
    found = manifests(case)
    del found[HOST]
    socket = tmp_path / "xds.sock"
    # Envoy asks for routes, endpoints and filters only when something needs them
    wanted = [t for t in (CLUSTER, ENDPOINTS, LISTENER, ROUTES, EXTENSION) if found[t]]
    async with served(socket) as discovery, running(tmp_path, socket), asyncio.timeout(15):
        discovery.secrets = secrets(tmp_path)
        await discovery.push(found)
        await discovery.wait_accepted(*wanted)

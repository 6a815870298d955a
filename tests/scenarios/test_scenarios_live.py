"""Every scenario of every area through real Envoys: config in, calls made, answers compared."""

import os
from collections.abc import Iterator

import pytest
from mesh_world import World, running
from scenario import Scenario, load

from isthmus.demo import mariadb
from isthmus.lab import namespaces

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        bool(namespaces.preflight(root=os.geteuid() == 0) or mariadb.lacking()),
        reason="this machine can run no lab, or has no MariaDB",
    ),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISTHMUS_LAB_DIR", str(tmp_path_factory.mktemp("labs")))
        with running() as standing:
            yield standing


def _cases() -> list[object]:
    """A scenario with a known bug must fail: once it does not, its `bug` has to go."""
    return [
        pytest.param(
            each, id=each.id, marks=[pytest.mark.xfail(reason=each.bug, strict=True)] if each.bug else []
        )
        for each in load()
    ]


@pytest.mark.parametrize("scenario", _cases())
def test_scenario(scenario: Scenario, world: World) -> None:
    scenario.run(world)

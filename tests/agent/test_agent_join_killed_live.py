"""kill -9 at any moment of a join or a leave: the next command cleans up."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from join_world import GREETING, HERE, ISTHMUS, World, standing, until

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

EVERY = "ISTHMUS_TEST_EVERY_CUT"
CUTS = range(96) if os.environ.get(EVERY) else range(4, 96, 8)
"""A join makes about 90 changes; the ordinary run dies before each eighth of them."""
CUT = """
import sys; sys.path.insert(0, sys.argv.pop(1)); import cut; cut.arm(int(sys.argv.pop(1)))
sys.argv[0] = "isthmus"; from isthmus.cli.main import main; main()
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with standing(tmp_path) as made:
        yield made


@pytest.mark.parametrize("cut", CUTS)
def test_kill_at_any_moment_then_leave_or_join_again(world: World, cut: int) -> None:
    """kill -9 before change number `cut` of the joining process; half of the times a new join cures it."""
    process = world.vm.start(
        sys.executable,
        "-c",
        CUT,
        str(HERE),
        str(cut),
        "join",
        world.token,
        "--address",
        "10.0.0.7",
        log=world.log,
    )
    world.running.append(process)
    until(lambda: process.poll() is not None or "\njoined " in world.said)
    process.kill()
    process.wait()
    if cut // 8 % 2 or os.environ.get(EVERY):
        world.joined()
        assert world.peer.python(GREETING, "10.0.0.7").strip() == "127.0.0.6"
    world.vm.run(ISTHMUS, "leave")
    world.same()


@pytest.mark.parametrize("cut", range(40) if os.environ.get(EVERY) else range(3, 40, 9))
def test_kill_leave_at_any_moment_then_leave_again(world: World, cut: int) -> None:
    agent = world.joined()
    # without its agent, leave itself has to undo everything
    agent.kill()
    agent.wait()
    leave = world.vm.start(sys.executable, "-c", CUT, str(HERE), str(cut), "leave", log=world.log)
    leave.wait(40)
    world.vm.run(ISTHMUS, "leave")
    world.same()

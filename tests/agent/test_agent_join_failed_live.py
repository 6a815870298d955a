"""A join that fails leaves the VM as found, says why, and gives its token back."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from join_world import ISTHMUS, World, standing, until

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

NOT_ROOT = """
import os, sys
import isthmus.agent.join, isthmus.agent.run, isthmus.agent.enrol, isthmus.cli.vm
from isthmus.cli.main import main
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
sys.argv[0] = "isthmus"; sys.argv.insert(1, "join"); main()
"""
"""Python itself may lie where only root can look: it is loaded first."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with standing(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"refuse": "the token expired 3 minutes ago"}, "expired 3 minutes ago"),
        ({"refuse": "this VM's clock is 600 s behind"}, "clock is 600 s behind"),
        ({"bootstrap": {"node": {"id": "sidecar~a~b.c~d"}, "nonsense": 1}}, "nonsense"),
    ],
)
def test_a_refusal_or_a_dead_envoy_rolls_back(world: World, fault: dict[str, object], words: str) -> None:
    world.fault(**fault)
    said = world.fails()
    assert words in said
    assert "rolled back" in said
    world.same()


def test_a_program_that_cannot_be_reached_fails_the_proof(world: World) -> None:
    world.fault(ports=[3307])
    said = world.fails()
    assert "proof in" in said
    assert "3307" in said
    assert "rolled back  " in said
    assert "left" in world.events()
    world.same()


def test_damaged_and_foreign_tokens(world: World) -> None:
    assert "cut short" in world.fails(world.token[:-7])
    assert "not an Isthmus join token" in world.fails("eyJhbGciOi")
    assert "nothing had been changed" in world.said
    world.same()


def test_a_server_with_another_key_gets_nothing(world: World) -> None:
    code = "import sys;from isthmus.identity import jointoken as j;t=j.parse(sys.argv[1]);"
    code += "print(j.render(j.Token(t.namespace,t.name,t.addresses,b'x'*32,t.secret)))"
    wrong = subprocess.run(
        [sys.executable, "-c", code, world.token], capture_output=True, text=True, check=True
    )
    assert "nothing was sent" in world.fails(wrong.stdout.strip())
    assert world.events() == ""
    world.same()


def test_no_control_plane(world: World) -> None:
    world.running[0].kill()
    world.running[0].wait()
    assert "no way to the control plane" in world.fails()
    world.same()


@pytest.mark.parametrize("port", [15001, 15006])
def test_a_taken_port_is_named_with_its_holder(world: World, port: int) -> None:
    code = f"import socket,time;s=socket.create_server(('127.0.0.1',{port}));time.sleep(60)"
    holder = world.vm.start(sys.executable, "-c", code, log=world.log)
    world.running.append(holder)
    until(lambda: f":{port}" in world.vm.run("ss", "-Hlnt"))
    said = world.fails()
    assert f"port {port} is taken by python" in said
    assert "process" in said
    holder.kill()
    world.same()


def test_no_nftables(world: World) -> None:
    nft = world.vm.run("sh", "-c", "readlink -f $(command -v nft || echo /usr/sbin/nft)").strip()
    world.vm.run("mount", "--bind", "/dev/null", nft)
    assert "nft is not installed" in world.fails()
    world.vm.run("umount", nft)
    world.same()


def test_not_root(world: World) -> None:
    said = world.vm.run(sys.executable, "-c", NOT_ROOT, world.token, check=False)
    assert "not root: join changes capture rules" in said
    assert "nothing had been changed" in said
    world.same()


def test_a_closed_terminal_rolls_back(world: World) -> None:
    world.fault(**{"no orders": True})
    process = world.join()
    until(lambda: "\nenvoy " in world.said)
    world.vm.run("kill", "-HUP", str(world.agent()))
    assert process.wait(40) == 1
    assert "interrupted" in world.said
    assert "the token is as new" in world.said
    world.same()


def test_a_full_disk_is_seen_before_anything_is_changed(tmp_path: Path) -> None:
    with standing(tmp_path, state_size="1m") as world:
        said = world.fails()
        assert "no room" in said
        assert "nothing had been changed" in said
        world.same()


def test_a_disk_that_fills_up_on_the_way_rolls_back(world: World) -> None:
    world.fault(no_orders=True, **{"no orders": True})
    process = world.join()
    until(lambda: "\nenvoy " in world.said)
    world.vm.run("sh", "-c", "dd if=/dev/zero of=/var/lib/full bs=64k 2>/dev/null; true")
    world.fault()
    assert process.wait(30) == 1, world.said
    assert "rolled back" in world.said
    world.vm.run("rm", "/var/lib/full")
    world.same()


def test_interrupted(world: World) -> None:
    world.fault(**{"no orders": True})
    process = world.join()
    until(lambda: "\nenvoy " in world.said)
    world.vm.run("kill", "-INT", str(world.agent()))
    assert process.wait(40) == 1
    assert "interrupted" in world.said
    world.same()
    assert process.returncode != -signal.SIGINT


@pytest.mark.parametrize(
    "fault",
    [
        {"bootstrap": {"node": {"id": "sidecar~a~b.c~d"}, "x": 1}},
        {"ports": [3307]},
        {"ports": [3307], "ttl": 6},
    ],
    ids=["envoy", "proof", "proof, with a certificate renewed meanwhile"],
)
def test_a_failed_join_leaves_nothing_and_its_token_as_new(world: World, fault: dict[str, object]) -> None:
    """The cause is mended, the command is the same."""
    world.fault(**fault)
    for times in (1, 2):
        assert f"the token is as new, for this VM or another until {world.until}" in world.fails()
        assert world.events().count("given back") == times
        world.same()
    assert ("renewed" in world.events()) == ("ttl" in fault)
    world.fault()
    world.joined()
    world.vm.run(ISTHMUS, "leave")
    world.same()
    # who was in the mesh has used the token up
    assert "was used already" in world.fails()
    world.same()


def test_a_join_that_was_killed_gives_its_token_back_when_the_vm_leaves(world: World) -> None:
    world.fault(**{"no orders": True})
    process = world.join()
    until(lambda: "\nenvoy " in world.said)
    world.vm.run("kill", "-9", str(world.agent()))
    process.wait(40)
    left = world.vm.run(ISTHMUS, "leave")
    assert "the token is as new, for this VM or another until" in left
    world.same()
    world.fault()
    world.joined()


def test_a_control_plane_that_is_gone_at_the_rollback_keeps_the_token_used(world: World) -> None:
    world.fault(**{"no orders": True})
    process = world.join()
    until(lambda: "\nenvoy " in world.said)
    world.running[0].kill()
    assert process.wait(40) == 1, world.said
    assert "the token stays used, since the control plane was not told (10.0.0.1:15012: " in world.said
    assert world.said.rstrip().endswith("): ask for another")
    world.same()

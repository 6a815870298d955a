"""A join that the real control plane refuses: why is said, with what to do, and the VM is as it was."""

import os
import re
import sys
import time
from collections.abc import Iterator

import pytest
from vms import serve

from isthmus.lab import control, namespaces
from isthmus.lab.host import Host
from isthmus.lab.lab import Lab

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        bool(namespaces.preflight(root=os.geteuid() == 0)), reason="this machine can run no lab"
    ),
]

MESH = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: web, namespace: shop}
spec: {metadata: {labels: {app: web}}, template: {serviceAccount: web, ports: {http: 8080}}}
"""
OFF = """
import sys, time
right, off = time.time, float(sys.argv.pop(1))
time.time = lambda: right() + off
sys.argv[0] = "isthmus"
from isthmus.cli.main import main
main()
"""
"""`isthmus` on a machine whose clock is off by so many seconds: hosts of one kernel share its clock."""


class World:
    """A control plane, and a VM whose programs run, not in the mesh."""

    def __init__(self, lab: Lab) -> None:
        self.plane = control.start(lab)
        self.plane.apply(MESH)
        self.vm: Host = lab.host("vm")
        serve(self.vm)

    def refused(self, token: str, *, off_s: float = 0) -> str:
        """What a join says that is refused; VM and mesh are as before."""
        before = self.vm.snapshot()
        command = [sys.executable, "-c", OFF, str(off_s), "join", token]
        done = self.vm.run(command, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 1, said
        assert before.differences(self.vm.snapshot()) == (), said
        assert "shop" not in self.plane.isthmus("get", "we", "-A", "-o", "name")
        return said

    def joins(self, token: str) -> None:
        """The same VM gets in with the same command, and leaves."""
        process = self.vm.spawn(["isthmus", "join", token], log="join.log")
        process.wait_for_line("joined", timeout_s=60)
        self.vm.run(["isthmus", "leave"])
        # as long as it ends, it is seen in what the VM is
        process.popen.wait(60)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISTHMUS_LAB_DIR", str(tmp_path_factory.mktemp("labs")))
        with Lab.start("refused") as lab:
            yield World(lab)


def test_a_token_that_has_expired(world: World) -> None:
    created = world.plane.isthmus("token", "create", "--group", "shop/web", "--ttl", "1s")
    token = created.strip().splitlines()[-1]
    time.sleep(1.1)  # its whole life
    said = world.refused(token)
    assert "the join token expired at 20" in said
    assert "isthmus token create --group shop/web" in said
    world.joins(world.plane.token("shop/web"))


@pytest.mark.parametrize(("off_s", "words"), [(600, "ahead of"), (-600, "behind")])
def test_a_clock_ten_minutes_off(world: World, off_s: float, words: str) -> None:
    token = world.plane.token("shop/web")
    said = world.refused(token, off_s=off_s)
    assert re.search(rf"this VM's clock is (10 min \d+ s|9 min 5\d s) {words} the control plane's", said), (
        said
    )
    assert "timedatectl set-ntp true" in said
    # nobody used the token up: with the clock set it is good
    world.joins(token)

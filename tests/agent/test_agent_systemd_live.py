"""The agent as a unit of a real systemd: join, a killed agent, stop and start, leave."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from systemd_host import SYSTEMD, SystemdHost, boot

from isthmus.lab import control
from isthmus.lab.control import ControlPlane
from isthmus.lab.lab import Lab

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="systemd in a lab host needs root for its cgroups"),
    pytest.mark.skipif(not Path(SYSTEMD).exists(), reason="systemd is not installed here (package systemd)"),
]
UNIT = "isthmus-agent.service"
MESH = """
apiVersion: v1
kind: Namespace
metadata: {name: vm}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: db, namespace: vm}
spec:
  metadata: {labels: {app: db}}
  template: {serviceAccount: db, ports: {tcp: 3306}}
"""


@pytest.fixture
def plane() -> Iterator[tuple[ControlPlane, SystemdHost]]:
    with Lab.start(f"systemd-{os.getpid()}") as lab:
        plane = control.start(lab)
        plane.apply(MESH, wait=False)
        yield plane, boot(lab.host("vm"))


def tables(vm: SystemdHost) -> str:
    return vm.run("nft", "list", "tables").stdout.strip()


def envoy(vm: SystemdHost) -> str:
    return vm.run("pgrep", "-x", "envoy", check=False).stdout.strip()


def test_systemd_runs_the_agent_from_join_to_leave(plane: tuple[ControlPlane, SystemdHost]) -> None:
    control_plane, vm = plane
    found = {path: vm.host.read(path) for path in ("/etc/resolv.conf", "/etc/hosts")}

    told = vm.run("isthmus", "join", control_plane.token("vm/db")).stdout
    assert told.splitlines()[-1].startswith("joined"), told
    assert vm.shown(UNIT, "ActiveState") == "active"
    assert vm.shown(UNIT, "UnitFileState") == "enabled"
    assert tables(vm) == "table inet isthmus"

    process, agent = envoy(vm), vm.shown(UNIT, "MainPID")
    vm.run("kill", "-9", agent)
    vm.host.wait_until(lambda: vm.shown(UNIT, "MainPID") not in (agent, "0"), "a new agent")
    vm.wait_for(UNIT, "active")
    assert envoy(vm) == process, "Envoy outlives its agent"

    vm.run("systemctl", "stop", UNIT)
    assert (tables(vm), envoy(vm)) == ("", ""), "a stopped sidecar redirects nothing"
    assert vm.host.read("/etc/resolv.conf") == found["/etc/resolv.conf"]

    vm.run("systemctl", "start", UNIT)
    assert tables(vm) == "table inet isthmus"
    assert envoy(vm)

    vm.run("isthmus", "leave")
    assert (tables(vm), envoy(vm)) == ("", "")
    assert {path: vm.host.read(path) for path in found} == found
    assert vm.run("systemctl", "cat", UNIT, check=False).returncode != 0
    assert vm.run("find", "/etc/systemd/system", "-mindepth", "1").stdout == ""


def test_a_join_that_fails_under_systemd_leaves_no_unit(plane: tuple[ControlPlane, SystemdHost]) -> None:
    control_plane, vm = plane
    token = control_plane.token("vm/db")
    # nothing answers on the way in: the proof must fail, in the agent that systemd runs
    vm.run("nft", "add table inet wall; add chain inet wall in { type filter hook input priority 0; }")
    vm.run("nft", "add rule inet wall in iifname != lo tcp dport 15006 drop")
    done = vm.run("isthmus", "join", token, check=False)
    assert done.returncode == 1
    assert "proof in" in done.stdout + done.stderr
    assert tables(vm) == "table inet wall"
    assert vm.run("find", "/etc/systemd/system", "-mindepth", "1").stdout == ""
    assert envoy(vm) == ""

"""Health of VMs: who fails its check gets no calls until it passes again, whoever calls, a VM too."""

import json
import os
from collections.abc import Iterator

import pytest
from vms import agent_says, http, member

from isthmus.demo.vm import VM
from isthmus.lab import control, namespaces
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
spec:
  metadata: {labels: {app: web}}
  template: {serviceAccount: web}
  probe: PROBE
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: caller, namespace: shop}
spec: {metadata: {labels: {app: caller}}, template: {serviceAccount: caller}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 8080}]}
"""
HTTP = "{periodSeconds: 1, failureThreshold: 2, httpGet: {path: /health, port: 8080}}"
EXEC = "{periodSeconds: 1, failureThreshold: 1, exec: {command: [test, '!', -e, /run/sick]}}"
TCP = "{periodSeconds: 1, failureThreshold: 1, tcpSocket: {port: 8080}}"
NEVER = "{periodSeconds: 1, tcpSocket: {port: 9}}"
WEB = "web.shop"


class World:
    """Two VMs that serve, checked, and one that calls."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.plane = lab, control.start(lab)
        self.apply(HTTP)
        self.one = member(lab, self.plane, "one", "shop/web")
        self.two = member(lab, self.plane, "two", "shop/web")
        self.caller = member(lab, self.plane, "caller", "shop/caller")

    def apply(self, probe: str) -> None:
        """The group is checked in this way from now on."""
        self.plane.apply(MESH.replace("  probe: PROBE\n", f"  probe: {probe}\n" if probe else ""))

    def health(self, vm: VM) -> str:
        """What the condition of a VM's WorkloadEntry says; empty without one."""
        found = json.loads(self.plane.isthmus("get", "we", "-n", "shop", "-o", "json"))
        (entry,) = [each for each in found["items"] if each["spec"]["address"] == vm.host.address]
        conditions = entry.get("status", {}).get("conditions", ())
        return "".join(each["status"] for each in conditions if each["type"] == "Healthy")

    def answering(self, caller: VM | None = None) -> set[str]:
        """Who answers a caller's next calls; nobody may fail."""
        answers = [http((caller or self.caller).host, WEB) for _ in range(8)]
        assert {answer.get("status") for answer in answers} <= {200, 503}, answers
        return {str(answer["said"]) for answer in answers if answer["status"] == 200}

    def await_health(self, vm: VM, wanted: str) -> None:
        vm.host.wait_until(
            lambda: self.health(vm) == wanted, f"{vm.host.name} healthy: {wanted}", timeout_s=60
        )

    def await_answering(self, wanted: set[str], caller: VM | None = None) -> None:
        who = (caller or self.caller).host
        who.wait_until(lambda: self.answering(caller) == wanted, f"{wanted} answer {who.name}", timeout_s=60)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISTHMUS_LAB_DIR", str(tmp_path_factory.mktemp("labs")))
        with Lab.start("health") as lab:
            yield World(lab)


@pytest.fixture(autouse=True)
def well(world: World) -> Iterator[None]:
    """Both are well and checked by HTTP, before and after."""
    yield
    for vm in (world.one, world.two):
        vm.host.run(["rm", "-f", "/run/sick"])
    world.apply(HTTP)
    world.await_answering({"one", "two"})


def test_calls_go_to_who_is_healthy_and_come_back(world: World) -> None:
    world.await_answering({"one", "two"})
    world.one.host.run(["touch", "/run/sick"])
    world.await_health(world.one, "False")
    agent_says(world.one, "workload unhealthy reason=HTTP status 503")
    world.await_answering({"two"})
    # a VM as the caller goes round itself and round others alike
    world.await_answering({"two"}, world.one)
    lines = world.plane.isthmus("get", "we", "-n", "shop").splitlines()
    at = lines[0].index("HEALTHY")
    (row,) = [line for line in lines if world.one.host.address in line.split()]
    assert row[at:].startswith("False")
    shown = world.plane.isthmus("get", "we", f"web-{world.one.host.address}", "-n", "shop", "-o", "yaml")
    assert "reason: ProbeFailed" in shown
    assert "message: HTTP status 503" in shown
    assert "lastProbeTime" in shown
    # nobody is left: callers are told so instead of being sent to who is known to be down
    world.two.host.run(["touch", "/run/sick"])
    world.await_health(world.two, "False")
    world.await_answering(set())
    world.one.host.run(["rm", "/run/sick"])
    world.await_health(world.one, "True")
    world.await_answering({"one"})


def test_commands_and_connections_are_checks_too(world: World) -> None:
    for probe in (EXEC, TCP):
        world.apply(probe)
        world.await_answering({"one", "two"})
    world.apply(EXEC)
    world.two.host.run(["touch", "/run/sick"])
    world.await_health(world.two, "False")
    agent_says(world.two, "workload unhealthy reason=test ended with exit status 1")
    world.await_answering({"one"})
    world.apply(TCP)
    world.await_health(world.two, "True")


def test_a_vm_counts_only_when_it_was_found_healthy_once(world: World) -> None:
    world.apply(NEVER)
    late = member(world.lab, world.plane, "late", "shop/web")
    try:
        assert world.health(late) != "True"
        assert "late" not in world.answering()
        world.apply(HTTP)
        world.await_answering({"one", "two", "late"})
    finally:
        late.leave()


def test_a_sidecar_that_is_stopped_in_order_says_so(world: World) -> None:
    world.await_health(world.one, "True")
    world.one.host.run(["kill", "-TERM", world.one.host.read("/run/isthmus/agent.pid").split()[0]])
    world.await_health(world.one, "False")
    world.await_answering({"two"})
    world.one.agent.popen.wait(40)
    world.one.start_agent()
    world.await_health(world.one, "True")
    world.await_answering({"one", "two"})


def test_without_a_probe_everybody_counts_again(world: World) -> None:
    world.one.host.run(["touch", "/run/sick"])
    world.await_health(world.one, "False")
    world.apply("")
    world.await_answering({"one", "two"})


def test_what_is_found_while_the_control_plane_is_away_is_told_when_it_is_back(world: World) -> None:
    world.await_answering({"one", "two"})
    world.plane.kill()
    agent_says(world.one, "control plane away")
    world.one.host.run(["touch", "/run/sick"])
    agent_says(world.one, "workload unhealthy")
    world.plane.restart()
    world.await_health(world.one, "False")
    world.await_answering({"two"})

"""A join fails on a real mesh: the host is as found, and the same token then joins this host, or another."""

import os
from collections.abc import Iterator

import pytest

from isthmus.demo.vm import VM
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
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 8080}]}
"""
WALL = "add table inet wall; add chain inet wall c { type filter hook input priority filter; }; add rule "
WALL += "inet wall c meta l4proto tcp iifname != lo ct state new drop"
"""A firewall that lets nobody in: the proof from outside fails."""


class World:
    """A control plane with a group that VMs may join."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.plane = lab, control.start(lab)
        self.plane.apply(MESH)

    def entries(self) -> list[str]:
        """The addresses of the VMs that are registered."""
        said = self.plane.isthmus("get", "workloadentry", "-n", "shop", "-o", "name")
        return [line.partition("/web-")[2] for line in said.splitlines()]

    def fails(self, host: Host, token: str, **environment: str) -> str:
        """What a join says that must fail, and leave the host as found."""
        before = host.snapshot()
        done = host.run(["isthmus", "join", token], check=False, environment=environment)
        assert done.returncode == 1, done.stdout
        assert before.differences(host.snapshot()) == ()
        return done.stderr

    def joins(self, host: Host, token: str) -> VM:
        agent = host.spawn(["isthmus", "join", token], log=f"{host.name}-join.log")
        agent.wait_for_line("joined", timeout_s=60)
        return VM(host, agent)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISTHMUS_LAB_DIR", str(tmp_path_factory.mktemp("labs")))
        with Lab.start("givenback") as lab:
            yield World(lab)


def test_envoy_does_not_start_and_then_the_same_command_joins_this_host(world: World) -> None:
    host, token = world.lab.host("one"), world.plane.token("shop/web")
    host.write("/srv/envoy", "#!/bin/sh\necho broken >&2\nexit 1\n", mode=0o755)
    said = world.fails(host, token, ISTHMUS_ENVOY="/srv/envoy")
    assert "the token is as new, for this VM or another until 20" in said
    assert host.address not in world.entries()
    events = world.plane.isthmus("get", "events", "-n", "shop", "-o", "yaml")
    assert "GivenBack" in events
    vm = world.joins(host, token)
    assert host.address in world.entries()
    stranger = world.lab.host("stranger")
    assert "already used at 20" in world.fails(stranger, token)
    vm.leave()
    vm.agent.popen.wait(40)


def test_the_proof_fails_and_then_the_same_token_joins_another_host(world: World) -> None:
    host, token = world.lab.host("two"), world.plane.token("shop/web")
    host.run(["nft", WALL])
    said = world.fails(host, token)
    assert "failed       at proof in" in said
    assert "the token is as new, for this VM or another until 20" in said
    other = world.joins(world.lab.host("three"), token)
    assert host.address not in world.entries()
    assert other.host.address in world.entries()
    # and the first has to ask for another
    host.run(["nft", "delete", "table", "inet", "wall"])
    assert "already used at 20" in world.fails(host, token)
    other.leave()
    other.agent.popen.wait(40)


def test_the_proof_fails_and_then_the_same_command_joins_this_host(world: World) -> None:
    host, token = world.lab.host("four"), world.plane.token("shop/web")
    host.run(["nft", WALL])
    world.fails(host, token)
    host.run(["nft", "delete", "table", "inet", "wall"])
    vm = world.joins(host, token)
    vm.leave()
    vm.agent.popen.wait(40)


def test_without_a_control_plane_at_the_rollback_the_token_stays_used(world: World) -> None:
    host, token = world.lab.host("five"), world.plane.token("shop/web")
    host.write("/srv/envoy", "#!/bin/sh\nwhile ! [ -e /srv/gone ]; do sleep 0.05; done\nexit 1\n", mode=0o755)
    before = host.snapshot()
    join = host.spawn(
        ["isthmus", "join", token], log="five-join.log", environment={"ISTHMUS_ENVOY": "/srv/envoy"}
    )
    join.wait_for_line("enrolled", timeout_s=60)
    world.plane.kill()
    host.write("/srv/gone", "")
    assert join.popen.wait(45) == 1
    assert "the token stays used, since the control plane was not told (" in join.output()
    assert "ask for another" in join.output()
    assert before.differences(host.snapshot()) == ()
    world.plane.restart()
    assert "already used at 20" in world.fails(host, token)

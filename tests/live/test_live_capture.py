"""What a VM captures: everything where its policy asks for it, with exceptions, and afterwards as before."""

import os
import sys
from collections.abc import Iterator

import pytest
from capture_world import Held, World, ask

from isthmus.demo.vm import join
from isthmus.lab import namespaces
from isthmus.lab.lab import Lab

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        bool(namespaces.preflight(root=os.geteuid() == 0)), reason="this machine can run no lab"
    ),
]

NAMED = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: named, namespace: shop}
spec:
  hosts: [outside.lab]
  location: MESH_EXTERNAL
  resolution: DNS
  ports: [{number: 8080, name: http, protocol: HTTP}, {number: 7000, name: tcp, protocol: TCP}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: named, namespace: shop}
spec:
  hosts: [outside.lab]
  http:
  - route: [{destination: {host: outside.lab}}]
    headers: {response: {set: {x-rule: named}}}
"""
WILD = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild, namespace: shop}
spec:
  hosts: ["*.lab"]
  location: MESH_EXTERNAL
  resolution: NONE
  ports: [{number: 8080, name: http, protocol: HTTP}, {number: 7000, name: tcp, protocol: TCP}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: wild, namespace: shop}
spec:
  hosts: ["*.lab"]
  http:
  - match: [{uri: {prefix: /fault}}]
    fault: {abort: {percentage: {value: 100}, httpStatus: 418}}
    route: [{destination: {host: "*.lab"}}]
  - route: [{destination: {host: "*.lab"}}]
    headers: {response: {set: {x-rule: wild}}}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISTHMUS_LAB_DIR", str(tmp_path_factory.mktemp("labs")))
        with Lab.start("capture") as lab:
            yield World(lab)


@pytest.fixture
def strict(world: World) -> Iterator[World]:
    """The world while only what is registered may be called."""
    world.policy("REGISTRY_ONLY")
    yield world
    world.policy("ALLOW_ANY")


def test_a_port_without_tls_is_told_and_does_not_fail_the_join(world: World) -> None:
    told = f"8080 answered to the control plane at {world.vm.host.address}; 7001 plaintext only, not proven"
    assert told in world.story


def test_everything_is_captured_while_only_what_is_registered_may_be_called(world: World) -> None:
    outside, own = world.outside, world.vm.host.address
    assert world.http(outside.address)["status"] == 200
    assert world.tcp(outside.address)["said"] == own
    ssh, database = Held(outside, own, 22), Held(world.vm.host, outside.address, 7000)
    try:
        world.policy("REGISTRY_ONLY")
        for address in outside.record.addresses:
            assert world.http(address)["status"] == 502
            assert world.tcp(address) in ({"said": ""}, {"error": "ConnectionResetError"})
        # what is under way goes on, and so does what the VM needs itself
        assert (ssh.says("still"), database.says("here")) == ("STILL", "HERE")
        assert ask(outside, "tcp", own, 22)["said"] == outside.address
        assert world.tcp("127.0.0.1")["said"] == "127.0.0.1"
        assert world.tcp(own)["said"] == own
        world.register("one")
        assert world.http(outside.address, "outside.test")["status"] == 200
        assert world.http(outside.address, "outside.test", "/fault")["status"] == 418
        assert world.http(outside.address)["status"] == 502
        assert (ssh.says("again"), database.says("again")) == ("AGAIN", "AGAIN")
        through_envoy = Held(world.vm.host, "outside.test", 7001)
        world.policy("ALLOW_ANY")
        assert (ssh.says("after"), database.says("after")) == ("AFTER", "AFTER")
        assert through_envoy.says("after") == "AFTER"
        through_envoy.close()
    finally:
        ssh.close()
        database.close()
    assert world.http(outside.address)["status"] == 200
    assert world.tcp(outside.address)["said"] == own
    world.captured("", "wide_v6")


def test_the_control_plane_and_the_agent_come_back_under_capture(strict: World) -> None:
    world, outside = strict, strict.outside
    world.plane.kill()
    assert world.tcp(outside.address).get("said", "") == ""
    world.plane.restart()
    world.register("two")
    world.vm.kill_agent()
    assert world.tcp(outside.address).get("said", "") == ""
    assert world.http(outside.address, "outside.test")["rule"] == "two"
    world.agent_again()
    assert "INFO capture" not in world.vm.agent.output()
    world.register("three")


def test_a_vm_joins_and_leaves_where_only_what_is_registered_may_be_called(strict: World) -> None:
    late = strict.lab.host("late")
    before = late.snapshot()
    joined = join(strict.plane, late, "shop/vm")
    assert ask(late, "tcp", strict.outside.address, 7000).get("said", "") == ""
    joined.leave()
    joined.agent.popen.wait(40)
    assert before.differences(late.snapshot()) == ()
    assert ask(late, "tcp", strict.outside.address, 7000)["said"] == late.address


def test_a_sidecar_may_say_so_for_its_workloads(world: World) -> None:
    said = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: closed, namespace: shop}
spec: {workloadSelector: {labels: {app: vm}}, outboundTrafficPolicy: {mode: REGISTRY_ONLY}}
"""
    world.plane.apply(said)
    world.captured("0.0.0.0/0")
    assert world.tcp(world.outside.address).get("said", "") == ""
    world.plane.isthmus("delete", "sidecar", "closed", "-n", "shop")
    world.captured("")


def test_annotations_say_what_is_captured_out(world: World) -> None:
    outside, range_ = world.outside.address, f"{world.outside.address}/32"
    try:
        world.annotate(isthmus_dev__capture="all")
        world.captured("0.0.0.0/0")
        assert world.tcp(outside)["said"] == world.vm.host.address
        world.policy("REGISTRY_ONLY")
        world.annotate(traffic_sidecar_istio_io__excludeOutboundPorts="7000, nonsense")
        world.captured("7000", "exempt_ports")
        assert world.tcp(outside)["said"] == world.vm.host.address
        assert world.http(outside)["status"] == 502
        world.annotate(traffic_sidecar_istio_io__excludeOutboundIPRanges=range_)
        world.captured(outside, "exempt_v4")
        assert world.http(outside)["status"] == 200
        world.annotate(traffic_sidecar_istio_io__includeOutboundIPRanges=range_)
        world.captured(outside)
        assert "0.0.0.0/0" not in world.rules("wide_v4")
        assert world.http(outside)["status"] == 502
    finally:
        world.annotate()
        world.policy("ALLOW_ANY")
    world.captured("", "exempt_v4")


def test_annotations_say_what_is_captured_in(world: World) -> None:
    own = world.vm.host.address
    try:
        assert ask(world.outside, "tcp", own, 7000)["said"] == world.outside.address
        world.annotate(traffic_sidecar_istio_io__includeInboundPorts="*")
        world.captured("23-15000", "inbound_ports")
        assert ask(world.outside, "tcp", own, 7000)["said"] == "127.0.0.6"
        assert ask(world.outside, "tcp", own, 22)["said"] == world.outside.address
        world.annotate(
            traffic_sidecar_istio_io__includeInboundPorts="*",
            traffic_sidecar_istio_io__excludeInboundPorts="7000",
        )
        world.captured("7001-15000", "inbound_ports")
        assert ask(world.outside, "tcp", own, 7000)["said"] == world.outside.address
        world.annotate(traffic_sidecar_istio_io__includeInboundPorts="7000")
        world.captured("{ 7000 }", "inbound_ports")
        assert ask(world.outside, "tcp", own, 7000)["said"] == "127.0.0.6"
        assert ask(world.outside, "tcp", own, 7001)["said"] == world.outside.address
    finally:
        world.annotate()
    world.captured("{ 7001, 8080 }", "inbound_ports")


def test_names_under_a_wildcard_obey_rules_wherever_they_lead_and_nothing_else_changes(world: World) -> None:
    outside, own = world.outside.address, world.vm.host.address
    older = Held(world.vm.host, outside, 7000)
    world.plane.apply(WILD)
    world.captured("{ 7000, 8080 }", "wide_ports")
    try:
        world.vm.host.wait_until(
            lambda: world.http("outside.lab", "outside.lab").get("rule") == "wild", "an answer under the rule"
        )
        assert world.http("outside.lab", "outside.lab", "/fault")["status"] == 418
        # what has another name, or none, goes on as before: to where it was dialled, from the VM's address
        assert world.http(outside) == {"status": 200, "rule": None, "said": own}
        assert world.http(outside, "other.test", "/fault") == {"status": 200, "rule": None, "said": own}
        assert world.tcp(outside) == {"said": own}
        assert world.tcp("127.0.0.1")["said"] == "127.0.0.1"
        assert world.http(own)["said"] == own
        assert older.says("still") == "STILL"
        world.captured("", "wide_v4")

        # what people exclude is left out of it, too
        excluded = ", ".join(world.outside.record.addresses)
        world.annotate(traffic_sidecar_istio_io__excludeOutboundIPRanges=excluded)
        world.captured(outside, "exempt_v4")
        assert world.http("outside.lab", "outside.lab", "/fault")["status"] == 200
        world.annotate(isthmus_dev__capture="mesh")
        world.captured("", "wide_ports")
        assert world.http("outside.lab", "outside.lab", "/fault")["status"] == 200
        world.annotate()
        world.captured("{ 7000, 8080 }", "wide_ports")

        # a machine that joins and leaves meanwhile is as it was
        late = world.lab.host("late-wild")
        before = late.snapshot()
        joined = join(world.plane, late, "shop/vm")
        assert ask(late, "http", "outside.lab", 8080, "outside.lab", "/fault")["status"] == 418
        joined.leave()
        joined.agent.popen.wait(40)
        assert before.differences(late.snapshot()) == ()
        assert ask(late, "http", "outside.lab", 8080, "outside.lab", "/fault")["status"] == 200
    finally:
        older.close()
        world.annotate()
        for kind in ("serviceentry", "virtualservice"):
            world.plane.isthmus("delete", kind, "wild", "-n", "shop")
    world.captured("", "wide_ports")


def test_a_host_that_envoy_resolves_has_its_virtual_address_and_obeys_rules(world: World) -> None:
    world.plane.apply(NAMED)
    look = "import socket; print(socket.gethostbyname('outside.lab'))"
    world.vm.host.wait_until(
        lambda: world.vm.host.run([sys.executable, "-c", look]).stdout.startswith("240.240."),
        "the virtual address of outside.lab",
    )
    own = {world.vm.host.address, *world.vm.host.record.addresses}
    world.vm.host.wait_until(
        lambda: world.http("outside.lab", "outside.lab").get("rule") == "named", "an answer from outside.lab"
    )
    answer = world.http("outside.lab", "outside.lab")
    assert answer["status"] == 200
    assert answer["said"] in own
    assert world.tcp("outside.lab")["said"] in own
    # Envoy goes on with what it knows while nobody answers its questions
    world.vm.kill_agent()
    assert world.http("outside.lab", "outside.lab")["status"] == 200
    world.agent_again()
    for kind in ("serviceentry", "virtualservice"):
        world.plane.isthmus("delete", kind, "named", "-n", "shop")
    world.vm.host.wait_until(
        lambda: not world.vm.host.run([sys.executable, "-c", look]).stdout.startswith("240.240."),
        "the own address of outside.lab",
    )

"""What a VM captures: everything where its policy asks for it, with exceptions, and afterwards as before."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from isthmus.demo.vm import VM, join
from isthmus.lab import control, namespaces
from isthmus.lab.host import Host
from isthmus.lab.lab import Lab

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(150),
    pytest.mark.skipif(
        bool(namespaces.preflight(root=os.geteuid() == 0)), reason="this machine can run no lab"
    ),
]

SHOP = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: vm, namespace: shop}
---
apiVersion: v1
kind: Service
metadata: {name: vm, namespace: shop}
spec:
  selector: {app: vm}
  ports: [{name: http, port: 8080}, {name: tcp-plain, port: 7001}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: vm, namespace: shop}
spec:
  metadata: {labels: {app: vm}}
  template: {serviceAccount: vm}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: plain, namespace: shop}
spec:
  selector: {matchLabels: {app: vm}}
  mtls: {mode: PERMISSIVE}
  portLevelMtls: {7001: {mode: DISABLE}}
---
"""
ENTRY = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: vm-ADDRESS
  namespace: shop
  annotations: {ANNOTATIONS}
spec: {address: ADDRESS, serviceAccount: vm, labels: {app: vm}}
"""
POLICY = """
apiVersion: isthmus.dev/v1alpha1
kind: MeshConfig
metadata: {name: default, namespace: isthmus-system}
spec: {outboundTrafficPolicy: {mode: MODE}}
"""
REGISTERED = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: shop}
spec:
  hosts: [outside.test]
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints: [{address: OUTSIDE}]
  ports: [{number: 8080, name: http, protocol: HTTP}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: outside, namespace: shop}
spec:
  hosts: [outside.test]
  http:
  - match: [{uri: {prefix: /fault}}]
    fault: {abort: {percentage: {value: 100}, httpStatus: 418}}
    route: [{destination: {host: outside.test}}]
  - route: [{destination: {host: outside.test}}]
    headers: {response: {set: {x-rule: STEP}}}
"""
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
SERVERS = """
    import asyncio
    async def http(reader, writer):
        while await reader.readuntil(b"\\r\\n\\r\\n"):
            peer = writer.get_extra_info("peername")[0].encode()
            writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(peer) + peer)
    async def lines(reader, writer):
        writer.write(writer.get_extra_info("peername")[0].encode() + b"\\n")
        while line := await reader.readline():
            writer.write(line.upper())
    async def safely(program, reader, writer):
        try: await program(reader, writer)
        except (OSError, asyncio.IncompleteReadError): pass
        finally: writer.close()
    async def main():
        for port, program in {8080: http, 7000: lines, 7001: lines, 22: lines}.items():
            await asyncio.start_server(
                lambda r, w, p=program: safely(p, r, w), ("0.0.0.0", "::"), port)
        print("listening", flush=True)
        await asyncio.Event().wait()
    asyncio.run(main())
"""
"""HTTP on 8080, text on the other ports; each says who called."""
HOLD = """
    import socket, sys
    held = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).makefile("rw")
    print("open", held.readline().strip(), flush=True)
    for word in sys.stdin:
        held.write(word); held.flush(); print(held.readline().strip(), flush=True)
"""
ASK = """
    import http.client, json, socket, sys
    kind, address, port, host, path = sys.argv[1:]
    try:
        if kind == "tcp":
            said = socket.create_connection((address, int(port)), 4).recv(100).decode().strip()
            answer = {"said": said}
        else:
            connection = http.client.HTTPConnection(address, int(port), timeout=4)
            connection.request("GET", path, headers={"Host": host})
            response = connection.getresponse()
            answer = {"status": response.status, "rule": response.getheader("x-rule"),
                      "said": response.read().decode()}
    except (OSError, http.client.HTTPException) as error:
        answer = {"error": type(error).__name__}
    print(json.dumps(answer))
"""


class World:
    """A control plane, a VM with programs, and a host outside the mesh with the same programs."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.plane = lab, control.start(lab)
        self.plane.apply(SHOP)
        self.outside = lab.host("outside")
        host = lab.host("vm")
        self.vm: VM = join(self.plane, host, "shop/vm")
        self.story = self.vm.agent.output()
        for each in (host, self.outside):
            command = [sys.executable, "-c", textwrap.dedent(SERVERS)]
            each.spawn(command, log=f"{each.name}-servers.log").wait_for_line("listening", timeout_s=10)

    def http(self, address: str, host: str = "unknown.test", path: str = "/") -> dict[str, object]:
        """What the VM gets for a request."""
        return ask(self.vm.host, "http", address, 8080, host, path)

    def tcp(self, address: str, port: int = 7000) -> dict[str, object]:
        """What a server that speaks first says to the VM."""
        return ask(self.vm.host, "tcp", address, port)

    def policy(self, mode: str) -> None:
        """Says what becomes of calls that no service claims, and waits until the VM does so."""
        self.plane.apply(POLICY.replace("MODE", mode))
        self.captured("0.0.0.0/0" if mode == "REGISTRY_ONLY" else "")

    def register(self, step: str) -> None:
        """Registers the host outside, with a rule that says which step this is, and waits until it holds."""
        self.plane.apply(REGISTERED.replace("OUTSIDE", self.outside.address).replace("STEP", step))
        # a proxy that is not back yet is none that `apply` waits for
        self.vm.host.wait_until(
            lambda: self.http(self.outside.address, "outside.test").get("rule") == step, f"rule {step}"
        )

    def agent_again(self) -> None:
        """Starts the agent and waits until it is at work."""
        self.vm.start_agent()
        self.vm.host.wait_until(lambda: " joined " in self.vm.agent.output(), "the agent at work")

    def annotate(self, **annotations: str) -> None:
        """Says so on the VM's WorkloadEntry."""
        named = {name.replace("__", "/").replace("_", "."): text for name, text in annotations.items()}
        entry = ENTRY.replace("ADDRESS", self.vm.host.address).replace("{ANNOTATIONS}", json.dumps(named))
        self.plane.apply(entry, wait=False)

    def rules(self, name: str) -> str:
        """One set of the VM's capture."""
        return self.vm.host.run(["nft", "list", "set", "inet", "isthmus", name], check=False).stdout

    def captured(self, element: str, name: str = "wide_v4") -> None:
        """Waits until a set of the capture has the element (empty: none at all)."""
        self.vm.host.wait_until(
            lambda: (element in self.rules(name)) if element else ("elements" not in self.rules(name)),
            f"{element or 'nothing'} in {name}",
        )


def ask(host: Host, kind: str, address: str, port: int, name: str = "", path: str = "/") -> dict[str, object]:
    """What a program on a host gets."""
    command = [sys.executable, "-c", textwrap.dedent(ASK), kind, address, str(port), name, path]
    answer: dict[str, object] = json.loads(host.run(command).stdout)
    return answer


class Held:
    """A connection from one host to another that stays open."""

    def __init__(self, host: Host, address: str, port: int) -> None:
        self.process = subprocess.Popen(
            host.argv([sys.executable, "-c", textwrap.dedent(HOLD), address, str(port)]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._line().startswith("open")

    def says(self, word: str) -> str:
        """What comes back for a word."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self._line()

    def close(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.communicate()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


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
            assert world.tcp(address).get("said", "") == ""
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
        world.policy("ALLOW_ANY")
        assert (ssh.says("after"), database.says("after")) == ("AFTER", "AFTER")
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
    joined.agent.popen.wait(10)
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

"""Two networks whose machines cannot dial each other: calls go through the other network's gateway."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from certificates import Outside

from isthmus.demo.vm import VM, join
from isthmus.lab import control, namespaces
from isthmus.lab.host import Host
from isthmus.lab.lab import Lab

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(120),
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
kind: Namespace
metadata: {name: edge}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: tcp, port: 7000, targetPort: 7000}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: near, namespace: shop}
spec:
  metadata: {labels: {app: caller}}
  template: {serviceAccount: caller, network: near}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: far, namespace: shop}
spec:
  metadata: {labels: {app: web}}
  template: {serviceAccount: web, network: far, ports: {http: 8080, tcp: 7000}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
"""
EAST_WEST = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: cross-network, namespace: edge}
spec:
  selector: {istio: eastwestgateway}
  servers:
  - port: {number: 15443, name: tls, protocol: TLS}
    hosts: ["*.local"]
    tls: {mode: AUTO_PASSTHROUGH}
"""
BY_NAME = """
apiVersion: isthmus.dev/v1alpha1
kind: MeshConfig
metadata: {name: default, namespace: isthmus-system}
spec:
  meshNetworks:
    far: {gateways: [{address: balancer.lab, port: 15443}]}
"""
BYTES = """
import socket
listener = socket.create_server(("0.0.0.0", 7000)); print("listening", flush=True)
while True:
    c, _ = listener.accept(); c.sendall(b"first word\\n"); c.close()
"""
# What stands before a gateway that callers cannot dial: bytes from its port 15443 to the gateway's.
BALANCER = """
import asyncio, sys
async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data); await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
async def relay(reader, writer):
    there, back = await asyncio.open_connection(sys.argv[1], 15443)
    await asyncio.gather(copy(reader, back), copy(there, writer))
async def main():
    server = await asyncio.start_server(relay, "0.0.0.0", 15443); print("listening", flush=True)
    await server.serve_forever()
asyncio.run(main())
"""
# Asks the far server through its gateway: ADDRESS ALPN SERVER_NAME [CERTIFICATE KEY].
ASK = """
import socket, ssl, sys
c = ssl._create_unverified_context(); c.set_alpn_protocols([sys.argv[2]])
if sys.argv[4:]: c.load_cert_chain(*sys.argv[4:])
connection = socket.create_connection((sys.argv[1], 15443), 5)
try:
    s = c.wrap_socket(connection, server_hostname=sys.argv[3])
except OSError as error:
    sys.exit(print("no handshake:", error))
try:
    s.sendall(b"GET / HTTP/1.1\\r\\nhost: x\\r\\n\\r\\n"); print(s.recv(100).decode())
except OSError as error:
    print(type(error).__name__, error)
"""
CALL = "import socket,sys; print(socket.create_connection((sys.argv[1], 7000), 5).makefile().readline())"
WEB = "web.shop.svc.cluster.local"


class World:
    """A caller in one network; a server and the only way to it in another."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.plane = lab, control.start(lab)
        self.plane.apply(SHOP)
        self.caller = join(self.plane, lab.host("caller"), "shop/near")
        self.web = join(self.plane, lab.host("web", network=1), "shop/far")
        self.web.host.write("/srv/index.html", "from afar\n")
        pages = ["-m", "http.server", "--bind", "0.0.0.0", "--directory", "/srv", "8080"]
        self.web.host.spawn([sys.executable, "-u", *pages], log="web.log")
        programs = self.web.host.spawn([sys.executable, "-c", BYTES], log="bytes.log")
        programs.wait_for_line("listening", timeout_s=10)
        wall(self.web.host, self.caller.host)
        self.gate = lab.host("east-west", network=1)
        words = ("--label", "istio=eastwestgateway", "--network", "far")
        token = self.plane.isthmus("gateway", "create", "edge/east-west", *words).strip()
        agent = self.gate.spawn(["isthmus", "gateway", "run", token], log="east-west.log")
        agent.wait_for_line("joined", timeout_s=45)
        self.gateway = VM(self.gate, agent)

    def page(self) -> str:
        """What the caller gets from the far server."""
        done = self.caller.host.run(["curl", "-sS", "-m", "3", f"http://{WEB}/"], check=False)
        return done.stdout + done.stderr

    def passed(self) -> int:
        """The connections that went through the gateway to the far server's HTTP port."""
        stats = self.gateway.envoy("/stats?format=json&filter=upstream_cx_total")["stats"]
        name = f"cluster.outbound_.80_._.{WEB}.upstream_cx_total"
        return sum(each.get("value", 0) for each in stats if each.get("name") == name)

    def asked(self, host: Host, alpn: str, *certificate: str) -> str:
        """What a host that dials the gateway itself hears from the far server, or why it hears nothing."""
        words = (self.gate.address, alpn, f"outbound_.80_._.{WEB}", *certificate)
        return host.run([sys.executable, "-c", ASK, *words]).stdout.strip()


@contextmanager
def walled(host: Host, *others: Host) -> Iterator[None]:
    """No way from the others to the host while the block runs."""
    wall(host, *others)
    try:
        yield
    finally:
        host.run(["nft", "-f", "-"], text="delete table ip wall\ndelete table ip6 wall\n")


def wall(host: Host, *others: Host) -> None:
    """Drops everything that comes from other hosts, as if there was no way between the networks."""
    for family, addresses in (
        ("ip", [each.record.v4 for each in others if each.record.v4]),
        ("ip6", [each.record.v6 for each in others if each.record.v6]),
    ):
        table = f"table {family} wall {{ chain in {{ type filter hook input priority -300; policy accept; "
        rules = "".join(f"{family} saddr {address} drop; " for address in addresses)
        host.run(["nft", "-f", "-"], text=table + rules + "}\n}\n")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISTHMUS_LAB_DIR", str(tmp_path_factory.mktemp("labs")))
        with Lab.start("networks") as lab:
            yield World(lab)


def test_calls_go_through_the_gateway_of_the_other_network(world: World) -> None:
    for kind, name, namespace in (
        ("gateway", "cross-network", "edge"),
        ("meshconfig", "default", "isthmus-system"),
    ):
        world.plane.isthmus("delete", kind, name, "-n", namespace, "--ignore-not-found")
    world.caller.host.wait_until(lambda: "from afar" not in world.page(), "the way back to nothing")
    world.plane.apply(EAST_WEST)
    world.caller.host.wait_until(lambda: world.page() == "from afar\n", "the answer from afar")
    assert world.passed() >= 1
    told = world.caller.host.run([sys.executable, "-c", CALL, WEB]).stdout
    assert told.strip() == "first word"


def test_a_gateway_may_have_a_name(world: World) -> None:
    """Callers cannot dial it at its own address: what is asked of DNS is the only way."""
    world.plane.isthmus("delete", "meshconfig", "default", "-n", "isthmus-system", "--ignore-not-found")
    world.plane.apply(EAST_WEST)
    balancer = world.lab.host("balancer")
    relay = balancer.spawn([sys.executable, "-c", BALANCER, world.gate.address], log="balancer.log")
    relay.wait_for_line("listening", timeout_s=10)
    with walled(world.gate, world.caller.host):
        world.caller.host.wait_until(lambda: "from afar" not in world.page(), "the way closed", timeout_s=30)
        before = world.passed()
        world.plane.apply(BY_NAME)
        world.caller.host.wait_until(
            lambda: world.page() == "from afar\n", "the answer by the name", timeout_s=30
        )
        assert world.passed() > before
    relay.stop()
    world.plane.isthmus("delete", "meshconfig", "default", "-n", "isthmus-system")


def test_nobody_passes_who_is_not_of_the_mesh(world: World) -> None:
    world.plane.apply(EAST_WEST)
    own = ("/var/lib/isthmus/chain.pem", "/var/lib/isthmus/key.pem")
    member, stranger = world.caller.host, world.lab.host("stranger")
    member.wait_until(
        lambda: world.asked(member, "istio", *own).startswith("HTTP/1.1 200 OK"), "the answer to a member"
    )
    assert "alert certificate required" in world.asked(stranger, "istio")
    pair = Outside().pair(f"outbound_.80_._.{WEB}")
    for path, text in (("/other.pem", pair.certificate), ("/other.key", pair.key)):
        stranger.write(path, text)
    assert "alert unknown ca" in world.asked(stranger, "istio", "/other.pem", "/other.key")
    # what is not the mesh's own TLS finds nothing to talk to at the gateway
    for host, certificate in ((stranger, ()), (member, own)):
        said = world.asked(host, "http/1.1", *certificate)
        assert said.startswith("no handshake:"), said
        assert "EOF" in said or "reset" in said, said

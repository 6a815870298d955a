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
    pytest.mark.timeout(300),
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
apiVersion: v1
kind: Service
metadata: {name: home, namespace: shop}
spec:
  selector: {app: caller}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: tcp, port: 7000, targetPort: 7000}
---
apiVersion: v1
kind: Service
metadata: {name: everywhere, namespace: shop}
spec: {selector: {everywhere: "yes"}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: near, namespace: shop}
spec:
  metadata: {labels: {app: caller, everywhere: "yes"}}
  template: {serviceAccount: caller, network: near, ports: {http: 8080, tcp: 7000}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: far, namespace: shop}
spec:
  metadata: {labels: {app: web, everywhere: "yes"}}
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
BALANCED = """
apiVersion: isthmus.dev/v1alpha1
kind: MeshConfig
metadata: {{name: default, namespace: isthmus-system}}
spec:
  meshNetworks:
    far: {{gateways: [{{address: {address}, port: 15443}}]}}
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
try:
    connection = socket.create_connection((sys.argv[1], 15443), 5)
except OSError as error:
    # a port that Envoy has been told of opens a moment later
    sys.exit(print("no connection:", error))
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
WEB, HOME = "web.shop.svc.cluster.local", "home.shop.svc.cluster.local"
EVERYWHERE = "everywhere.shop.svc.cluster.local"


class World:
    """A VM in each of two networks, with programs; a gateway is the only way between them."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.plane = lab, control.start(lab)
        self.plane.apply(SHOP)
        self.caller = join(self.plane, lab.host("caller"), "shop/near")
        self.web = join(self.plane, lab.host("web", network=1), "shop/far")
        serve(self.web.host, "from afar")
        serve(self.caller.host, "from home")
        wall(self.web.host, self.caller.host)
        wall(self.caller.host, self.web.host)
        self.gateway = self._gateway("east-west", "far", network=1)
        self.near_gateway = self._gateway("near-gate", "near", network=0)
        self.gate = self.gateway.host

    def _gateway(self, name: str, of: str, *, network: int) -> VM:
        host = self.lab.host(name, network=network)
        words = ("--label", "istio=eastwestgateway", "--network", of)
        token = self.plane.isthmus("gateway", "create", f"edge/{name}", *words).strip()
        agent = host.spawn(["isthmus", "gateway", "run", token], log=f"{name}.log")
        agent.wait_for_line("joined", timeout_s=45)
        return VM(host, agent)

    def page(self, host: str = WEB, *, caller: Host | None = None) -> str:
        """What a VM gets from a service: the near one, when nothing is said, from the far one."""
        command = ["curl", "-sS", "-m", "3", f"http://{host}/"]
        done = (caller or self.caller.host).run(command, check=False)
        return done.stdout + done.stderr

    def passed(self, gateway: VM | None = None, host: str = WEB) -> int:
        """The connections that went through a gateway (the far one) to the HTTP port of a service."""
        stats = (gateway or self.gateway).envoy("/stats?format=json&filter=upstream_cx_total")["stats"]
        name = f"cluster.outbound_.80_._.{host}.upstream_cx_total"
        return sum(each.get("value", 0) for each in stats if each.get("name") == name)

    def close_the_way(self) -> None:
        """Takes away whatever says how the other network is entered."""
        for kind, name, namespace in (
            ("gateway", "cross-network", "edge"),
            ("meshconfig", "default", "isthmus-system"),
        ):
            self.plane.isthmus("delete", kind, name, "-n", namespace, "--ignore-not-found")
        self.caller.host.wait_until(lambda: "from afar" not in self.page(), "the way back to nothing")

    def asked(self, host: Host, alpn: str, *certificate: str) -> str:
        """What a host that dials the gateway itself hears from the far server, or why it hears nothing."""
        words = (self.gate.address, alpn, f"outbound_.80_._.{WEB}", *certificate)
        return host.run([sys.executable, "-c", ASK, *words]).stdout.strip()


def serve(host: Host, page: str) -> None:
    """Starts a host's programs."""
    host.write("/srv/index.html", f"{page}\n")
    pages = ["-m", "http.server", "--bind", "0.0.0.0", "--directory", "/srv", "8080"]
    host.spawn([sys.executable, "-u", *pages], log=f"{host.name}-pages.log").wait_for_line(
        "Serving", timeout_s=20
    )
    host.spawn([sys.executable, "-c", BYTES], log=f"{host.name}-bytes.log").wait_for_line(
        "listening", timeout_s=20
    )


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
    world.close_the_way()
    world.plane.apply(EAST_WEST)
    world.caller.host.wait_until(lambda: world.page() == "from afar\n", "the answer from afar")
    assert world.passed() >= 1
    told = world.caller.host.run([sys.executable, "-c", CALL, WEB]).stdout
    assert told.strip() == "first word"


def test_a_vm_is_called_from_the_other_network(world: World) -> None:
    """The same way back: the far VM calls what the near one serves, through the near network's gateway."""
    world.close_the_way()
    far = world.web.host
    assert "from home" not in world.page(HOME, caller=far)
    world.plane.apply(EAST_WEST)
    far.wait_until(lambda: world.page(HOME, caller=far) == "from home\n", "the answer from home")
    assert world.passed(world.near_gateway, HOME) >= 1
    assert world.passed(world.gateway, HOME) == 0
    assert far.run([sys.executable, "-c", CALL, HOME]).stdout.strip() == "first word"


def test_a_service_in_both_networks_is_one_to_callers_of_either(world: World) -> None:
    world.plane.apply(EAST_WEST)
    both = {"from home\n", "from afar\n"}
    for caller in (world.caller.host, world.web.host):
        seen: set[str] = set()

        def has_seen_both(caller: Host = caller, seen: set[str] = seen) -> bool:
            seen.add(world.page(EVERYWHERE, caller=caller))
            return both <= seen

        caller.wait_until(has_seen_both, f"answers from both networks at {caller.name}", timeout_s=30)


@pytest.mark.parametrize("known_by", ["name", "address"])
def test_a_gateway_may_be_known_by_name_or_address(world: World, known_by: str) -> None:
    """Callers cannot dial it at its own address: what the settings of the mesh say is the only way."""
    world.close_the_way()
    world.plane.apply(EAST_WEST)
    balancer = world.lab.hosts.get("balancer") or world.lab.host("balancer")
    relay = balancer.spawn([sys.executable, "-c", BALANCER, world.gate.address], log=f"by-{known_by}.log")
    relay.wait_for_line("listening", timeout_s=20)
    with walled(world.gate, world.caller.host):
        world.caller.host.wait_until(lambda: "from afar" not in world.page(), "the way closed", timeout_s=30)
        before = world.passed()
        world.plane.apply(BALANCED.format(address="balancer.lab" if known_by == "name" else balancer.address))
        world.caller.host.wait_until(
            lambda: world.page() == "from afar\n", f"the answer by the {known_by}", timeout_s=30
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
    for path, text in (("/srv/other.pem", pair.certificate), ("/srv/other.key", pair.key)):
        stranger.write(path, text)
    assert "alert unknown ca" in world.asked(stranger, "istio", "/srv/other.pem", "/srv/other.key")
    # what is not the mesh's own TLS finds nothing to talk to at the gateway
    for host, certificate in ((stranger, ()), (member, own)):
        said = world.asked(host, "http/1.1", *certificate)
        assert said.startswith("no handshake:"), said
        assert "EOF" in said or "reset" in said, said

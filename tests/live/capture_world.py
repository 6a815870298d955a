"""A control plane, a VM with programs and a host outside the mesh: what the VM's calls get, and its capture.

Commands run in the hosts' own networks; what is said to the mesh goes through the API.
"""

import json
import subprocess
import sys
import textwrap

from isthmus.demo.vm import VM, join
from isthmus.lab import control
from isthmus.lab.host import Host
from isthmus.lab.lab import Lab

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
  ports: [{number: 8080, name: http, protocol: HTTP}, {number: 7001, name: tcp, protocol: TCP}]
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
            said = socket.create_connection((address, int(port)), 10).recv(100).decode().strip()
            answer = {"said": said}
        else:
            connection = http.client.HTTPConnection(address, int(port), timeout=10)
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
            each.spawn(command, log=f"{each.name}-servers.log").wait_for_line("listening", timeout_s=60)

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
        # nor does it wait for agents, who answer for names
        look = ["getent", "ahosts", "outside.test"]
        self.vm.host.wait_until(
            lambda: self.vm.host.run(look, check=False).returncode == 0, "the address of outside.test"
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

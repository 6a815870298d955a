"""Real connections through a real Envoy: out by virtual address, over mTLS, in again, to real programs."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from real_envoy import Discovery, running, served
from real_identity import secrets
from real_network import VM_V4, VM_V6, Machine, envoy_user, machines, possible

from isthmus._pb.isthmus.agent.v1 import agent_pb2
from isthmus.agent.capture import Capture, ruleset
from isthmus.envoy.resource import CLUSTER, ENDPOINTS, EXTENSION, HOST, LISTENER, ROUTES
from makers import World, service, workload

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.live,
    pytest.mark.skipif(not possible(), reason="needs root, ip, nft, nsenter, setpriv"),
]
SERVED = (CLUSTER, ENDPOINTS, LISTENER, ROUTES, EXTENSION)

SHOP = "".join(
    (
        service("web", 80, vip="240.240.0.1").replace("port: 80}", "port: 80, targetPort: 9080}"),
        service("mysql", 3306, vip="240.240.0.2", port_name="mysql"),
        service("web6", 80, vip="2001:2::3").replace("port: 80}", "port: 80, targetPort: 9080}"),
        service("mysql6", 3306, vip="2001:2::4", port_name="tcp"),
        service("down", 80, vip="240.240.0.6"),
        workload("vm-1", VM_V4, account="vm", ports="alt: 3307, http-alt: 9081"),
        workload("vm-6", VM_V6, account="vm"),
    )
)
SELECTED = "\n".join(
    f"---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n"
    f"metadata: {{name: {name}, namespace: bookinfo}}\n"
    f"spec: {{address: '{address}', labels: {{app: {app}, version: {version}}}, serviceAccount: vm}}\n"
    for name, address, app, version in (
        ("w-web", VM_V4, "web", "v1"),
        ("w-mysql", VM_V4, "mysql", "v1"),
        ("w-web6", VM_V6, "web6", "v1"),
        ("w-mysql6", VM_V6, "mysql6", "v1"),
    )
)
"""Every service's endpoints are the VM itself: a call goes out through its Envoy and in again."""
OWN = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-1, namespace: bookinfo}
spec:
  address: 10.77.0.1
  serviceAccount: vm
  labels: {app: vm}
  ports: {http-a: 9080, http-b: 9081, mysql-a: 3306, mysql-b: 3307}
"""
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: bookinfo}
spec:
  selector: {matchLabels: {app: vm}}
  mtls: {mode: STRICT}
  portLevelMtls: {"9081": {mode: PERMISSIVE}, "3307": {mode: DISABLE}}
"""
RULES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: bookinfo}
spec:
  hosts: [web]
  http:
  - match: [{headers: {x-who: {exact: abort}}}]
    fault: {abort: {percentage: {value: 100}, httpStatus: 418}}
    route: [{destination: {host: web}}]
  - match: [{headers: {x-who: {exact: delay}}}]
    fault: {delay: {percentage: {value: 100}, fixedDelay: 1s}}
    route: [{destination: {host: web}}]
  - match: [{headers: {x-who: {exact: late}}}]
    fault: {delay: {percentage: {value: 100}, fixedDelay: 50ms}}
    timeout: 5s
    route: [{destination: {host: nowhere}}]
  - match: [{uri: {prefix: /api/}}]
    rewrite: {uri: /}
    route: [{destination: {host: web}}]
    headers: {request: {set: {x-set: "50%"}}, response: {add: {x-by: rule}}}
  - match: [{uri: {exact: /go}}]
    redirect: {uri: /there, redirectCode: 302}
  - match: [{uri: {exact: /pot}}]
    directResponse: {status: 418, body: {string: short and stout}}
  - match: [{uri: {prefix: /any}}]
    route: [{destination: {host: web}}]
"""
GET = """
    import http.client, json, sys, time
    address, path, who, port, host = sys.argv[1:]
    start = time.monotonic()
    connection = http.client.HTTPConnection(address, int(port), timeout=30)
    try:
        connection.request("GET", path, headers={"Host": host, "x-who": who})
        answer = connection.getresponse()
        seen = [answer.status, answer.read().decode(), dict(answer.getheaders())]
    except OSError as error:
        seen = [0, type(error).__name__, {}]
    print(json.dumps([*seen, time.monotonic() - start]))
"""
TALK = """
    import sys, time, socket, json
    start = time.monotonic()
    try:
        s = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3)
        said = s.recv(100).decode()
    except OSError as e:
        said = ""
    print(json.dumps([said, time.monotonic() - start]))
"""
PROBE = """
    import sys, ssl, socket
    cafile, cert, address, port = sys.argv[1:5]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cafile)
    context.load_cert_chain(cert)
    context.set_alpn_protocols(["isthmus-probe"])
    try:
        with context.wrap_socket(socket.create_connection((address, int(port)), 3)) as s:
            s.sendall(b"GET /x HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
            answer = b""
            while data := s.recv(1000): answer += data
            first, *_, last = answer.decode().splitlines()
            print(s.selected_alpn_protocol(), first, last)
    except OSError as e:
        print("refused")
"""


@asynccontextmanager
async def _vm(directory: Path, *rules: str) -> AsyncIterator[tuple[Machine, Machine, Discovery, World]]:
    world = World().apply(SHOP, SELECTED, OWN, *rules)
    socket = directory / "xds.sock"
    async with machines() as (vm, outside), served(socket) as discovery:
        discovery.secrets = secrets(directory)
        await discovery.push({t: world.manifest(t, "bookinfo", "vm-1") for t in SERVED})
        host = agent_pb2.HostConfig.FromString(world.manifest(HOST, "bookinfo", "vm-1")["host"].body)
        vm.do("nft -f -", given=ruleset(Capture.of(host.inbound_ports, host.capture_prefixes)))
        user = envoy_user(directory)
        socket.chmod(0o777)
        async with running(directory, socket, *vm.enter, *user), asyncio.timeout(15):
            await discovery.wait_accepted(*SERVED)
            yield vm, outside, discovery, world


async def _get(
    machine: Machine, address: str, host: str, path: str = "/any", *, who: str = "", port: int = 80
) -> tuple[int, str, dict[str, str], float]:
    status, body, headers, took = json.loads(await machine.python(GET, address, path, who, str(port), host))
    return status, body, headers, took


async def _talk(machine: Machine, address: str, port: int) -> tuple[str, float]:
    said, took = json.loads(await machine.python(TALK, address, str(port)))
    return said, took


async def promptly(machine: Machine, address: str, port: int, within_s: float) -> str:
    """What is said to who waits in silence, once it is said so soon: on a busy machine not every time is."""
    for _ in range(20):
        said, took = await _talk(machine, address, port)
        if took < within_s:
            return said
    raise AssertionError(f"{address} port {port} never answers within {within_s:g} s")


async def test_calls_out_and_in(tmp_path: Path) -> None:
    async with _vm(tmp_path, STRICT, RULES) as (vm, _, _, _):
        for address, host in (("240.240.0.1", "web.bookinfo"), ("2001:2::3", "web6.bookinfo")):
            status, body, _, _ = await _get(vm, address, host)
            assert status == 200
            seen = json.loads(body)
            assert (
                "URI=spiffe://cluster.local/ns/bookinfo/sa/vm" in seen["headers"]["x-forwarded-client-cert"]
            )
            assert seen["peer"] in {"127.0.0.6", "::6"}
        # the server speaks first, and nobody waits for the client
        for address in ("240.240.0.2", "2001:2::4"):
            assert await promptly(vm, address, 3306, 0.09) == "HELLO 3306\n"
        # a virtual address that nobody has, and a service without endpoints, are answered at once
        assert await promptly(vm, "240.240.99.99", 3306, 0.5) == ""
        assert (await _get(vm, "240.240.0.6", "down.bookinfo"))[0] == 503
        # rules on what the VM calls
        assert (await _get(vm, "240.240.0.1", "web", who="abort"))[0] == 418
        status, _, _, took = await _get(vm, "240.240.0.1", "web", who="delay")
        assert status == 200
        assert took > 0.9
        assert (await _get(vm, "240.240.0.1", "web", who="late"))[0] == 503
        status, body, headers, _ = await _get(vm, "240.240.0.1", "web.bookinfo.svc.cluster.local", "/api/x")
        assert (status, json.loads(body)["line"], headers["x-by"]) == (200, "GET /x HTTP/1.1", "rule")
        assert json.loads(body)["headers"]["x-set"] == "50%"
        status, _, headers, _ = await _get(vm, "240.240.0.1", "web", "/go")
        assert (status, headers["location"]) == (302, "http://web/there")
        assert (await _get(vm, "240.240.0.1", "web", "/pot"))[:2] == (418, "short and stout")
        assert (await _get(vm, "240.240.0.1", "web", "/elsewhere"))[0] == 404


async def test_strict_refuses_plaintext(tmp_path: Path) -> None:
    async with _vm(tmp_path, STRICT) as (_, outside, _, _):
        for address in (VM_V4, VM_V6):
            assert (await _talk(outside, address, 3306))[0] == ""
            assert (await _get(outside, address, "x", port=9080))[0] == 0
            # ports with a mode of their own: permissive, and plaintext without a look (and without a wait)
            assert (await _get(outside, address, "x", port=9081))[0] == 200
            assert await promptly(outside, address, 3307, 0.09) == "HELLO 3307\n"


async def test_permissive_takes_plaintext(tmp_path: Path) -> None:
    async with _vm(tmp_path) as (_, outside, _, _):
        for address in (VM_V4, VM_V6):
            status, body, _, _ = await _get(outside, address, "x", port=9080)
            assert status == 200
            assert "x-forwarded-client-cert" not in json.loads(body)["headers"]
            said, took = await _talk(outside, address, 3306)
            assert said == "HELLO 3306\n"
            assert took > 0.09
            assert await promptly(outside, address, 3306, 0.5) == said


async def test_only_the_control_plane_gets_an_answer_to_its_probe(tmp_path: Path) -> None:
    async with _vm(tmp_path, STRICT) as (_, outside, _, _):
        roots, control_plane, somebody = (
            str(tmp_path / name) for name in ("roots.pem", "control.pem", "vm.pem")
        )
        for address in (VM_V4, VM_V6):
            for port in ("9080", "3306", "9081"):
                found = await outside.python(PROBE, roots, control_plane, address, port)
                assert found == "isthmus-probe HTTP/1.1 200 OK isthmus-probe bookinfo/vm-1"
                assert await outside.python(PROBE, roots, somebody, address, port) == "refused"


async def test_an_unhealthy_endpoint_is_not_called(tmp_path: Path) -> None:
    async with _vm(tmp_path) as (vm, _, discovery, world):
        assert (await _get(vm, "240.240.0.1", "web.bookinfo"))[0] == 200
        pushed = dict(discovery.pushes)
        world.unhealthy("bookinfo", "w-web")
        await discovery.push({t: world.manifest(t, "bookinfo", "vm-1") for t in SERVED})
        await discovery.wait_accepted(ENDPOINTS, pushes=pushed[ENDPOINTS] + 1)
        assert (await _get(vm, "240.240.0.1", "web.bookinfo"))[0] == 503
        assert {t for t in SERVED if discovery.pushes[t] != pushed[t]} == {ENDPOINTS}

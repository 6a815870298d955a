"""What gateways carry in and out: gRPC, WebSocket, HTTP/2, TLS that is opened, passed on or made, bytes."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
from certificates import Outside
from gateway_world import run_gateway, secret

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

PROGRAMS = Path(__file__).parents[1] / "scenarios"
"""Servers that tell who they are, and a caller: see the README there."""
SHOP = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: grpc, port: 9090}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: web, namespace: shop}
spec:
  metadata: {labels: {app: web}}
  template: {serviceAccount: web, ports: {http: 8080, grpc: 9090}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: shop}
spec: {mtls: {mode: STRICT}}
"""
INGRESS = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [edge.lab]}
  - {port: {number: 9090, name: grpc, protocol: GRPC}, hosts: [edge.lab]}
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: ["*.wild.example.com"],
     tls: {mode: SIMPLE, credentialName: wild}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: inner, namespace: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 8088, name: http, protocol: HTTP}, bind: 127.0.0.1, hosts: [edge.lab]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [edge.lab, "*.wild.example.com"]
  gateways: [edge/public, edge/inner]
  http:
  - match: [{uri: {prefix: /echo.Echo/}}]
    route: [{destination: {host: web, port: {number: 9090}}}]
  - route: [{destination: {host: web, port: {number: 80}}}]
"""
EGRESS = """
apiVersion: v1
kind: Service
metadata: {{name: egress, namespace: edge}}
spec:
  selector: {{istio: egressgateway}}
  ports:
  - {{name: tls, port: 443, targetPort: 8443}}
  - {{name: https, port: 8080}}
  - {{name: tls-bytes, port: 7000}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: egress, namespace: edge}}
spec:
  selector: {{istio: egressgateway}}
  servers:
  - {{port: {{number: 443, name: tls, protocol: TLS}}, hosts: [passed.example.com],
     tls: {{mode: PASSTHROUGH}}}}
  - {{port: {{number: 8080, name: https, protocol: HTTPS}}, hosts: [made.example.com],
     tls: {{mode: ISTIO_MUTUAL}}}}
  - {{port: {{number: 7000, name: tls-bytes, protocol: TLS}}, hosts: [bytes.example.com],
     tls: {{mode: ISTIO_MUTUAL}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: egress, namespace: edge}}
spec:
  host: egress.edge.svc.cluster.local
  trafficPolicy:
    portLevelSettings:
    - {{port: {{number: 443}}, tls: {{mode: DISABLE}}}}
    - {{port: {{number: 8080}}, tls: {{mode: ISTIO_MUTUAL, sni: made.example.com}}}}
    - {{port: {{number: 7000}}, tls: {{mode: ISTIO_MUTUAL, sni: bytes.example.com}}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: passed, namespace: shop}}
spec:
  hosts: [passed.example.com]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{number: 443, name: tls, protocol: TLS}}]
  endpoints: [{{address: {away}, ports: {{tls: 8443}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: passed, namespace: shop}}
spec:
  hosts: [passed.example.com]
  gateways: [mesh, edge/egress]
  tls:
  - match: [{{gateways: [mesh], port: 443, sniHosts: [passed.example.com]}}]
    route: [{{destination: {{host: egress.edge.svc.cluster.local, port: {{number: 443}}}}}}]
  - match: [{{gateways: [edge/egress], port: 443, sniHosts: [passed.example.com]}}]
    route: [{{destination: {{host: passed.example.com, port: {{number: 443}}}}}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: made, namespace: shop}}
spec:
  hosts: [made.example.com]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}, {{number: 443, name: https-made, protocol: HTTP}}]
  endpoints: [{{address: {away}, ports: {{http: 8080, https-made: 8443}}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: made, namespace: edge}}
spec:
  host: made.example.com
  trafficPolicy:
    portLevelSettings:
    - port: {{number: 443}}
      # a connection that is open was believed when it was opened
      connectionPool: {{http: {{maxRequestsPerConnection: 1}}}}
      tls: {{mode: SIMPLE, credentialName: made-roots, sni: made.example.com,
            subjectAltNames: [made.example.com]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: made, namespace: shop}}
spec:
  hosts: [made.example.com]
  gateways: [mesh, edge/egress]
  http:
  - match: [{{gateways: [mesh], port: 80}}]
    route: [{{destination: {{host: egress.edge.svc.cluster.local, port: {{number: 8080}}}}}}]
  - match: [{{gateways: [edge/egress], port: 8080}}]
    route: [{{destination: {{host: made.example.com, port: {{number: 443}}}}}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: bytes, namespace: shop}}
spec:
  hosts: [bytes.example.com]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{number: 7001, name: tcp, protocol: TCP}}]
  endpoints: [{{address: {away}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: bytes, namespace: shop}}
spec:
  hosts: [bytes.example.com]
  gateways: [mesh, edge/egress]
  tcp:
  - match: [{{gateways: [mesh], port: 7001}}]
    route: [{{destination: {{host: egress.edge.svc.cluster.local, port: {{number: 7000}}}}}}]
  - match: [{{gateways: [edge/egress], port: 7000}}]
    route: [{{destination: {{host: bytes.example.com, port: {{number: 7001}}}}}}]
"""
AUTHORITY = Outside()
Answer = Mapping[str, Any]


class World:
    """A VM with programs, a gateway on each side of it, and a host outside the mesh that serves and calls."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.plane = lab, control.start(lab)
        self.plane.apply(SHOP)
        self.web = join(self.plane, lab.host("web"), "shop/web").host
        self.outside, self.edge, self.way_out = lab.host("outside"), lab.host("edge"), lab.host("egress")
        pair = AUTHORITY.pair("passed.example.com", "made.example.com")
        self.outside.write("/srv/own.pem", pair.key + pair.certificate)
        self.outside.write("/srv/root-of-trust.pem", AUTHORITY.certificate)
        self.web.write("/srv/root-of-trust.pem", AUTHORITY.certificate)
        self._serve(self.web)
        self._serve(self.outside, "/srv/own.pem")
        self.ingress = VM(self.edge, run_gateway(self.plane, self.edge, "edge/ingress"))
        words = ("--label", "istio=egressgateway")
        self.egress = VM(self.way_out, run_gateway(self.plane, self.way_out, "edge/egress", *words))
        self.plane.apply(roots(AUTHORITY) + EGRESS.format(away=self.outside.address))

    def _serve(self, host: Host, *certificate: str) -> None:
        command = [host.python("isthmus")[0], str(PROGRAMS / "servers.py"), host.name, "v1", *certificate]
        host.spawn(command, log=f"{host.name}-servers.log").wait_for_line("listening", timeout_s=40)

    def call(self, host: Host, call: Mapping[str, Any]) -> Answer:
        """How a call from a host went."""
        command = [host.python("isthmus")[0], str(PROGRAMS / "caller.py")]
        (answer,) = json.loads(host.run(command, text=json.dumps(call) + "\n").stdout)
        found: Answer = answer
        return found

    def until(self, host: Host, call: Mapping[str, Any], **wanted: Any) -> Answer:
        """The answer to a call, once it has what is wanted."""
        answer: Answer = {}

        def answered() -> bool:
            nonlocal answer
            answer = self.call(host, call)
            return all(answer.get(name) == value for name, value in wanted.items())

        host.wait_until(answered, f"{wanted} of {call}", timeout_s=40)
        return answer

    def passed(self, gateway: VM, cluster: str) -> int:
        """The connections that a gateway made to a cluster."""
        stats = gateway.envoy(f"/stats?format=json&filter={cluster.split('|')[-1]}.*upstream_cx_total")[
            "stats"
        ]
        name = f"cluster.{cluster}.upstream_cx_total"
        return sum(each.get("value", 0) for each in stats if each.get("name", "").replace(";", "") == name)

    def curl(self, host: Host, url: str, *options: str) -> str:
        """What curl on a host says."""
        command = ["curl", "-sS", "-m", "5", "--cacert", "/srv/root-of-trust.pem", *options, url]
        done = host.run(command, check=False)
        return done.stdout + done.stderr


def roots(authority: Outside) -> str:
    """A Secret for the egress gateway: whose certificates it believes."""
    text = "apiVersion: v1\nkind: Secret\nmetadata: {name: made-roots, namespace: edge}\n"
    return text + "stringData:\n  ca.crt: |\n" + indent(authority.certificate, "    ") + "---\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISTHMUS_LAB_DIR", str(tmp_path_factory.mktemp("labs")))
        with Lab.start("gateway-protocols") as lab:
            yield World(lab)


# in


@pytest.mark.parametrize("port", [80, 9090])
def test_grpc_comes_in(world: World, port: int) -> None:
    world.plane.apply(INGRESS)
    answer = world.until(world.outside, {"grpc": f"edge.lab:{port}"}, status="OK")
    assert answer["reached"] == "web/v1"
    assert "/sa/" in answer["told"]["headers"]["x-forwarded-client-cert"]
    streamed = world.call(world.outside, {"grpc": f"edge.lab:{port}", "method": "Stream"})
    assert (streamed["status"], streamed["messages"]) == ("OK", 3)


def test_websockets_come_in(world: World) -> None:
    world.plane.apply(INGRESS)
    answer = world.until(world.outside, {"websocket": "ws://edge.lab/chat", "messages": 3}, status=101)
    assert (answer["reached"], answer["told"]["text"]) == ("web/v1", "hello 2")


def test_a_name_under_a_wildcard_is_opened_once_its_certificate_comes(world: World) -> None:
    world.plane.isthmus("delete", "secret", "wild", "-n", "edge", "--ignore-not-found")
    world.plane.apply(INGRESS, wait=False)
    url, to = "https://a.wild.example.com/", ("--resolve", f"a.wild.example.com:443:{world.edge.address}")
    told = ("get", "gateway", "public", "-n", "edge", "-o", "yaml")
    world.outside.wait_until(
        lambda: "there is no Secret/edge/wild" in world.plane.isthmus(*told), "the condition", timeout_s=40
    )
    world.until(world.outside, {"url": "http://edge.lab/"}, status=200)
    assert "curl: (" in world.curl(world.outside, url, *to)
    world.plane.apply(secret("wild", AUTHORITY.pair("*.wild.example.com")))
    version = ("--http2", "-o", "/dev/null", "-w", "%{http_version} %{http_code}")
    world.outside.wait_until(
        lambda: world.curl(world.outside, url, *to, *version) == "2 200", "the answer", timeout_s=40
    )
    other = ("--resolve", f"other.example.com:443:{world.edge.address}")
    assert "curl: (" in world.curl(world.outside, "https://other.example.com/", *other)


def test_a_server_with_an_address_of_its_own_listens_there_alone(world: World) -> None:
    world.plane.apply(INGRESS)
    inside = {"url": "http://edge.lab:8088/", "address": "127.0.0.1", "headers": {"host": "edge.lab"}}
    assert world.until(world.edge, inside, status=200)["reached"] == "web/v1"
    assert "error" in world.call(world.outside, {"url": "http://edge.lab:8088/"})


def test_a_port_that_is_taken_away_listens_no_more(world: World) -> None:
    world.plane.apply(INGRESS)
    world.until(world.outside, {"grpc": "edge.lab:9090"}, status="OK")
    lines = [line for line in INGRESS.splitlines() if "number: 9090, name: grpc" not in line]
    world.plane.apply("\n".join(lines))
    refused = {"tcp": f"{world.edge.address}:9090"}
    world.outside.wait_until(
        lambda: "refused" in world.call(world.outside, refused).get("error", ""), "no listener", timeout_s=40
    )
    assert world.call(world.outside, {"url": "http://edge.lab/"})["status"] == 200


# out


def test_tls_leaves_unopened_by_its_server_name(world: World) -> None:
    call = {"url": "https://passed.example.com/", "fresh": True}
    answer = world.until(world.web, call, status=200, reached="outside/v1")
    assert answer["told"]["peer"] == world.way_out.address
    # end to end: what the VM sees is the certificate of the server outside
    assert '"reached"' not in world.curl(
        world.web, "https://passed.example.com/", "--cacert", "/etc/hostname"
    )
    assert '"host": "outside"' in world.curl(world.web, "https://passed.example.com/")


def test_the_way_out_makes_tls_and_believes_whom_its_secret_says(world: World) -> None:
    call = {"url": "http://made.example.com/", "fresh": True}
    answer = world.until(world.web, call, status=200)
    assert (answer["reached"], answer["told"]["port"]) == ("outside/v1", 8443)
    assert answer["told"]["peer"] == world.way_out.address
    world.plane.apply(roots(Outside("others")))
    world.until(world.web, call, status=503)
    world.plane.apply(roots(AUTHORITY))
    world.until(world.web, call, status=200)


def test_bytes_leave_within_the_meshs_own_tls(world: World) -> None:
    before = world.passed(world.egress, "outbound|7001||bytes.example.com")
    call = {"tcp": "bytes.example.com:7001", "silent": True}
    assert world.until(world.web, call, status="OK")["told"]["text"] == "greeting"
    assert world.passed(world.egress, "outbound|7001||bytes.example.com") > before
    # nobody outside the mesh gets through there
    stray = {"tcp": f"{world.way_out.address}:7000", "silent": True, "timeout": 3}
    assert "error" in world.call(world.outside, stray)

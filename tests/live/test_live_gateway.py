"""A host becomes an ingress gateway with one command: calls from outside reach a VM."""

import os
import sys
from collections.abc import Iterator

import pytest
from gateway_world import PUBLIC, World, run_gateway, standing

from isthmus.demo.vm import VM
from isthmus.lab import namespaces

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        bool(namespaces.preflight(root=os.geteuid() == 0)), reason="this machine can run no lab"
    ),
]

EGRESS = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: away, namespace: shop}}
spec:
  hosts: [away.example.com]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{number: 80, name: http, protocol: HTTP}}]
  endpoints: [{{address: {away}, ports: {{http: 8000}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: egress, namespace: edge}}
spec: {{selector: {{istio: egressgateway}}, ports: [{{name: https, port: 443, targetPort: 8443}}]}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: egress, namespace: edge}}
spec:
  selector: {{istio: egressgateway}}
  servers:
  - {{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: [away.example.com],
     tls: {{mode: ISTIO_MUTUAL}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: egress, namespace: edge}}
spec:
  host: egress.edge.svc.cluster.local
  trafficPolicy: {{tls: {{mode: ISTIO_MUTUAL, sni: away.example.com}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: away, namespace: shop}}
spec:
  hosts: [away.example.com]
  gateways: [mesh, edge/egress]
  http:
  - match: [{{gateways: [mesh], port: 80}}]
    route: [{{destination: {{host: egress.edge.svc.cluster.local, port: {{number: 443}}}}}}]
  - match: [{{gateways: [edge/egress], port: 443}}]
    route: [{{destination: {{host: away.example.com, port: {{number: 80}}}}}}]
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with standing(tmp_path_factory, "gateway") as made:
        made.open()
        yield made


def test_requests_reach_the_vm_over_mutual_tls(world: World) -> None:
    assert world.call("http://shop.example.com/") == f"web saw {world.client.address} http"
    forged = world.call("http://shop.example.com/", "-H", "x-forwarded-for: 1.2.3.4")
    assert forged == f"web saw 1.2.3.4,{world.client.address} http"
    assert "404" in world.call("http://other.example.com/", "-o", "/dev/null", "-w", "%{http_code}")
    story = world.lab.directory / "edge-gateway.log"
    world.until(lambda: "listening    on 80, 443, 7000" in story.read_text(), "the ports in its story")


def test_a_policy_of_the_gateway_is_for_who_comes_from_outside(world: World) -> None:
    from_client = f"from: [{{source: {{ipBlocks: [{world.client.address}]}}}}]"
    world.plane.apply(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        "metadata: {name: closed, namespace: edge}\n"
        "spec: {selector: {matchLabels: {istio: ingressgateway}}, action: DENY, "
        "rules: [{to: [{operation: {paths: [/admin], hosts: [shop.example.com]}}]}, "
        f"{{{from_client}, to: [{{operation: {{paths: [/in]}}}}]}}]}}\n"
    )
    try:
        assert world.call("http://shop.example.com/admin") == "RBAC: access denied"
        assert world.call("http://shop.example.com/in") == "RBAC: access denied"
        assert "web saw" in world.call("http://shop.example.com/other")
    finally:
        world.plane.isthmus("delete", "-n", "edge", "authorizationpolicy", "closed")
    world.until(lambda: "web saw" in world.call("http://shop.example.com/admin"), "the way open again")


def test_plaintext_is_sent_to_https_where_a_server_says_so(world: World) -> None:
    answer = world.call(
        "http://moved.example.com/x?y=1", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}"
    )
    assert answer == "301 https://moved.example.com/x?y=1"


def test_connections_pass_though_the_server_speaks_first(world: World) -> None:
    script = (
        "import socket,sys; print(socket.create_connection((sys.argv[1], 7000), 5).makefile().readline())"
    )
    found = world.client.run([sys.executable, "-c", script, world.edge.address])
    assert found.stdout.strip() == "first word"


def test_a_port_that_is_taken_is_told_and_the_others_serve(world: World) -> None:
    holder = world.edge.spawn(
        [sys.executable, "-m", "http.server", "--bind", "0.0.0.0", "8081"], log="holder.log"
    )
    world.edge.wait_until(lambda: "1F91" in world.edge.read("/proc/net/tcp"), "port 8081")
    taken = (
        PUBLIC.split("---")[0].replace("name: public", "name: taken").replace("number: 80,", "number: 8081,")
    )
    world.plane.apply(taken, wait=False)
    world.until(lambda: "8081" in world.condition("taken"), "the condition")
    assert world.call("http://shop.example.com/").startswith("web saw")
    holder.stop()
    world.plane.isthmus("delete", "gateway", "taken", "-n", "edge")


def test_it_serves_while_its_agent_is_gone_and_the_agent_finds_it_again(world: World) -> None:
    gateway = VM(world.edge, world.agent)
    before = gateway.envoy_pid()
    gateway.kill_agent()
    assert world.call("http://shop.example.com/").startswith("web saw")
    gateway.start_agent()
    gateway.agent.wait_for_line("", timeout_s=60)
    world.until(lambda: "listening on 80" in gateway.agent.output(), "the agent's story")
    world.agent = gateway.agent
    assert gateway.envoy_pid() == before
    assert world.call("http://shop.example.com/").startswith("web saw")


def test_a_token_for_other_hosts_makes_no_gateway(world: World) -> None:
    host = world.lab.host("stray")
    before = host.snapshot()
    done = host.run(["isthmus", "gateway", "run", world.plane.token("shop/web")], check=False)
    assert done.returncode == 1
    assert "is no gateway" in done.stderr
    assert before.differences(host.snapshot()) == ()


def test_calls_leave_the_mesh_by_an_egress_gateway(world: World) -> None:
    run_gateway(world.plane, world.lab.host("egress"), "edge/egress", "--label", "istio=egressgateway")
    away = world.client.spawn(
        [sys.executable, "-u", "-m", "http.server", "--bind", "0.0.0.0", "8000"], log="away.log"
    )
    world.plane.apply(EGRESS.format(away=world.client.address))
    world.until(lambda: "Directory listing" in out_of(world), "the answer from outside")
    callers = {line.split()[0] for line in away.output().splitlines() if "GET" in line}
    assert callers == {world.lab.hosts["egress"].address}
    assert "Directory listing" not in world.call("https://away.example.com/", "-k")


def out_of(world: World) -> str:
    """What the VM gets from a host outside the mesh."""
    command = ["curl", "-sS", "-m", "3", "http://away.example.com/"]
    return world.web.host.run(command, check=False).stdout


def test_leaving_leaves_the_host_as_it_was(world: World) -> None:
    host = world.lab.host("passing")
    before = host.snapshot()
    agent = run_gateway(world.plane, host, "edge/ingress")
    agent.wait_for_line("listening    on 80", timeout_s=60)
    host.run(["isthmus", "leave"])
    agent.popen.wait(40)
    assert before.differences(host.snapshot()) == ()

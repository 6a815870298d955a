"""A host becomes an ingress gateway with one command: calls from outside reach a VM, in every way of TLS."""

import os
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from textwrap import indent

import pytest
from certificates import Outside, Pair

from isthmus.demo.vm import VM, join
from isthmus.lab import control, namespaces
from isthmus.lab.control import ControlPlane
from isthmus.lab.host import Host, Process
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
  - {name: tls, port: 443, targetPort: 8443}
  - {name: tcp, port: 7000, targetPort: 7000}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: web, namespace: shop}
spec:
  metadata: {labels: {app: web}}
  template: {serviceAccount: web, ports: {http: 8080, tls: 8443, tcp: 7000}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: shop}
spec:
  mtls: {mode: STRICT}
  selector: {matchLabels: {app: web}}
  portLevelMtls: {8443: {mode: PERMISSIVE}}
"""
PUBLIC = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [shop.example.com]}
  - {port: {number: 80, name: http-moved, protocol: HTTP}, hosts: [moved.example.com],
     tls: {httpsRedirect: true}}
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [secure.example.com],
     tls: {mode: SIMPLE, credentialName: shop}}
  - {port: {number: 443, name: https-mutual, protocol: HTTPS}, hosts: [partners.example.com],
     tls: {mode: MUTUAL, credentialName: partners}}
  - {port: {number: 443, name: tls, protocol: TLS}, hosts: [opaque.example.com], tls: {mode: PASSTHROUGH}}
  - {port: {number: 7000, name: tcp, protocol: TCP}, hosts: ["*"]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [shop.example.com, secure.example.com, partners.example.com, moved.example.com]
  gateways: [edge/public]
  http: [{route: [{destination: {host: web, port: {number: 80}}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: connections, namespace: shop}
spec:
  hosts: ["*"]
  gateways: [edge/public]
  tcp: [{match: [{port: 7000}], route: [{destination: {host: web, port: {number: 7000}}}]}]
  tls:
  - {match: [{port: 443, sniHosts: [opaque.example.com]}],
     route: [{destination: {host: web, port: {number: 443}}}]}
"""
HTTP = """
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        seen = [str(self.headers["x-forwarded-" + name]) for name in ("for", "proto")]
        body = ("web saw " + " ".join(seen)).encode()
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
print("listening", flush=True); http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Answer).serve_forever()
"""
TLS = """
import socket, ssl, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain("/srv/own.pem")
listener = socket.create_server(("0.0.0.0", 8443)); print("listening", flush=True)
def serve(raw):
    with context.wrap_socket(raw, server_side=True) as c:
        c.recv(4096); c.sendall(b"HTTP/1.0 200 OK\\r\\ncontent-length: 11\\r\\n\\r\\nend to end\\n")
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""
BYTES = """
import socket
listener = socket.create_server(("0.0.0.0", 7000)); print("listening", flush=True)
while True:
    c, _ = listener.accept(); c.sendall(b"first word\\n"); c.close()
"""
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
AUTHORITY, PARTNERS = Outside(), Outside("partners")


class World:
    """What stands: a control plane, a VM with programs, a gateway, and a client outside the mesh."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.plane = lab, control.start(lab)
        self.plane.apply(SHOP)
        self.web = join(self.plane, lab.host("web"), "shop/web")
        self._program("http", HTTP)
        own = AUTHORITY.pair("opaque.example.com")
        self.web.host.write("/srv/own.pem", own.key + own.certificate)
        self._program("tls", TLS)
        self._program("bytes", BYTES)
        self.client = lab.host("client")
        self.client.write("/root-of-trust.pem", AUTHORITY.certificate)
        self.edge_before = lab.host("edge").snapshot()
        self.edge = lab.hosts["edge"]
        self.agent = run_gateway(self.plane, self.edge, "edge/ingress")

    def _program(self, name: str, text: str) -> None:
        process = self.web.host.spawn([sys.executable, "-c", text], log=f"web-{name}.log")
        process.wait_for_line("listening", timeout_s=10)

    def call(self, url: str, *options: str) -> str:
        """What curl on the client prints for a URL whose host is the gateway."""
        host = url.split("/")[2].partition(":")[0]
        names = [word for p in (80, 443) for word in ("--resolve", f"{host}:{p}:{self.edge.address}")]
        trust = ["--cacert", "/root-of-trust.pem"]
        command = ["curl", "-sS", "-m", "5", *names, *trust, *options, url]
        done = self.client.run(command, check=False)
        return done.stdout + done.stderr

    def until(self, wanted: Callable[[], bool], what: str) -> None:
        """Waits for what follows an apply."""
        self.client.wait_until(wanted, what, timeout_s=15)


def run_gateway(plane: ControlPlane, host: Host, group: str, *options: str) -> Process:
    """Makes the host a gateway, with the two commands that people use."""
    token = plane.isthmus("gateway", "create", group, *options).strip()
    agent = host.spawn(["isthmus", "gateway", "run", token], log=f"{host.name}-gateway.log")
    agent.wait_for_line("joined", timeout_s=45)
    return agent


def secret(name: str, pair: Pair, roots: str = "") -> str:
    """A Secret in the gateway's namespace."""
    text = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: edge}}\n"
    text += "type: kubernetes.io/tls\nstringData:\n"
    for field, pem in (("tls.crt", pair.certificate), ("tls.key", pair.key), ("ca.crt", roots)):
        if pem:
            text += f"  {field}: |\n" + indent(pem, "    ")
    return text + "---\n"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISTHMUS_LAB_DIR", str(tmp_path_factory.mktemp("labs")))
        with Lab.start("gateway") as lab:
            made = World(lab)
            assert "listening    on nothing yet" in made.agent.output()
            made.plane.apply(secret("shop", AUTHORITY.pair("secure.example.com", serial=1)))
            partners = AUTHORITY.pair("partners.example.com")
            made.plane.apply(secret("partners", partners, PARTNERS.certificate) + PUBLIC)
            made.until(lambda: "web saw" in made.call("http://shop.example.com/"), "the first answer")
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


def test_tls_is_opened_and_a_new_certificate_is_shown_at_once(world: World) -> None:
    assert world.call("https://secure.example.com/") == f"web saw {world.client.address} https"
    assert serial(world) == 1
    world.plane.apply(secret("shop", AUTHORITY.pair("secure.example.com", serial=2)))
    world.until(lambda: serial(world) == 2, "the second certificate")
    assert world.call("https://secure.example.com/") == f"web saw {world.client.address} https"


def test_a_key_of_another_certificate_takes_nothing_away_and_is_told(world: World) -> None:
    before = serial(world)
    one, other = (
        AUTHORITY.pair("secure.example.com", serial=8),
        AUTHORITY.pair("secure.example.com", serial=9),
    )
    good = AUTHORITY.pair("secure.example.com", serial=before)
    world.plane.apply(secret("shop", Pair(one.certificate, other.key)), wait=False)
    world.until(lambda: "the key is not the certificate's" in gateway_status(world), "the condition")
    assert world.call("http://shop.example.com/").startswith("web saw")
    world.plane.apply(secret("shop", good))
    world.until(lambda: serial(world) == before, "a good certificate again")


def test_clients_must_show_a_certificate_where_a_server_asks(world: World) -> None:
    bare = world.call("https://partners.example.com/")
    assert "web saw" not in bare
    shown = PARTNERS.pair("partner")
    world.client.write("/partner.pem", shown.certificate + shown.key)
    assert world.call("https://partners.example.com/", "--cert", "/partner.pem").startswith("web saw")
    stranger = AUTHORITY.pair("stranger")
    world.client.write("/stranger.pem", stranger.certificate + stranger.key)
    assert "web saw" not in world.call("https://partners.example.com/", "--cert", "/stranger.pem")


def test_tls_passes_through_to_who_owns_it(world: World) -> None:
    assert world.call("https://opaque.example.com/") == "end to end\n"


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
    world.until(lambda: "8081" in gateway_status(world, "taken"), "the condition")
    assert world.call("http://shop.example.com/").startswith("web saw")
    holder.stop()
    world.plane.isthmus("delete", "gateway", "taken", "-n", "edge")


def test_a_gateway_holds_no_secret_but_those_that_its_gateways_name(world: World) -> None:
    world.plane.apply(secret("unnamed", AUTHORITY.pair("unnamed.example.com")))
    dump = VM(world.edge, world.agent).envoy("/config_dump?resource=dynamic_active_secrets")
    names = {each["name"] for each in dump["configs"]}
    assert {"default", "ROOTCA", "kubernetes://shop", "kubernetes://partners"} <= names
    assert "kubernetes://unnamed" not in names


def test_it_serves_while_its_agent_is_gone_and_the_agent_finds_it_again(world: World) -> None:
    gateway = VM(world.edge, world.agent)
    before = gateway.envoy_pid()
    gateway.kill_agent()
    assert world.call("http://shop.example.com/").startswith("web saw")
    gateway.start_agent()
    gateway.agent.wait_for_line("", timeout_s=15)
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
    agent.wait_for_line("listening    on 80", timeout_s=15)
    host.run(["isthmus", "leave"])
    agent.popen.wait(10)
    assert before.differences(host.snapshot()) == ()


def serial(world: World) -> int:
    """The serial number of the certificate that the gateway shows."""
    script = (
        "import socket,ssl,sys; c=ssl._create_unverified_context();"
        "s=c.wrap_socket(socket.create_connection((sys.argv[1],443),5),server_hostname='secure.example.com');"
        "print(ssl.DER_cert_to_PEM_cert(s.getpeercert(True)))"
    )
    done = world.client.run([sys.executable, "-c", script, world.edge.address], check=False)
    from cryptography import x509

    if done.returncode:
        return 0
    assert ssl.PEM_HEADER in done.stdout
    return x509.load_pem_x509_certificate(done.stdout.encode()).serial_number


def gateway_status(world: World, name: str = "public") -> str:
    """What the conditions of a Gateway say."""
    time.sleep(0.1)
    return world.plane.isthmus("get", "gateway", name, "-n", "edge", "-o", "yaml").partition("status:")[2]

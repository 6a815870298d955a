"""A control plane, a VM with programs, a gateway before it, and a client outside the mesh."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from textwrap import indent

import pytest
from certificates import Outside, Pair

from isthmus.demo.vm import join
from isthmus.lab import control
from isthmus.lab.control import ControlPlane
from isthmus.lab.host import Host, Process
from isthmus.lab.lab import Lab

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
AUTHORITY, PARTNERS = Outside(), Outside("partners")


class World:
    """What stands: a control plane, a VM with programs, a gateway, and a client outside the mesh."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.plane = lab, control.start(lab)
        self.plane.apply(SHOP)
        self.web = join(self.plane, lab.host("web"), "shop/web")
        self.client = lab.host("client")
        self.client.write("/srv/root-of-trust.pem", AUTHORITY.certificate)
        self.edge = lab.host("edge")
        self.agent = run_gateway(self.plane, self.edge, "edge/ingress")

    def open(self) -> None:
        """Starts the programs, and lets calls from outside in."""
        self._program("http", HTTP)
        own = AUTHORITY.pair("opaque.example.com")
        self.web.host.write("/srv/own.pem", own.key + own.certificate)
        self._program("tls", TLS)
        self._program("bytes", BYTES)
        assert "listening    on nothing yet" in self.agent.output()
        self.plane.apply(secret("shop", AUTHORITY.pair("secure.example.com", serial=1)))
        partners = AUTHORITY.pair("partners.example.com")
        self.plane.apply(secret("partners", partners, PARTNERS.certificate) + PUBLIC)
        self.until(lambda: "web saw" in self.call("http://shop.example.com/"), "the first answer")
        # a test may end this agent, which looks at its ports some time after they open
        self.until(lambda: "listening    on 80, 443, 7000" in self.agent.output(), "the ports in its story")

    def _program(self, name: str, text: str) -> None:
        process = self.web.host.spawn([sys.executable, "-c", text], log=f"web-{name}.log")
        process.wait_for_line("listening", timeout_s=60)

    def call(self, url: str, *options: str) -> str:
        """What curl on the client prints for a URL whose host is the gateway."""
        host = url.split("/")[2].partition(":")[0]
        names = [word for p in (80, 443, 8081) for word in ("--resolve", f"{host}:{p}:{self.edge.address}")]
        trust = ["--cacert", "/srv/root-of-trust.pem"]
        command = ["curl", "-sS", "-m", "20", *names, *trust, *options, url]
        done = self.client.run(command, check=False)
        return done.stdout + done.stderr

    def condition(self, name: str = "public") -> str:
        """What the conditions of a Gateway say."""
        time.sleep(0.1)
        return self.plane.isthmus("get", "gateway", name, "-n", "edge", "-o", "yaml").partition("status:")[2]

    def until(self, wanted: Callable[[], bool], what: str) -> None:
        """Waits for what follows an apply."""
        self.client.wait_until(wanted, what, timeout_s=60)


def run_gateway(plane: ControlPlane, host: Host, group: str, *options: str) -> Process:
    """Makes the host a gateway, with the two commands that people use."""
    token = plane.isthmus("gateway", "create", group, *options).strip()
    agent = host.spawn(["isthmus", "gateway", "run", token], log=f"{host.name}-gateway.log")
    agent.wait_for_line("joined", timeout_s=60)
    return agent


def secret(name: str, pair: Pair, roots: str = "", revoked: str = "") -> str:
    """A Secret in the gateway's namespace."""
    text = f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: edge}}\n"
    text += "type: kubernetes.io/tls\nstringData:\n"
    named = {"tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": roots, "ca.crl": revoked}
    for field, pem in named.items():
        if pem:
            text += f"  {field}: |\n" + indent(pem, "    ")
    return text + "---\n"


@contextmanager
def standing(paths: pytest.TempPathFactory, name: str) -> Iterator[World]:
    """A world in a lab of this name; the VM's programs do not run yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISTHMUS_LAB_DIR", str(paths.mktemp("labs")))
        with Lab.start(name) as lab:
            yield World(lab)

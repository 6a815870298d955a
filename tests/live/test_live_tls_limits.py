"""A VM opens TLS in certain versions and ciphers, and neither it nor its callers take what was revoked."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from certificates import Outside

from isthmus.demo.vm import join
from isthmus.lab import control, namespaces
from isthmus.lab.control import ControlPlane
from isthmus.lab.host import Host
from isthmus.lab.lab import Lab

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        bool(namespaces.preflight(root=os.geteuid() == 0)), reason="this machine can run no lab"
    ),
]

CERTS = "/etc/isthmus/certs"
GOOD, REVOKED = 7, 8
"""Serial numbers."""
SUITE, OTHER_SUITE = "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"
GROUP = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: shop}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: web, namespace: shop}
spec:
  metadata: {labels: {app: web}}
  template: {serviceAccount: web}
"""
SERVER = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  mtls: {mode: PERMISSIVE}
  portLevelMtls: {8441: {mode: DISABLE}, 8442: {mode: DISABLE}, 8443: {mode: DISABLE}, 8444: {mode: DISABLE}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: web, namespace: shop}
spec:
  workloadSelector: {labels: {app: web}}
  egress: [{hosts: ["*/*"]}]
  ingress:
"""
INGRESS = """
  - port: {{number: {port}, protocol: HTTPS, name: https-{port}}}
    defaultEndpoint: 127.0.0.1:8080
    tls: {{serverCertificate: {certs}/own.pem, privateKey: {certs}/own.pem, {more}}}
"""
ROOTS = f"mode: MUTUAL, caCertificates: {CERTS}/roots.pem"
PORTS = {
    8441: "mode: SIMPLE, minProtocolVersion: TLSV1_3",
    8442: f"mode: SIMPLE, maxProtocolVersion: TLSV1_2, cipherSuites: [{SUITE}, NO-SUCH-SUITE]",
    8443: f"{ROOTS}, caCrl: {CERTS}/revoked.pem",
    8444: ROOTS,
}
CALLED = """
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: shop}}
spec:
  hosts: [{name}.test]
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints: [{{address: {address}}}]
  ports:
  - {{number: 8001, name: http-good, protocol: HTTP, targetPort: 9001}}
  - {{number: 8002, name: http-revoked, protocol: HTTP, targetPort: 9002}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: shop}}
spec:
  host: {name}.test
  trafficPolicy:
    tls: {{mode: SIMPLE, caCertificates: {certs}/roots.pem, subjectAltNames: [far.test]{more}}}
"""
PROGRAM = """
import http.server, ssl, sys, threading
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header("content-length", "5"); self.end_headers()
        self.wfile.write(b"hello")
    def log_message(self, *_): pass
for word in sys.argv[1:]:
    port, _, certificate = word.partition("=")
    server = http.server.ThreadingHTTPServer(("0.0.0.0", int(port)), Answer)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever).start()
print("listening", flush=True)
"""
CALL = """
import socket, ssl, sys
address, port, newest, ciphers, certificate = sys.argv[1:]
context = ssl.create_default_context(cafile="/srv/roots.pem")
context.maximum_version = ssl.TLSVersion[newest]
context.set_ciphers(ciphers or "DEFAULT")
if certificate: context.load_cert_chain(certificate)
try:
    with context.wrap_socket(socket.create_connection((address, port), 20), server_hostname="web.test") as c:
        c.sendall(b"GET / HTTP/1.1\\r\\nhost: web.test\\r\\nconnection: close\\r\\n\\r\\n")
        print(c.recv(4096).decode().split()[1], c.version(), c.cipher()[0])
except ConnectionRefusedError:
    print("nobody listens")
except OSError as error:
    print("refused:", error)
"""


@dataclass(slots=True)
class World:
    """A control plane, a VM, and a host outside the mesh that calls and is called."""

    plane: ControlPlane
    vm: Host
    far: Host

    def call(self, port: int, *, newest: str = "TLSv1_3", ciphers: str = "", shown: str = "") -> str:
        """What becomes of a call from outside to a port of the VM: status, version, cipher; or a refusal."""
        words = [self.vm.address, str(port), newest, ciphers, shown]
        return self.far.run([sys.executable, "-c", CALL, *words]).stdout.strip()

    def status(self, url: str) -> str:
        """What the VM gets from a server outside."""
        told = ["curl", "-s", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}", url]
        return self.vm.run(told, check=False).stdout

    def answers(self, url: str) -> str:
        """The same, when its name is known to the VM's agent."""
        self.vm.wait_until(lambda: self.status(url) != "000", f"an answer of {url}")
        return self.status(url)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    authority = Outside()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISTHMUS_LAB_DIR", str(tmp_path_factory.mktemp("labs")))
        with Lab.start("tls-limits") as lab:
            plane = control.start(lab)
            plane.apply(GROUP)
            vm, far = join(plane, lab.host("web"), "shop/web").host, lab.host("far")
            own = authority.pair("web.test")
            vm.write(f"{CERTS}/own.pem", own.key + own.certificate)
            for host, directory in ((vm, CERTS), (far, "/srv")):
                host.write(f"{directory}/roots.pem", authority.certificate)
            vm.write(f"{CERTS}/revoked.pem", authority.revoked(REVOKED))
            for name, serial in (("good", GOOD), ("revoked", REVOKED)):
                pair = authority.pair("far.test", serial=serial)
                far.write(f"/srv/{name}.pem", pair.key + pair.certificate)
            _serve(vm, "8080")
            _serve(far, "9001=/srv/good.pem", "9002=/srv/revoked.pem")
            ingress = [INGRESS.format(port=port, certs=CERTS, more=more) for port, more in PORTS.items()]
            checked = {"checked": f", caCrl: {CERTS}/revoked.pem", "unchecked": ""}
            called = [
                CALLED.format(name=name, address=far.address, certs=CERTS, more=more)
                for name, more in checked.items()
            ]
            plane.apply(SERVER + "".join(ingress) + "".join(called))
            made = World(plane, vm, far)
            far.wait_until(lambda: made.call(8441).startswith("200"), "the first answer")
            yield made


def _serve(host: Host, *words: str) -> None:
    process = host.spawn([sys.executable, "-c", PROGRAM, *words], log=f"{host.name}-program.log")
    process.wait_for_line("listening", timeout_s=60)


def test_an_older_version_than_the_least_is_refused(world: World) -> None:
    assert world.call(8441).startswith("200 TLSv1.3")
    assert "alert protocol version" in world.call(8441, newest="TLSv1_2")
    assert world.call(8444, newest="TLSv1_2", shown="/srv/good.pem").startswith("200 TLSv1.2")


def test_no_newer_version_and_no_other_cipher_than_is_said(world: World) -> None:
    assert world.call(8442) == f"200 TLSv1.2 {SUITE}"
    assert "alert handshake failure" in world.call(8442, ciphers=OTHER_SUITE)


def test_a_vm_does_not_take_the_revoked_certificate_of_a_client(world: World) -> None:
    assert world.call(8443, shown="/srv/good.pem").startswith("200")
    assert world.call(8443, shown="/srv/revoked.pem").startswith("refused")
    assert world.call(8444, shown="/srv/revoked.pem").startswith("200")


def test_a_vm_does_not_take_the_revoked_certificate_of_a_server(world: World) -> None:
    assert world.answers("http://checked.test:8001/") == "200"
    assert world.answers("http://checked.test:8002/") == "503"
    assert world.answers("http://unchecked.test:8002/") == "200"

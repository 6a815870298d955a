"""A program with gRPC's own xDS client and no proxy of its own: `xds:///…` obeys the mesh's rules."""

import itertools
import json
import os
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from isthmus.demo.vm import VM, join
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

TARGET = "xds:///echo.shop.svc.cluster.local:9090"
GROUP = """
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: NAME, namespace: shop}
spec:
  metadata: {labels: {app: APP, version: VERSION}}
  template: {serviceAccount: shop}
---
"""
WORLD = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: shop, namespace: shop}
---
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: shop}
spec:
  selector: {app: echo}
  ports: [{name: grpc, port: 9090}]
---
""" + "".join(
    GROUP.replace("NAME", name).replace("APP", app).replace("VERSION", version)
    for name, app, version in (("one", "echo", "v1"), ("two", "echo", "v2"), ("client", "client", "v1"))
)
SUBSETS = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: echo, namespace: shop}
spec:
  host: echo
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
"""
MARKER = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: marker, namespace: shop}
spec: {host: marker-NUMBER.test}
"""
_numbers = itertools.count()
# Answers with its name and the identity that its Envoy saw; a request says how many seconds to take.
SERVER = """
    import sys, time, grpc
    from concurrent.futures import ThreadPoolExecutor
    def call(request, context):
        time.sleep(float(request or 0))
        seen = dict(context.invocation_metadata()).get("x-forwarded-client-cert", "")
        return f"{sys.argv[1]} {seen}".encode()
    server = grpc.server(ThreadPoolExecutor(8))
    handlers = {"Call": grpc.unary_unary_rpc_method_handler(call)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", handlers),))
    server.add_insecure_port("[::]:9090")
    server.start()
    print("listening", flush=True)
    server.wait_for_termination()
"""
# Calls as JSON lines: {"seconds": 0, "count": 1, "headers": {}} -> [["one ", "OK", 0.002], …]
CALLER = """
    import json, sys, time, grpc, grpc.experimental
    credentials = grpc.xds_channel_credentials(grpc.experimental.insecure_channel_credentials())
    asked = json.load(sys.stdin)
    with grpc.secure_channel(sys.argv[1], credentials) as channel:
        call = channel.unary_unary("/echo.Echo/Call")
        answers = []
        for _ in range(asked.get("count", 1)):
            began, text, status = time.monotonic(), "", "OK"
            metadata = tuple(asked.get("headers", {}).items())
            try:
                request = str(asked.get("seconds", 0)).encode()
                text = call(request, timeout=20, metadata=metadata).decode()
            except grpc.RpcError as error:
                text, status = error.details(), error.code().name
            answers.append((text, status, time.monotonic() - began))
    print(json.dumps(answers))
"""


@dataclass
class Mesh:
    """Two servers and a host with a caller."""

    plane: ControlPlane
    vms: dict[str, VM]

    def call(self, target: str = TARGET, **asked: Any) -> list[tuple[str, str, float]]:
        """Calls from the client's host: what each answered, its status, its seconds."""
        client = self.vms["client"].host
        done = client.run(
            [sys.executable, "-c", textwrap.dedent(CALLER), target],
            text=json.dumps(asked),
            environment={"GRPC_XDS_BOOTSTRAP": "/run/grpc-xds.json"},
        )
        answers: list[tuple[str, str, float]] = [
            (text, status, seconds) for text, status, seconds in json.loads(done.stdout)
        ]
        return answers

    def apply(self, text: str) -> None:
        self.plane.apply(text)

    def delete(self, *names: str) -> None:
        for name in names:
            self.plane.isthmus("delete", "-n", "shop", name, "--ignore-not-found")


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISTHMUS_LAB_DIR", str(tmp_path_factory.mktemp("labs")))
        with Lab.start("grpc") as lab:
            plane = control.start(lab)
            plane.apply(WORLD, wait=False)
            vms = {}
            for name in ("one", "two", "client"):
                host = lab.host(name)
                server = host.spawn([sys.executable, "-c", textwrap.dedent(SERVER), name], log=f"{name}.log")
                server.wait_for_line("listening", timeout_s=60)
                vms[name] = join(plane, host, f"shop/{name}")
            client = vms["client"].host
            client.write("/run/grpc-xds.json", json.dumps(bootstrap(plane.host.address, client)))
            yield Mesh(plane, vms)


def bootstrap(address: str, client: Host) -> dict[str, Any]:
    """The file that gRPC reads: the control plane, who the program is, and where its certificate is."""
    node = json.loads(client.read("/var/lib/isthmus/bootstrap.json"))["node"]
    files = {
        "certificate_file": "/var/lib/isthmus/chain.pem",
        "private_key_file": "/var/lib/isthmus/key.pem",
        "ca_certificate_file": "/var/lib/isthmus/roots.pem",
    }
    watched = {"plugin_name": "file_watcher", "config": {**files, "refresh_interval": "60s"}}
    return {
        "xds_servers": [
            {
                "server_uri": f"{address}:15012",
                "channel_creds": [{"type": "tls", "config": files}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": {"id": node["id"], "metadata": {"GENERATOR": "grpc"}},
        "certificate_providers": {"default": watched},
    }


@pytest.fixture(autouse=True)
def clean(mesh: Mesh) -> Iterator[None]:
    yield
    mesh.delete("virtualservice/echo", "destinationrule/echo", "peerauthentication/strict")
    # once it is programmed, so is every deletion before it
    mesh.apply(MARKER.replace("NUMBER", str(next(_numbers))))


def rule(http: str) -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: echo, namespace: shop}}
spec:
  hosts: [echo]
  http: {http}
"""


def test_calls_reach_every_endpoint(mesh: Mesh) -> None:
    answers = mesh.call(count=40)
    assert {status for _, status, _ in answers} == {"OK"}, answers[:3]
    assert {text.split()[0] for text, _, _ in answers} == {"one", "two"}


@pytest.mark.parametrize("name", ["echo", "echo.shop", "echo.shop.svc"])
def test_short_names_are_known(mesh: Mesh, name: str) -> None:
    ((_, status, _),) = mesh.call(f"xds:///{name}:9090")
    assert status == "OK"


def test_weights(mesh: Mesh) -> None:
    one, two = "{destination: {host: echo, subset: v1}", "{destination: {host: echo, subset: v2}"
    mesh.apply(SUBSETS + rule(f"[{{route: [{one}, weight: 80}}, {two}, weight: 20}}]}}]"))
    count = Counter(text.split()[0] for text, _, _ in mesh.call(count=300))
    # of 300, 240 ± 6 standard deviations
    assert 198 <= count["one"] <= 282, count


def test_match_of_metadata(mesh: Mesh) -> None:
    to_two = (
        "{match: [{headers: {x-user: {exact: jason}}}], route: [{destination: {host: echo, subset: v2}}]}"
    )
    mesh.apply(SUBSETS + rule(f"[{to_two}, {{route: [{{destination: {{host: echo, subset: v1}}}}]}}]"))
    assert {text.split()[0] for text, _, _ in mesh.call(count=5, headers={"x-user": "jason"})} == {"two"}
    assert {text.split()[0] for text, _, _ in mesh.call(count=5)} == {"one"}


def test_faults(mesh: Mesh) -> None:
    abort = "{abort: {grpcStatus: RESOURCE_EXHAUSTED, percentage: {value: 100}}}"
    mesh.apply(rule(f"[{{fault: {abort}, route: [{{destination: {{host: echo}}}}]}}]"))
    ((_, status, _),) = mesh.call()
    assert status == "RESOURCE_EXHAUSTED"
    delay = "{delay: {fixedDelay: 0.6s, percentage: {value: 100}}}"
    mesh.apply(rule(f"[{{fault: {delay}, route: [{{destination: {{host: echo}}}}]}}]"))
    ((_, status, seconds),) = mesh.call()
    assert status == "OK"
    assert 0.55 <= seconds < 15


def test_a_fault_for_some(mesh: Mesh) -> None:
    abort = "{abort: {grpcStatus: RESOURCE_EXHAUSTED, percentage: {value: 30}}}"
    mesh.apply(rule(f"[{{fault: {abort}, route: [{{destination: {{host: echo}}}}]}}]"))
    count = Counter(status for _, status, _ in mesh.call(count=400))
    assert count.keys() == {"OK", "RESOURCE_EXHAUSTED"}, count
    # of 400, 120 ± 6 standard deviations
    assert 65 <= count["RESOURCE_EXHAUSTED"] <= 175, count


def test_timeout(mesh: Mesh) -> None:
    spent = {}
    for allowed in (2, 6):
        mesh.apply(rule(f"[{{timeout: {allowed}s, route: [{{destination: {{host: echo}}}}]}}]"))
        ((text, status, spent[allowed]),) = mesh.call(seconds=9)
        assert status == "DEADLINE_EXCEEDED", text
    # gRPC counts the age of a call in processor cycles, which in virtual machines can be seconds too much
    assert spent[2] + 1 < spent[6] < 9, spent
    ((_, status, _),) = mesh.call(seconds=0)
    assert status == "OK"


STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: shop}
spec: {mtls: {mode: STRICT}}
---
"""


def test_mutual_tls_when_the_rule_says_so(mesh: Mesh) -> None:
    mesh.apply(STRICT)
    ((_, status, _),) = mesh.call()
    assert status == "UNAVAILABLE", "plaintext was taken under STRICT"
    mesh.apply(
        """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: echo, namespace: shop}
spec: {host: echo, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
"""
    )
    ((text, status, _),) = mesh.call()
    assert status == "OK", text
    assert "URI=spiffe://cluster.local/ns/shop/sa/shop" in text


def test_mutual_tls_with_somebody_else_is_no_answer(mesh: Mesh) -> None:
    def named(account: str) -> str:
        name = f"spiffe://cluster.local/ns/shop/sa/{account}"
        return f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: echo, namespace: shop}}
spec: {{host: echo, trafficPolicy: {{tls: {{mode: ISTIO_MUTUAL, subjectAltNames: ["{name}"]}}}}}}
"""

    mesh.apply(STRICT + named("somebody-else"))
    ((text, status, _),) = mesh.call()
    assert status == "UNAVAILABLE", text
    assert "did not match" in text, text
    mesh.apply(named("shop"))
    ((text, status, _),) = mesh.call()
    assert status == "OK", text


def test_rules_reach_a_program_that_runs(mesh: Mesh) -> None:
    """One channel for all: its watches are updated, not only its first answers."""
    watching = """
        import sys, time, grpc, grpc.experimental
        credentials = grpc.xds_channel_credentials(grpc.experimental.insecure_channel_credentials())
        with grpc.secure_channel(sys.argv[1], credentials) as channel:
            call = channel.unary_unary("/echo.Echo/Call")
            print("reached", call(b"0", timeout=10).decode(), flush=True)
            while True:
                time.sleep(0.05)
                try:
                    call(b"0", timeout=10)
                except grpc.RpcError as error:
                    print("refused", error.code().name, flush=True)
                    break
    """
    program = mesh.vms["client"].host.spawn(
        [sys.executable, "-c", textwrap.dedent(watching), TARGET],
        log="watching.log",
        environment={"GRPC_XDS_BOOTSTRAP": "/run/grpc-xds.json"},
    )
    program.wait_for_line("reached", timeout_s=60)
    abort = "{abort: {grpcStatus: FAILED_PRECONDITION, percentage: {value: 100}}}"
    mesh.apply(rule(f"[{{fault: {abort}, route: [{{destination: {{host: echo}}}}]}}]"))
    assert program.wait_for_line("refused", timeout_s=60) == "refused FAILED_PRECONDITION"


def test_the_sidecar_of_the_same_host_stays_programmed(mesh: Mesh) -> None:
    """What a program asks and refuses says nothing about proxies: rules are programmed without it."""
    assert mesh.call(count=3)
    said = mesh.plane.apply(SUBSETS)
    assert "programmed" in said.lower()

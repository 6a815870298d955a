"""`isthmus serve` as people run it: one process on loopback, its ready line, its kubeconfig, its end."""

import json
import socket
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest

from whole_server import ISTHMUS, KUBECONFIG, serving

MESH = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {selector: {app: db}, ports: [{name: tcp, port: 3306}]}
"""
LOST = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: lost, namespace: shop}
spec:
  hosts: [nowhere]
  http: [{route: [{destination: {host: nowhere}}]}]
"""


def isthmus(state: Path, *arguments: str, text: str | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(ISTHMUS), *arguments, "--kubeconfig", str(state / KUBECONFIG)],
        input=text,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.timeout(300)
def test_a_control_plane_serves_ends_and_remembers(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with serving(state) as line:
        assert line.startswith("ready in "), (tmp_path / "serve.log").read_text()
        assert state.stat().st_mode & 0o777 == 0o700
        assert (state / KUBECONFIG).stat().st_mode & 0o777 == 0o600
        assert isthmus(state, "apply", "-f", "-", "--wait", text=MESH).returncode == 0
        before = isthmus(state, "get", "svc", "db", "-n", "shop", "-o", "json").stdout
        second = subprocess.run(
            [str(ISTHMUS), "serve", "--state-dir", str(state)],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert (second.returncode, "another control plane" in second.stderr) == (1, True)
    with serving(state):
        # the ports are others now; the same file leads there, with the same token
        after = isthmus(state, "get", "svc", "db", "-n", "shop", "-o", "json").stdout
        assert '"clusterIP": "240.240.' in before
        assert before.splitlines()[:1] == after.splitlines()[:1]
        assert [line for line in before.splitlines() if "clusterIP" in line] == [
            line for line in after.splitlines() if "clusterIP" in line
        ]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("option", "bind"), [("--api-port", "127.0.0.1"), ("--ads-port", "::"), ("--probe-port", "::")]
)
def test_a_taken_port_is_named_and_nothing_else_is_said(tmp_path: Path, option: str, bind: str) -> None:
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    with socket.create_server((bind, 0), family=family, dualstack_ipv6=bind == "::") as taken:
        port = taken.getsockname()[1]
        ports = {"--api-port": 0, "--ads-port": 0, "--probe-port": 0, option: port}
        told = [word for name, number in ports.items() for word in (name, str(number))]
        command = [str(ISTHMUS), "serve", "--state-dir", str(tmp_path), "--bind", bind, *told]
        refused = subprocess.run(
            [*command, "--advertise", "127.0.0.1"], capture_output=True, text=True, timeout=50, check=False
        )
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == (
        f"Error: cannot listen on port {port} of {bind} ({option}): Address already in use; stop what "
        f"listens there (`ss -ltnp sport = :{port}` names it), or choose another port with {option}\n"
    )


@pytest.mark.timeout(300)
def test_a_rule_to_nowhere_is_taken_with_a_warning_and_a_condition(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with serving(state):
        isthmus(state, "apply", "-f", "-", text=MESH)
        for dry in (["--dry-run"], []):
            applied = isthmus(state, "apply", "-f", "-", *dry, text=LOST)
            assert applied.returncode == 0
            assert "nowhere.shop.svc.cluster.local" in applied.stdout + applied.stderr
        assert isthmus(state, "apply", "-f", "-", "--wait", text=LOST).returncode == 0
        said = isthmus(state, "get", "vs", "lost", "-n", "shop", "-o", "yaml").stdout
        resolved = said[said.index("type: Resolved") :]
        assert "'False'" in resolved.splitlines()[1]
        assert "no service has the host nowhere.shop.svc.cluster.local" in resolved


ENROLLED = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: db-10.0.0.5, namespace: shop, annotations: {isthmus.dev/enrolled-at: "2026-01-01T00:00:00Z"}}
spec: {address: 10.0.0.5, labels: {app: db}}
"""


@pytest.mark.timeout(300)
def test_after_a_start_a_vm_that_enrolled_is_waited_for_a_while(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with serving(state):
        assert isthmus(state, "apply", "-f", "-", text=f"{MESH}---{ENROLLED}").returncode == 0
    began = int(time.time())
    with serving(state):
        assert isthmus(state, "apply", "-f", "-", "--wait", "--timeout", "15s", text=LOST).returncode == 0
        found = json.loads(isthmus(state, "get", "vs", "lost", "-n", "shop", "-o", "json").stdout)
        (told,) = [one for one in found["status"]["conditions"] if one["type"] == "Programmed"]
    assert (told["status"], told["reason"]) == ("True", "NoProxies")
    assert datetime.fromisoformat(told["lastTransitionTime"]).timestamp() >= began + 5

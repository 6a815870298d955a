"""Stock kubectl at a whole control plane: what it finds out about objects is told by itself."""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kubectl_binary import SUITES_BY_VERSION, Unavailable, kubectl

from whole_server import KUBECONFIG, serving

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(300)]

LOST = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: lost, namespace: default}
spec:
  hosts: [nowhere]
  http: [{route: [{destination: {host: nowhere}}]}]
"""
DEADLINE_S = 60.0

Run = Callable[..., str]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state directory of a control plane that runs."""
    found = tmp_path_factory.mktemp("whole") / "state"
    with serving(found) as line:
        assert line.startswith("ready in "), (found.parent / "serve.log").read_text()
        yield found


@pytest.fixture(params=SUITES_BY_VERSION)
def run(request: pytest.FixtureRequest, state: Path, tmp_path: Path) -> Run:
    """kubectl, which must succeed; what it printed."""
    try:
        binary = kubectl(request.param)
    except Unavailable as error:
        pytest.skip(f"kubectl {request.param} CANNOT BE TESTED HERE: {error}")
    environment = {"HOME": str(tmp_path), "KUBECONFIG": str(state / KUBECONFIG), "PATH": os.environ["PATH"]}

    def done(*args: str, stdin: str | None = None) -> str:
        finished = subprocess.run(
            [str(binary), *args],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=90,
            check=False,
            env=environment,
        )
        assert finished.returncode == 0, (args, finished.stdout)
        return finished.stdout

    return done


def until(text: Callable[[], str], pattern: str) -> str:
    """What is told once it matches."""
    deadline = time.monotonic() + DEADLINE_S
    while not re.search(pattern, found := text()):
        assert time.monotonic() < deadline, found
    return found


def test_a_rule_to_nowhere(run: Run) -> None:
    run("delete", "vs,events", "--all")
    run("apply", "-f", "-", stdin=LOST)
    met = "virtualservice.networking.istio.io/lost condition met\n"
    assert run("wait", "vs/lost", "--for=condition=Programmed", "--timeout=60s") == met
    assert run("wait", "vs/lost", "--for=condition=Resolved=false", "--timeout=60s") == met
    row = r"Warning\s+\w+\s.*no service has the host nowhere\.default\.svc\.cluster\.local"
    told = until(lambda: run("describe", "vs", "lost").partition("Events:")[2], row)
    assert told.splitlines()[1].split() == ["Type", "Reason", "Age", "From", "Message"]
    assert re.search(r"Warning\s+\w+\s+VirtualService/lost\s+.*no service has the host", run("events"))
    assert "no service has the host" in run("events", "--for", "vs/lost", "--types=Warning")


@pytest.mark.parametrize(
    "status",
    ["null", '{"conditions":[{"type":"Resolved","status":"True","reason":"Resolved"}]}'],
    ids=["wiped", "forged"],
)
def test_conditions_that_a_client_spoilt_come_back(run: Run, status: str) -> None:
    run("apply", "-f", "-", stdin=LOST)
    run("wait", "vs/lost", "--for=condition=Resolved=false", "--timeout=60s")
    patch = f'{{"status":{status}}}'
    run("patch", "vs/lost", "--subresource=status", "--type=merge", "-p", patch)
    run("wait", "vs/lost", "--for=condition=Programmed", "--timeout=60s")
    run("wait", "vs/lost", "--for=condition=Resolved=false", "--timeout=60s")

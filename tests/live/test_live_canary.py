"""What only Envoy can refuse is refused by the control plane's own Envoy: no VM ever sees it."""

import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from isthmus.demo.vm import VM, join
from isthmus.lab import control, namespaces
from isthmus.lab.lab import Lab

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        bool(namespaces.preflight(root=os.geteuid() == 0)), reason="this machine can run no lab"
    ),
]

GROUP = """
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: NAME, namespace: shop}
spec:
  metadata: {labels: {app: NAME}}
  template: {serviceAccount: NAME}
---
"""
SHOP = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
""" + "".join(GROUP.replace("NAME", name) for name in ("web", "client"))
RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: web, namespace: shop}}
spec:
  hosts: [web]
  http:
  - match: [{{uri: {{regex: "{pattern}"}}}}]
    directResponse: {{status: 200, body: {{string: {word}}}}}
  - route: [{{destination: {{host: web}}}}]
"""
OTHER = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: other, namespace: shop}
spec: {hosts: [other.test], resolution: DNS, ports: [{number: 81, name: http, protocol: HTTP}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: other, namespace: shop}
spec: {hosts: [other.test], http: [{directResponse: {status: 200, body: {string: other}}}]}
"""
GOOD = "/said"
ONLY_ENVOY_KNOWS = "/said|(abcdefghijklmnopqrstuvwxyz0123456789){1000}"
"""As a program it has more than the 32,768 instructions that Envoy may take."""


class World:
    """A control plane with its canary, a VM that serves and a VM that calls."""

    def __init__(self, lab: Lab) -> None:
        self.plane = control.start(lab)
        self.plane.host.wait_until(lambda: len(self.canaries()) == 1, "the canary", timeout_s=60)
        self.plane.apply(SHOP)
        self.vms = {name: join(self.plane, lab.host(name), f"shop/{name}") for name in ("web", "client")}
        host = self.vms["web"].host
        host.write("/srv/index.html", "the page\n")
        server = host.spawn(
            [*host.python("http.server"), "--bind", "0.0.0.0", "--directory", "/srv", "8080"], log="web.log"
        )
        host.wait_until(lambda: "1F90" in host.read("/proc/net/tcp"), "port 8080")
        assert server.returncode is None

    @property
    def caller(self) -> VM:
        """The VM that calls."""
        return self.vms["client"]

    def said(self, path: str) -> str:
        """What the client gets from the other VM."""
        return self.asked(f"web.shop{path}")

    def asked(self, url: str) -> str:
        """What the client gets from anybody."""
        command = ["curl", "-sS", "-m", "20", f"http://{url}"]
        done = self.caller.host.run(command, check=False)
        return done.stdout + done.stderr

    def programmed(self) -> dict[str, Any]:
        """The condition of the rule."""
        text = self.plane.isthmus("get", "vs", "web", "-n", "shop", "-o", "json")
        held = json.loads(text).get("status", {}).get("conditions", ())
        return next((dict(each) for each in held if each["type"] == "Programmed"), {})

    def until_programmed(self, status: str) -> dict[str, Any]:
        """The condition, once it has this status."""
        self.caller.host.wait_until(
            lambda: self.programmed().get("status") == status, f"Programmed={status}", timeout_s=60
        )
        return self.programmed()

    def restart(self) -> None:
        """Kills the control plane and starts it again, until the Envoy of every VM is back at it."""
        self.plane.kill()
        self.plane.restart()
        streams = [f"stream opened node=sidecar~{vm.host.address}~" for vm in self.vms.values()]
        self.plane.host.wait_until(
            lambda: all(each in self.plane.process.output() for each in streams), "all proxies"
        )

    def canaries(self) -> list[str]:
        """The pids of all canaries that came up, as the control plane's host counts."""
        return re.findall(r"canary live.* pid=(\d+)", self.plane.process.output())

    def refusals(self) -> dict[str, int]:
        """What the Envoys of the VMs have ever refused."""
        return {
            f"{name} {each['name']}": each["value"]
            for name, vm in self.vms.items()
            for each in vm.envoy("/stats?format=json&filter=update_rejected")["stats"]
            if each.get("value")
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISTHMUS_LAB_DIR", str(tmp_path_factory.mktemp("labs")))
        with Lab.start("canary") as lab:
            yield World(lab)


NEIGHBOUR = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: near, namespace: shop}
spec: {hosts: [near.test], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: near, namespace: shop}
spec: {hosts: [near.test], http: [{directResponse: {status: 200, body: {string: WORD}}}]}
"""


def rule(pattern: str, word: str) -> str:
    """A rule that answers `word` itself on paths of this pattern."""
    return RULE.format(pattern=pattern, word=word)


def test_a_refusal_never_reaches_a_vm(world: World) -> None:
    world.plane.apply(rule(GOOD, "first"))
    assert world.said("/said") == "first"
    world.plane.apply(rule(ONLY_ENVOY_KNOWS, "second"), wait=False)
    told = world.until_programmed("False")
    assert told["reason"] == "Rejected"
    assert "the canary refused" in told["message"]
    assert "RE2 program size" in told["message"]
    assert "max program size of 32768" in told["message"]
    assert world.said("/said") == "first"
    assert world.said("/") == "the page\n"
    assert "because of this object alone (what stood before stays)" in told["message"]
    # what is in the same table arrives, though the rule that was refused has not been mended
    for word in ("near", "nearer"):
        world.plane.apply(NEIGHBOUR.replace("WORD", word))
        assert world.asked("near.test/") == word
    assert world.said("/said") == "first"
    assert world.programmed()["status"] == "False"
    # nor does a restart take what stood before away, or hold the neighbours up
    world.restart()
    world.plane.apply(NEIGHBOUR.replace("WORD", "nearest"))
    assert world.asked("near.test/") == "nearest"
    assert world.said("/said") == "first"
    assert world.until_programmed("False")["reason"] == "Rejected"
    # and what is in another
    world.plane.apply(OTHER, wait=False)
    world.caller.host.wait_until(lambda: world.asked("other.test:81/") == "other", "the other rule")
    assert world.refusals() == {}
    world.plane.apply(rule(GOOD, "third"))
    assert world.until_programmed("True")["reason"] == "Programmed"
    assert world.said("/said") == "third"
    assert world.refusals() == {}


def test_a_canary_that_is_killed_is_started_again_and_nothing_waits_for_it(world: World) -> None:
    world.plane.apply(rule(GOOD, "before"))
    # another test may just have restarted the control plane, and the canary with it
    world.plane.host.wait_until(lambda: bool(world.canaries()), "a canary")
    born = len(world.canaries())
    world.plane.host.run(["kill", "-9", world.canaries()[-1]])
    world.plane.apply(rule(GOOD, "meanwhile"))
    assert world.said("/said") == "meanwhile"
    world.plane.host.wait_until(lambda: len(world.canaries()) > born, "the next canary", timeout_s=60)
    world.plane.apply(rule(ONLY_ENVOY_KNOWS, "after"), wait=False)
    assert "the canary refused" in world.until_programmed("False")["message"]
    assert world.said("/said") == "meanwhile"
    world.plane.apply(rule(GOOD, "after"))
    assert world.said("/said") == "after"
    assert world.refusals() == {}

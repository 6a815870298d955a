"""A VM that boots while the control plane is away: in the mesh as it was, by the same rules, or closed."""

import json
import os
from collections.abc import Iterator

import pytest
from vms import Held, agent_says, await_kept, http, kept, member, tcp

from isthmus.demo.vm import VM
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

MESH = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: db, namespace: shop}
spec: {metadata: {labels: {app: db}}, template: {serviceAccount: db}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: web, namespace: shop}
spec: {metadata: {labels: {app: web}}, template: {serviceAccount: web}}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {selector: {app: db}, ports: [{name: http, port: 8080}, {name: tcp, port: 7000}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 8080}]}
"""
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
"""
DENIED = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: db, namespace: shop}
spec:
  selector: {matchLabels: {app: db}}
  action: DENY
  rules: [{to: [{operation: {ports: ["8080"], paths: ["/STEP"]}}]}]
"""
RULE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web]
  http: [{route: [{destination: {host: web}}], headers: {response: {set: {x-rule: STEP}}}}]
"""
DB, WEB = "db.shop", "web.shop"


class World:
    """A control plane, the VM that is switched off, one that stays up, and a host outside the mesh."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.plane = lab, control.start(lab)
        self.plane.apply(MESH)
        self.db = member(lab, self.plane, "db", "shop/db")
        self.web = member(lab, self.plane, "web", "shop/web")
        self.outside = lab.host("outside")
        assert tcp(self.outside, self.db.host.address)["said"] == "db"
        self.plane.apply(STRICT)

    def boots(self) -> None:
        """The VM is switched on."""
        self.db.start_agent()
        agent_says(self.db, " joined ")

    def obeys(self, step: str) -> None:
        """Both ways, as before it was switched off."""
        web, db = self.web.host, self.db.host
        # its callers may hold connections of the machine that was
        web.wait_until(lambda: http(web, DB).get("status") == 200, "an answer")
        assert http(web, DB) == {"status": 200, "rule": None, "said": "db"}
        assert http(web, DB, f"/{step}")["status"] == 403
        assert tcp(web, DB)["said"] == "db"
        for address in db.record.addresses:
            assert "error" in http(self.outside, address)
            assert tcp(self.outside, address).get("said", "") == ""
        assert http(db, WEB) == {"status": 200, "rule": step, "said": "web"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISTHMUS_LAB_DIR", str(tmp_path_factory.mktemp("labs")))
        with Lab.start("reboot") as lab:
            yield World(lab)


def test_a_vm_boots_without_control_plane_and_goes_on_with_it(world: World) -> None:
    _follows(world, "first")
    await_kept(world.db, '"/first"')
    capture = _capture(world.db.host)
    world.plane.kill()
    world.db.power_off()
    world.boots()
    assert "last good configuration used" in world.db.agent.output()
    assert _asks(world.db) == "sds-grpc"
    assert _capture(world.db.host) == capture
    world.obeys("first")

    inward, outward = Held(world.web.host, DB), Held(world.db.host, DB)
    try:
        had = _taken(world.db)
        world.plane.restart()
        stream = f"stream opened node=sidecar~{world.db.host.address}~"
        world.plane.host.wait_until(lambda: stream in world.plane.process.output(), stream)
        assert (inward.says("still"), outward.says("here")) == ("STILL", "HERE")
        assert _taken(world.db) == had
        world.obeys("first")
        # from here on it follows again, also when its agent is killed and comes back
        world.plane.apply(RULE.replace("STEP", "second"))
        assert http(world.db.host, WEB)["rule"] == "second"
        world.db.kill_agent()
        world.db.start_agent()
        agent_says(world.db, " joined ")
        _follows(world, "third")
        assert (inward.says("again"), outward.says("there")) == ("AGAIN", "THERE")
    finally:
        inward.close()
        outward.close()
    # with a control plane it starts as ever: the agent is not asked for configuration
    world.db.power_off()
    world.boots()
    assert "last good configuration" not in world.db.agent.output()
    assert _asks(world.db) == "xds-grpc"
    _follows(world, "fourth")


def test_an_envoy_that_dies_without_control_plane_comes_back(world: World) -> None:
    _follows(world, "before")
    await_kept(world.db, '"/before"')
    world.plane.kill()
    agent_says(world.db, "control plane away")
    world.db.host.run(["kill", "-9", str(world.db.envoy_pid())])
    agent_says(world.db, "last good configuration used")
    world.db.host.wait_until(lambda: http(world.web.host, DB).get("status") == 200, "traffic again")
    world.obeys("before")
    world.plane.restart()
    _follows(world, "after")


def test_a_vm_that_was_taken_out_has_nothing_to_come_back_with(world: World) -> None:
    gone = member(world.lab, world.plane, "gone", "shop/db")
    await_kept(gone)
    world.plane.isthmus("delete", "we", f"db-{gone.host.address}", "-n", "shop")
    gone.host.wait_until(lambda: kept(gone) == "", "nothing is kept", timeout_s=60)
    world.plane.kill()
    gone.power_off()
    gone.start_agent()
    agent_says(gone, "declared ports are closed")
    assert "last good configuration" not in gone.agent.output()
    assert http(world.web.host, gone.host.address).get("error") == "ConnectionRefusedError"
    world.plane.restart()
    gone.host.run(["isthmus", "leave"])


def test_what_was_kept_is_good_for_as_long_as_the_certificate(world: World) -> None:
    world.plane.apply(
        MESH.partition("---")[0]
        + """---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: brief, namespace: shop, annotations: {isthmus.dev/certificate-ttl: 20s}}
spec: {metadata: {labels: {app: db}}, template: {serviceAccount: db}}
"""
    )
    brief = member(world.lab, world.plane, "brief", "shop/brief")
    await_kept(brief)
    world.plane.kill()
    brief.power_off()
    brief.host.wait_until(lambda: _ended(brief.host), "the end of the certificate", timeout_s=60)
    brief.start_agent()
    agent_says(brief, "last good configuration not used reason=the certificate ended")
    agent_says(brief, "declared ports are closed")
    assert http(world.web.host, brief.host.address).get("error") == "ConnectionRefusedError"
    # the control plane is back: the certificate is renewed late, and everything is as before
    world.plane.restart()
    agent_says(brief, "certificate renewed")
    brief.host.wait_until(
        lambda: http(world.web.host, brief.host.address).get("error") != "ConnectionRefusedError", "listeners"
    )
    brief.host.run(["isthmus", "leave"])


def _follows(world: World, step: str) -> None:
    """Rules that change now are obeyed by the VM, as a caller and as a server."""
    world.plane.apply(RULE.replace("STEP", step))
    world.db.host.wait_until(lambda: http(world.db.host, WEB).get("rule") == step, f"rule {step}")
    # the last one: what is kept then holds the other as well
    world.plane.apply(DENIED.replace("STEP", step))
    world.db.host.wait_until(
        lambda: http(world.web.host, DB, f"/{step}").get("status") == 403, f"deny {step}"
    )


def _taken(vm: VM) -> str:
    """How often Envoy has changed, added or removed anything."""
    command = ["curl", "-sS", "--unix-socket", "/run/isthmus/envoy/admin.sock"]
    names = "(cluster|listener)_(added|modified|in_place_updated|removed)$|rds..*.config_reload$"
    return vm.host.run([*command, "-G", "--data-urlencode", f"filter={names}", "http://e/stats"]).stdout


def _asks(vm: VM) -> str:
    """The cluster that Envoy was started to ask for its configuration."""
    (service,) = json.loads(vm.host.read("/run/isthmus/bootstrap.json"))["dynamic_resources"]["ads_config"][
        "grpc_services"
    ]
    return str(service["envoy_grpc"]["cluster_name"])


def _capture(host: Host) -> str:
    return host.run(["nft", "list", "table", "inet", "isthmus"]).stdout


def _ended(host: Host) -> bool:
    command = ["openssl", "x509", "-checkend", "0", "-noout", "-in", "/var/lib/isthmus/chain.pem"]
    return host.run(command, check=False).returncode != 0

"""VMs that were off for longer than their certificates live: they renew late and serve, or are told why."""

import os
import sys
from collections.abc import Iterator

import pytest
from vms import agent_says, http, member

from isthmus.demo.vm import STATE, VM
from isthmus.lab import control, namespaces
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
metadata: {name: web, namespace: shop, annotations: {isthmus.dev/certificate-ttl: 20s}}
spec: {metadata: {labels: {app: web}}, template: {serviceAccount: web}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: caller, namespace: shop}
spec: {metadata: {labels: {app: caller}}, template: {serviceAccount: caller}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: caller, namespace: shop}
spec: {selector: {app: caller}, ports: [{name: http, port: 8080}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
"""
AGAIN = "join again: isthmus leave, then isthmus join with a new token"
OLD = f"""
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from isthmus.identity import keys
ca = Path("{control.STATE}/ca")
issuer = x509.load_pem_x509_certificate((ca / "ca-cert.pem").read_bytes())
key, began = keys.new_key(), datetime.now(UTC) - timedelta(days=8)
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, sys.argv[1])])
uri = x509.UniformResourceIdentifier("spiffe://cluster.local/ns/shop/sa/web")
leaf = (
    x509.CertificateBuilder().subject_name(name).issuer_name(issuer.subject).serial_number(7)
    .public_key(key.public_key()).not_valid_before(began).not_valid_after(began + timedelta(hours=1))
    .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
    .sign(keys.load_key(ca / "ca-key.pem"), hashes.SHA256())
)
print(keys.key_pem(key).decode() + "|" + leaf.public_bytes(serialization.Encoding.PEM).decode())
"""
"""Key and certificate of a workload, as they were issued eight days ago for an hour."""


class World:
    """A control plane, a VM that calls, and VMs with brief certificates."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.plane = lab, control.start(lab)
        self.plane.apply(MESH)
        self.caller = member(lab, self.plane, "caller", "shop/caller")

    def off_for_long(self, name: str) -> VM:
        """A VM that joined, and is off since before its certificate ended."""
        vm = member(self.lab, self.plane, name, "shop/web")
        vm.power_off()
        command = ["openssl", "x509", "-checkend", "0", "-noout", "-in", f"{STATE}/chain.pem"]
        vm.host.wait_until(
            lambda: vm.host.run(command, check=False).returncode != 0,
            "the end of the certificate",
            timeout_s=60,
        )
        return vm

    def leave(self, vm: VM) -> None:
        vm.host.run(["isthmus", "leave"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISTHMUS_LAB_DIR", str(tmp_path_factory.mktemp("labs")))
        with Lab.start("late") as lab:
            yield World(lab)


def test_a_vm_that_was_off_for_long_renews_late_and_is_in_the_mesh(world: World) -> None:
    vm = world.off_for_long("one")
    vm.start_agent()
    agent_says(vm, "certificate renewed until=")
    assert f"certificate renewed late entry=WorkloadEntry/shop/web-{vm.host.address}" in _log(world)
    caller = world.caller.host
    caller.wait_until(lambda: http(caller, "web.shop").get("said") == "one", "an answer", timeout_s=60)
    vm.host.wait_until(
        lambda: http(vm.host, "caller.shop").get("said") == "caller", "an answer", timeout_s=60
    )
    world.leave(vm)


def test_a_vm_whose_entry_was_deleted_is_told_so(world: World) -> None:
    vm = world.off_for_long("two")
    entry = f"web-{vm.host.address}"
    world.plane.isthmus("delete", "we", entry, "-n", "shop")
    vm.start_agent()
    agent_says(vm, f"refused: workload shop/{entry} is not registered (left?)")
    assert AGAIN in vm.agent.output()
    assert "certificate renewed" not in vm.agent.output()
    assert "error" in http(world.caller.host, vm.host.address)
    world.leave(vm)


def test_a_vm_that_was_away_for_more_than_a_week_is_told_so(world: World) -> None:
    vm = world.off_for_long("three")
    command = [sys.executable, "-c", OLD, f"web-{vm.host.address}"]
    key, chain = world.plane.host.run(command).stdout.split("|")
    vm.host.write(f"{STATE}/key.pem", key, mode=0o600)
    vm.host.write(f"{STATE}/chain.pem", chain, mode=0o600)
    vm.start_agent()
    agent_says(vm, "more than 7 days ago")
    assert AGAIN in vm.agent.output()
    assert "certificate renewed" not in vm.agent.output()
    world.leave(vm)


def _log(world: World) -> str:
    return world.plane.process.output()

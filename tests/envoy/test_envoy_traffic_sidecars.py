"""Real connections where Sidecars, the mesh's settings and first bytes decide."""

import json
from pathlib import Path

import pytest
import test_envoy_traffic as traffic
from real_network import VM_V4, possible

from makers import service

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.live,
    pytest.mark.skipif(not possible(), reason="needs root, ip, nft, nsenter, setpriv"),
]

UNNAMED = "".join(
    (
        service("any", 4000, vip="240.240.1.1", port_name="x").replace("4000}", "4000, targetPort: 9080}"),
        service("anydb", 4001, vip="240.240.1.2", port_name="y").replace("4001}", "4001, targetPort: 3306}"),
        "".join(
            "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n"
            f"metadata: {{name: w-{app}, namespace: bookinfo}}\n"
            f"spec: {{address: {VM_V4}, labels: {{app: {app}}}, serviceAccount: vm}}\n"
            for app in ("any", "anydb")
        ),
    )
)
REGISTRY_ONLY = """
apiVersion: isthmus.dev/v1alpha1
kind: MeshConfig
metadata: {name: default, namespace: isthmus-system}
spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}}
"""
SIDECAR = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: vm, namespace: bookinfo}
spec:
  workloadSelector: {labels: {app: vm}}
  ingress:
  - {port: {number: 9080, protocol: HTTP, name: http}, defaultEndpoint: "127.0.0.1:9081"}
  - {port: {number: 9090, protocol: HTTP, name: open}, defaultEndpoint: "127.0.0.1:9080", captureMode: NONE}
  egress:
  - hosts: ["./web.bookinfo.svc.cluster.local"]
"""


async def test_ports_that_nobody_named(tmp_path: Path) -> None:
    async with traffic._vm(tmp_path, UNNAMED) as (vm, _, _, _):
        # plaintext HTTP is found out, and follows routes by host
        status, body, _, _ = await traffic._get(vm, "240.240.1.1", "whatever", port=4000)
        assert (status, json.loads(body)["line"]) == (200, "GET /any HTTP/1.1")
        assert "x-forwarded-client-cert" in json.loads(body)["headers"]
        again = [await traffic._get(vm, "240.240.1.1", "whatever", port=4000) for _ in range(5)]
        assert min(took for *_, took in again) < 0.5
        # a server that speaks first is waited for once, then carried as bytes
        assert await traffic.promptly(vm, "240.240.1.2", 4001, 0.5) == "HELLO 3306\n"


async def test_undeclared_hosts_are_refused(tmp_path: Path) -> None:
    async with traffic._vm(tmp_path, REGISTRY_ONLY) as (vm, _, _, _):
        assert (await traffic._get(vm, "240.240.0.1", "web.bookinfo"))[0] == 200
        assert (await traffic._get(vm, "240.240.0.1", "elsewhere.example"))[0] == 502


async def test_a_sidecar_says_what_is_served_and_called(tmp_path: Path) -> None:
    async with traffic._vm(tmp_path, SIDECAR) as (vm, outside, _, _):
        for port, behind in ((9080, 9081), (9090, 9080)):
            status, body, _, _ = await traffic._get(outside, VM_V4, "x", port=port)
            assert (status, json.loads(body)["port"]) == (200, behind)
        # what it does not name is let in as it comes
        assert (await traffic._talk(outside, VM_V4, 3306))[0] == "HELLO 3306\n"
        # and what it does not let the VM call leads nowhere
        assert (await traffic._get(vm, "240.240.0.1", "web.bookinfo"))[0] == 200
        assert (await traffic._talk(vm, "240.240.0.2", 3306))[0] == ""

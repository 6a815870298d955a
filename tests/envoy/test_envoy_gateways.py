"""What a gateway holds depends on what is said, not on who said it first, nor on what others say."""

import random
from pathlib import Path

import pytest
from golden import CASES

from isthmus.envoy.resource import CLUSTER, ENDPOINTS, HOST, LISTENER, ROUTES, SECRET
from makers import World

GATEWAYS = [case for case in CASES if case.name.startswith("gateway")]
TYPES = (CLUSTER, ENDPOINTS, SECRET, LISTENER, ROUTES, HOST)
UNRELATED = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: unrelated, namespace: elsewhere}
spec:
  selector: {istio: nobody}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: unrelated, namespace: elsewhere}
spec:
  hosts: ["*"]
  gateways: [unrelated]
  http: [{route: [{destination: {host: nowhere}}]}]
"""


def versions(case: Path, documents: list[str]) -> dict[str, dict[str, str]]:
    said = (case / "in.yaml").read_text(encoding="utf-8").partition("# proxy: ")[2].splitlines()[0]
    namespace, workload = said.split("/")
    world = World()
    for document in documents:
        world.apply(document)
    return {
        type_url: {name: made.version for name, made in world.manifest(type_url, namespace, workload).items()}
        for type_url in TYPES
    }


@pytest.mark.parametrize("case", GATEWAYS, ids=lambda case: case.name)
def test_neither_order_nor_strangers_matter(case: Path) -> None:
    documents = (case / "in.yaml").read_text(encoding="utf-8").split("\n---\n")
    wanted = versions(case, documents)
    for seed in range(5):
        shuffled = list(documents)
        random.Random(seed).shuffle(shuffled)
        assert versions(case, shuffled) == wanted
    assert versions(case, [*documents, UNRELATED]) == wanted


@pytest.mark.parametrize(("protocol", "wanted"), [("GRPC-Web", True), ("GRPC", False)])
def test_browsers_that_speak_grpc(protocol: str, wanted: bool) -> None:
    world = World().apply(
        "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n"
        "metadata: {name: g-1, namespace: edge, annotations: {isthmus.dev/proxy: gateway}}\n"
        "spec: {address: 10.0.0.1, labels: {istio: ingressgateway}}\n"
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw, namespace: edge}\n"
        "spec: {selector: {istio: ingressgateway}, servers: "
        f"[{{port: {{number: 80, name: web, protocol: {protocol}}}, hosts: ['*']}}]}}\n"
    )
    body = world.manifest(LISTENER, "edge", "g-1")["0.0.0.0_80"].body
    assert (b"envoy.filters.http.grpc_web" in body) is wanted

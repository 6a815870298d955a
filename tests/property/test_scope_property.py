"""The order of objects changes nothing, and an object that a scope does not see changes no byte of it."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.envoy.resource import CLUSTER, ENDPOINTS, HOST, LISTENER, ROUTES, Manifest
from makers import World, service

GOLDEN = Path(__file__).parents[1] / "envoy" / "golden"
CASES = sorted(path.parent for path in GOLDEN.glob("*/in.yaml"))
TYPES = (CLUSTER, ENDPOINTS, LISTENER, ROUTES, HOST)

UNSEEN = """
apiVersion: v1
kind: Service
metadata: {name: unseen, namespace: elsewhere, annotations: {networking.istio.io/exportTo: "."}}
spec:
  clusterIP: 240.240.77.1
  ports: [{name: http, port: 80}, {name: mysql, port: 3306}, {name: x, port: 443}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: elsewhere}
spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}, egress: [{hosts: ["./*"]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: unseen, namespace: elsewhere}
spec: {hosts: [unseen], exportTo: ["."], http: [{route: [{destination: {host: unseen}}]}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: elsewhere}
spec: {mtls: {mode: STRICT}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: unseen-1, namespace: elsewhere}
spec: {address: 10.77.0.1, labels: {app: unseen}, serviceAccount: unseen}
"""


def _read(case: Path) -> tuple[list[str], str, str]:
    text = (case / "in.yaml").read_text(encoding="utf-8")
    found = re.search(r"^# proxy: (\S+)/(\S+)$", text, re.M)
    assert found is not None
    return re.split(r"^---$", text, flags=re.M), found[1], found[2]


def _manifests(world: World, namespace: str, workload: str) -> dict[str, Manifest]:
    return {type_url: dict(world.manifest(type_url, namespace, workload)) for type_url in TYPES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_order_changes_nothing(case: Path) -> None:
    documents, namespace, workload = _read(case)
    expected = _manifests(World().apply(*documents), namespace, workload)

    @settings(max_examples=8, deadline=None, derandomize=True)
    @given(st.permutations(documents))
    def check(shuffled: list[str]) -> None:
        world = World()
        for document in shuffled:
            world.apply(document)
            world.manifest(LISTENER, namespace, workload)
        assert _manifests(world, namespace, workload) == expected

    check()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_not_seen_changes_no_byte(case: Path) -> None:
    documents, namespace, workload = _read(case)
    world = World().apply(*documents)
    before = _manifests(world, namespace, workload)
    assert _manifests(world.apply(UNSEEN), namespace, workload) == before


@pytest.mark.parametrize(
    "case",
    # a gateway that passes TLS through by itself leads to every service: that is one listener
    [case for case in CASES if case.name != "gateway_east_west"],
    ids=lambda case: case.name,
)
def test_one_more_service_changes_no_other_listener(case: Path) -> None:
    documents, namespace, workload = _read(case)
    world = World().apply(*documents)
    before = _manifests(world, namespace, workload)
    world.apply(service("more", 4321, namespace=namespace, vip="240.240.77.2", port_name="tcp"))
    after = _manifests(world, namespace, workload)
    for type_url in (CLUSTER, ENDPOINTS, LISTENER, ROUTES):
        assert {name: after[type_url][name] for name in before[type_url]} == before[type_url]

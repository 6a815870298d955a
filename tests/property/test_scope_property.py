"""The order of objects changes nothing, and an object that a scope does not see changes no byte of it."""

import json
import re
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "envoy"))

import corpus
from golden import CASES

from isthmus.api.kinds import KINDS
from isthmus.envoy.resource import CLUSTER, ENDPOINTS, HOST, LISTENER, ROUTES, Manifest
from makers import BOOKINFO, World, service

SAMPLE = 40
"""So many worlds of the corpus, evenly chosen, have their objects shuffled."""
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


# whatever may stand in a namespace: few names, among them those of hosts that proxies elsewhere know

hosts = st.sampled_from(("reviews", "ratings.bookinfo.svc.cluster.local", "reviews.shop.svc.cluster.local",
                         "unseen", "*.wild.test", "ext.test", "web.shop.svc.cluster.local"))  # fmt: skip
ports = st.sampled_from(
    ((80, "http"), (9080, "http"), (443, "tls"), (3306, "tcp"), (7000, "tcp"), (82, "grpc"))
)
names = st.sampled_from(("a", "b", "reviews", "default"))
addresses = st.sampled_from(("10.77.0.1", "10.0.0.1", "fd00::7"))
labels = st.sampled_from(({"app": "reviews"}, {"app": "unseen"}, {"version": "v1"}))
OWN = ("WorkloadEntry", "PeerAuthentication", "AuthorizationPolicy", "Sidecar", "Gateway")
EXPORTED, KEPT = ["*"], ["."]


@st.composite
def visible(draw: st.DrawFn, export: list[str]) -> dict[str, Any]:
    """What callers may see: exported as said."""
    host, (number, port), name = draw(hosts), draw(ports), draw(names)
    match draw(st.sampled_from(("Service", "ServiceEntry", "VirtualService", "DestinationRule"))):
        case "Service":
            spec = {"selector": draw(labels), "ports": [{"name": port, "port": number}]}
            found = _document("Service", name, {**spec, "clusterIP": "240.240.77.9"})
            found["metadata"]["annotations"] = {"networking.istio.io/exportTo": export[0]}
            return found
        case "ServiceEntry":
            listed = [{"number": number, "name": port, "protocol": port.upper()}]
            spec = {"hosts": [host], "ports": listed, "resolution": "STATIC", "exportTo": export}
            endpoints = [{"address": draw(addresses), "labels": draw(labels)}]
            return _document("ServiceEntry", name, {**spec, "endpoints": endpoints})
        case "VirtualService":
            http = [{"timeout": "1s", "route": [{"destination": {"host": draw(hosts)}}]}]
            tcp = [{"route": [{"destination": {"host": draw(hosts), "port": {"number": number}}}]}]
            rules: dict[str, Any] = draw(st.sampled_from(({"http": http}, {"tcp": tcp})))
            return _document("VirtualService", name, {"hosts": [host], "exportTo": export, **rules})
        case _:
            policy = {"connectionPool": {"tcp": {"maxConnections": draw(st.integers(1, 9))}}}
            subsets = [{"name": "v1", "labels": {"version": "v1"}}]
            spec = {"host": host, "exportTo": export, "trafficPolicy": policy, "subsets": subsets}
            return _document("DestinationRule", name, spec)


@st.composite
def own(draw: st.DrawFn) -> dict[str, Any]:
    """What is for the workloads of its namespace alone."""
    name = draw(names)
    match draw(st.sampled_from(OWN)):
        case "WorkloadEntry":
            spec: dict[str, Any] = {"address": draw(addresses), "labels": draw(labels), "serviceAccount": "x"}
            return _document("WorkloadEntry", name, spec)
        case "PeerAuthentication":
            mode = draw(st.sampled_from(("STRICT", "PERMISSIVE", "DISABLE")))
            return _document("PeerAuthentication", name, {"mtls": {"mode": mode}})
        case "AuthorizationPolicy":
            action = draw(st.sampled_from(("ALLOW", "DENY")))
            return _document("AuthorizationPolicy", name, {"action": action, "rules": [{}]})
        case "Sidecar":
            spec = {"egress": [{"hosts": ["*/*"]}], "outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}
            return _document("Sidecar", "default", spec)
        case _:
            number, _ = draw(ports)
            server = {"port": {"number": number, "name": "x", "protocol": "HTTP"}, "hosts": [draw(hosts)]}
            return _document("Gateway", name, {"selector": {"app": "unseen"}, "servers": [server]})


def _document(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "elsewhere"}
    return {"apiVersion": KINDS[kind].api_versions[0], "kind": kind, "metadata": metadata, "spec": spec}


def _yaml(documents: list[dict[str, Any]]) -> list[str]:
    """As texts: JSON is YAML."""
    return [json.dumps(document) for document in documents]


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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nothing_that_a_namespace_keeps_is_seen_in_another(case: Path) -> None:
    documents, namespace, workload = _read(case)
    before = _manifests(World().apply(*documents), namespace, workload)

    @settings(max_examples=10, deadline=None, derandomize=True)
    @given(st.lists(st.one_of(visible(KEPT), own()), min_size=1, max_size=5))
    def check(unseen: list[dict[str, Any]]) -> None:
        world = World().apply(*documents, *_yaml(unseen))
        assert _manifests(world, namespace, workload) == before

    check()


NEAR_ONLY = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: bookinfo}
spec: {egress: [{hosts: ["./*"]}]}
"""


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.one_of(visible(EXPORTED), own()), min_size=1, max_size=6))
def test_nothing_outside_a_sidecars_egress_is_seen(unseen: list[dict[str, Any]]) -> None:
    before = _manifests(World().apply(BOOKINFO, NEAR_ONLY), "bookinfo", "reviews-1")
    after = _manifests(World().apply(BOOKINFO, NEAR_ONLY, *_yaml(unseen)), "bookinfo", "reviews-1")
    assert after == before


def test_what_is_exported_is_seen_where_no_sidecar_says_otherwise() -> None:
    """That the two before can fail."""
    listed = [{"number": 80, "name": "http", "protocol": "HTTP"}]
    seen = _document("ServiceEntry", "a", {"hosts": ["ext.test"], "ports": listed, "resolution": "DNS"})
    before = _manifests(World().apply(BOOKINFO), "bookinfo", "reviews-1")
    assert _manifests(World().apply(BOOKINFO, *_yaml([seen])), "bookinfo", "reviews-1") != before


_ORDERED = corpus.ordered()
SHUFFLED = _ORDERED[:: max(len(_ORDERED) // SAMPLE, 1)]


@pytest.mark.parametrize("world", SHUFFLED, ids=lambda world: world.name)
def test_order_changes_nothing_in_any_world(world: corpus.World) -> None:
    expected = world.made()
    for seed in (1, 2):
        assert (
            world.made(order=lambda objects, seed=seed: Random(seed).sample(objects, len(objects)))
            == expected
        )

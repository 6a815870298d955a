"""What a gateway holds depends on what is said, not on who said it first, nor on what others say."""

import random
from pathlib import Path

import pytest
from envoy.config.listener.v3 import listener_pb2 as listener_v3
from envoy.extensions.filters.network.tcp_proxy.v3 import tcp_proxy_pb2 as tcp_proxy_v3
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


TUNNELS = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: g-1, namespace: edge, annotations: {isthmus.dev/proxy: gateway}}
spec: {address: 10.0.0.1, labels: {istio: gate}}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: edge}
spec: {clusterIP: 240.240.0.4, selector: {app: db}, ports: [{name: tcp, port: 5432}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: db, namespace: edge}
spec:
  host: db
  trafficPolicy: {tunnel: {targetHost: wide.example, targetPort: 443}}
  subsets:
  - {name: v1, labels: {v: "1"}, trafficPolicy: {tunnel: {targetHost: narrow.example, targetPort: 444}}}
  - {name: v2, labels: {v: "2"}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw, namespace: edge}
spec:
  selector: {istio: gate}
  servers:
  - {port: {number: 5432, name: tcp, protocol: TCP}, hosts: ["*"]}
  - {port: {number: 15443, name: tls, protocol: TLS}, hosts: ["*.local"], tls: {mode: AUTO_PASSTHROUGH}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: db, namespace: edge}
spec:
  hosts: ["*"]
  gateways: [gw]
  tcp: [{route: ROUTE}]
"""
ONE = "{destination: {host: db, subset: v1}}"


@pytest.mark.parametrize(
    ("route", "wanted"),
    [
        ("[{destination: {host: db}}]", "wide.example:443"),
        (f"[{ONE}]", "narrow.example:444"),
        ("[{destination: {host: db, subset: v2}}]", ""),
        (
            f"[{ONE[:-1]}, weight: 1}}, {{destination: {{host: db, subset: v2}}, weight: 1}}]",
            "wide.example:443",
        ),
        (f"[{ONE[:-1]}, weight: 1}}, {{destination: {{host: db}}, weight: 0}}]", "wide.example:443"),
    ],
)
def test_only_the_one_destinations_subset_says_its_tunnel(route: str, wanted: str) -> None:
    made = World().apply(TUNNELS.replace("ROUTE", route)).manifest(LISTENER, "edge", "g-1")
    found = {name: listener_v3.Listener.FromString(each.body) for name, each in made.items()}
    proxy = tcp_proxy_v3.TcpProxy()
    found["0.0.0.0_5432"].filter_chains[0].filters[-1].typed_config.Unpack(proxy)
    assert proxy.tunneling_config.hostname == wanted
    passed = [chain.filters[-1].typed_config for chain in found["0.0.0.0_15443"].filter_chains]
    assert passed
    # what is encrypted for somebody else goes through no tunnel
    assert all(b".example" not in config.value for config in passed)

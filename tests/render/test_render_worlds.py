"""`isthmus render` of whole worlds: a cluster's Services with their Pods, several networks, gateways."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from isthmus.cli.main import main

CLUSTER = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.96.0.10
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: web}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-abc, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints:
- addresses: [10.244.0.1]
  conditions: {ready: true}
  targetRef: {kind: Pod, name: web-1, namespace: shop}
- addresses: [10.244.0.2]
  conditions: {ready: false}
  targetRef: {kind: Pod, name: web-2, namespace: shop}
- addresses: [10.244.0.3]
  conditions: {ready: true}
  targetRef: {kind: Pod, name: web-3, namespace: shop}
---
apiVersion: v1
kind: Pod
metadata:
  name: web-1
  namespace: shop
  labels: {app: web, version: v1, security.istio.io/tlsMode: istio}
spec: {serviceAccountName: web, containers: [{name: web, ports: [{name: web, containerPort: 8080}]}]}
status: {podIP: 10.244.0.1, phase: Running}
---
apiVersion: v1
kind: Pod
metadata: {name: web-3, namespace: shop, labels: {app: web, version: v2}}
spec: {serviceAccountName: web, containers: [{name: web}]}
status: {podIP: 10.244.0.3, phase: Running}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
"""
NETWORKS = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 240.240.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: web-near, namespace: shop}
spec: {address: 10.1.0.1, labels: {app: web}, serviceAccount: web, network: near}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: web-far, namespace: shop}
spec: {address: 10.2.0.1, labels: {app: web}, serviceAccount: web, network: far}
---
apiVersion: v1
kind: Service
metadata: {name: east-west, namespace: edge, labels: {topology.istio.io/network: far}}
spec: {externalIPs: [203.0.113.9], selector: {istio: eastwestgateway}, ports: [{name: tls, port: 15443}]}
"""
EDGE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 240.240.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: web-1, namespace: shop}
spec: {address: 10.1.0.1, labels: {app: web}, serviceAccount: web}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: edge}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: [shop/shop.example.com]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [shop.example.com]
  gateways: [edge/public]
  http: [{route: [{destination: {host: web}}]}]
"""
WEB = "web.shop.svc.cluster.local"
CALLER = ("--type", "sidecar", "--namespace", "shop", "--labels", "app=caller", "--ip", "10.1.0.9")


def rendered(folder: Path, text: str, *proxy: str) -> dict[str, list[dict[str, Any]]]:
    """What a proxy gets in a world of this YAML."""
    (folder / "world.yaml").write_text(text)
    found = CliRunner().invoke(main, ["render", "-f", str(folder), *proxy])
    assert found.exit_code == 0, found.stderr
    made: dict[str, list[dict[str, Any]]] = json.loads(found.stdout)
    return made


def endpoints(made: dict[str, list[dict[str, Any]]], cluster: str) -> dict[str, str]:
    """The healthy endpoints of a cluster, `address:port`, and the TLS that each of them takes."""
    (found,) = (each for each in made["endpoints"] if each["cluster_name"] == cluster)
    told = {}
    for place in found.get("endpoints", ()):
        for each in place.get("lb_endpoints", ()):
            if each.get("health_status") == "HEALTHY":
                address = each["endpoint"]["address"]["socket_address"]
                marks = each.get("metadata", {}).get("filter_metadata", {})
                mode = marks.get("envoy.transport_socket_match", {}).get("tlsMode", "")
                told[f"{address['address']}:{address['port_value']}"] = mode
    return told


def test_a_service_with_slices_and_pods(tmp_path: Path) -> None:
    made = rendered(tmp_path, CLUSTER, *CALLER)
    # pods that are ready, at the port of the slice; mutual TLS with those that have a proxy
    assert endpoints(made, f"outbound|80||{WEB}") == {"10.244.0.1:8080": "istio", "10.244.0.3:8080": ""}
    # their labels choose the subset
    assert endpoints(made, f"outbound|80|v1|{WEB}") == {"10.244.0.1:8080": "istio"}
    assert endpoints(made, f"outbound|80|v2|{WEB}") == {"10.244.0.3:8080": ""}


def test_two_networks(tmp_path: Path) -> None:
    cluster = f"outbound|80||{WEB}"
    near = endpoints(rendered(tmp_path, NETWORKS, *CALLER, "--network", "near"), cluster)
    assert near == {"10.1.0.1:8080": "istio", "203.0.113.9:15443": "istio"}
    far = endpoints(rendered(tmp_path, NETWORKS, *CALLER, "--network", "far"), cluster)
    # only `far` says how it is entered: what is elsewhere is dialled as it is
    assert far == {"10.2.0.1:8080": "istio", "10.1.0.1:8080": "istio"}


def test_a_router(tmp_path: Path) -> None:
    router = (
        "--type",
        "router",
        "--namespace",
        "edge",
        "--labels",
        "istio=ingressgateway",
        "--ip",
        "10.1.0.5",
    )
    made = rendered(tmp_path, EDGE, *router)
    (listener,) = made["listeners"]
    assert listener["address"]["socket_address"] == {"address": "0.0.0.0", "port_value": 8080}
    (table,) = made["routes"]
    domains = {domain for host in table["virtual_hosts"] for domain in host["domains"]}
    assert "shop.example.com" in domains
    assert endpoints(made, f"outbound|80||{WEB}") == {"10.1.0.1:8080": "istio"}
    # another one, which the Gateway does not select, listens on nothing
    other = rendered(tmp_path, EDGE, *router[:5], "istio=egressgateway", *router[6:])
    assert other["listeners"] == other["routes"] == []

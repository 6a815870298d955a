"""Which ports a proxy takes for its workload, and where it finds the workload."""

import pytest

from isthmus.api.meta import Key
from isthmus.mesh import scope_inbound
from isthmus.mesh.analyse import problems
from isthmus.mesh.model import Protocol
from makers import World, service, workload

DB = Key("WorkloadEntry", "shop", "db-1")
VM = workload("db-1", "10.0.0.1", namespace="shop")


def _sidecar(ingress: str) -> str:
    return (
        "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: db, namespace: shop}\n"
        f"spec: {{ingress: [{ingress}]}}\n"
    )


def test_ports_of_services_by_their_targets() -> None:
    two = """
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {selector: {app: db}, ports: [{name: http, port: 80, targetPort: 8080}, {name: mysql, port: 3306}]}
"""
    found = World().apply(VM, two).engine(scope_inbound.served, DB)
    assert [(one.number, one.service_port, one.protocol) for one in found] == [
        (3306, 3306, Protocol.MYSQL),
        (8080, 80, Protocol.HTTP),
    ]


def test_of_two_services_on_one_port_the_older_says_what_is_spoken() -> None:
    other = """
apiVersion: v1
kind: Service
metadata: {name: other, namespace: shop}
spec: {selector: {app: db}, ports: [{name: tcp, port: 9080}]}
"""
    world = World().apply(VM, service("db", namespace="shop"), other)
    (one,) = world.engine(scope_inbound.served, DB)
    assert one.protocol is Protocol.HTTP
    told = [str(problem) for problem in world.engine(problems)[Key("Service", "shop", "other")]]
    assert any("port 9080 of WorkloadEntry/shop/db-1 speaks http, as Service/shop/db says" in t for t in told)


@pytest.mark.parametrize(
    ("endpoint", "found"),
    [
        ("", ""),
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("0.0.0.0:8080", "10.0.0.1:8080"),
        ("'[::1]:8080'", "[::1]:8080"),
        ("'[::]:8080'", "[::1]:8080"),
        ("unix:///run/db.sock", "unix:///run/db.sock"),
    ],
)
def test_where_a_sidecar_says_that_the_workload_listens(endpoint: str, found: str) -> None:
    said = f", defaultEndpoint: {endpoint}" if endpoint else ""
    sidecar = _sidecar(f"{{port: {{number: 80, protocol: HTTP, name: http}}{said}}}")
    (one,) = World().apply(VM, service("db", namespace="shop"), sidecar).engine(scope_inbound.served, DB)
    assert (one.number, one.endpoint, one.binds) == (80, found, ("10.0.0.1",))


def test_what_a_sidecar_does_not_name_is_still_captured() -> None:
    bound = "{port: {number: 81, protocol: HTTP, name: b}, captureMode: NONE}"
    sidecar = _sidecar(f"{{port: {{number: 80, protocol: HTTP, name: a}}}}, {bound}")
    world = World().apply(VM, service("db", namespace="shop"), sidecar)
    assert world.engine(scope_inbound.captured_ports, DB) == (80, 9080)


def test_the_mesh_may_dial_workloads_at_the_loopback_address() -> None:
    mesh = """
apiVersion: isthmus.dev/v1alpha1
kind: MeshConfig
metadata: {name: default, namespace: isthmus-system}
spec: {inboundTrafficPolicy: {mode: LOCALHOST}}
"""
    (one,) = World().apply(VM, service("db", namespace="shop"), mesh).engine(scope_inbound.served, DB)
    assert one.endpoint == "127.0.0.1:9080"

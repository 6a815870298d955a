"""Who gives endpoints to a host: workloads, Pods, slices, entries; and what callers may know of them."""

import pytest

from isthmus.api.meta import Key
from isthmus.mesh import endpoints, services, workloads
from isthmus.mesh.model import Endpoint, Labels, Resolution
from makers import World, service, workload

HOST = "db.bookinfo.svc.cluster.local"


def pod(name: str, ip: str, *, app: str = "db", more: str = "", status: str = "", ports: str = "") -> str:
    """A Pod with an address."""
    return (
        "---\napiVersion: v1\nkind: Pod\n"
        f"metadata: {{name: {name}, namespace: bookinfo, labels: {{app: {app}{more}}}}}\n"
        f"spec: {{serviceAccountName: sql, nodeName: n1, containers: [{{name: c, ports: [{ports}]}}]}}\n"
        f"status: {{podIP: {ip}, phase: Running{status}}}\n"
    )


def entry(name: str, spec: str, namespace: str = "bookinfo") -> str:
    """A ServiceEntry."""
    return (
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n"
    )


NODE = """---
apiVersion: v1
kind: Node
metadata:
  name: n1
  labels: {topology.kubernetes.io/region: eu, topology.kubernetes.io/zone: a}
"""


def _slice(name: str, endpoints: str, *, ports: str = "{name: http, port: 8080}") -> str:
    return (
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
        f"metadata: {{name: {name}, namespace: bookinfo, labels: {{kubernetes.io/service-name: db}}}}\n"
        f"addressType: IPv4\nports: [{ports}]\nendpoints: [{endpoints}]\n"
    )


def _found(world: World, host: str = HOST, port: int = 9080, subset: Labels = ()) -> tuple[Endpoint, ...]:
    return world.engine(endpoints.endpoints, host, port, subset)


def _addresses(world: World, host: str = HOST, port: int = 9080) -> list[str]:
    return [f"{e.address}:{e.port}" for e in _found(world, host, port)]


# Kubernetes


def test_pods_by_selector_where_kubernetes_lists_no_endpoints() -> None:
    world = World().apply(
        service("db"), pod("db-0", "10.1.0.1"), NODE, workload("db-vm", "10.0.0.1", app="db")
    )
    vm, found = _found(world)
    assert (vm.address, found.address, found.port) == ("10.0.0.1", "10.1.0.1", 9080)
    assert (found.locality, found.identity, found.mtls) == (
        "eu/a/",
        "spiffe://cluster.local/ns/bookinfo/sa/sql",
        False,
    )
    world.apply(pod("db-0", "10.1.0.1", more=", security.istio.io/tlsMode: istio"))
    assert _found(world)[1].mtls
    world.apply(pod("db-0", "10.1.0.1", status=", conditions: [{type: Ready, status: 'False'}]"))
    assert not _found(world)[1].ready
    world.apply(pod("db-0", "10.1.0.1").replace("Running", "Succeeded"))
    assert len(_found(world)) == 1


def test_a_named_target_is_the_containers_port() -> None:
    by_name = service("db").replace("port: 9080", "port: 9080, targetPort: sql")
    world = World().apply(by_name, pod("db-0", "10.1.0.1", ports="{name: sql, containerPort: 3306}"))
    assert _addresses(world) == ["10.1.0.1:3306"]
    # a container's name for a port changes nothing where the service says a number
    world.apply(service("db"), pod("db-0", "10.1.0.1", ports="{name: http, containerPort: 1}"))
    assert _addresses(world) == ["10.1.0.1:9080"]


def test_slices_count_instead_of_selectors_and_workload_entries_stay() -> None:
    world = World().apply(
        service("db"),
        pod("db-0", "10.1.0.1", more=", version: v1"),
        pod("db-1", "10.1.0.2"),
        workload("db-vm", "10.0.0.1", app="db"),
        _slice(
            "db-a",
            "{addresses: [10.1.0.1], targetRef: {kind: Pod, name: db-0}}, "
            "{addresses: [10.1.0.9], conditions: {ready: false}}, "
            "{addresses: [10.1.0.8], conditions: {ready: false, terminating: true}}",
        ),
        _slice("db-b", "{addresses: [10.1.0.1], targetRef: {kind: Pod, name: db-0}}"),
    )
    assert _addresses(world) == ["10.1.0.1:8080", "10.1.0.9:8080", "10.0.0.1:9080"]
    assert [e.ready for e in _found(world)] == [True, False, True]
    assert [e.address for e in _found(world, subset=(("version", "v1"),))] == ["10.1.0.1", "10.0.0.1"]


def test_unready_endpoints_of_a_service_that_publishes_them() -> None:
    text = service("db").replace("spec:\n", "spec:\n  publishNotReadyAddresses: true\n")
    world = World().apply(text, _slice("db", "{addresses: [10.1.0.9], conditions: {ready: false}}"))
    assert [e.ready for e in _found(world)] == [True]


def test_endpoints_objects_where_there_are_no_slices() -> None:
    world = World().apply(
        service("db"),
        """
apiVersion: v1
kind: Endpoints
metadata: {name: db, namespace: bookinfo}
subsets:
- addresses: [{ip: 10.2.0.1}]
  notReadyAddresses: [{ip: 10.2.0.2}]
  ports: [{name: http, port: 81}, {name: other, port: 82}]
""",
    )
    assert [(e.address, e.port, e.ready) for e in _found(world)] == [
        ("10.2.0.1", 81, True),
        ("10.2.0.2", 81, False),
    ]


def test_a_slice_for_a_pod_without_a_name_is_matched_by_address() -> None:
    world = World().apply(service("db"), pod("db-0", "10.1.0.1"), _slice("db", "{addresses: [10.1.0.1]}"))
    assert [e.workload for e in _found(world)] == [Key("Pod", "bookinfo", "db-0")]


# ServiceEntries


STATIC = "hosts: [db.mesh], location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 80, name: http}]"


def test_an_entry_selects_workload_entries_and_pods() -> None:
    world = World().apply(
        entry("db", STATIC + ", workloadSelector: {labels: {app: db}}"),
        pod("db-0", "10.1.0.1", ports="{name: http, containerPort: 8080}"),
        workload("db-vm", "10.0.0.1", app="db", ports="http: 8081"),
    )
    assert _addresses(world, "db.mesh", 80) == ["10.0.0.1:8081", "10.1.0.1:80"]


def test_everybody_who_declares_a_host_in_a_namespace_gives_endpoints_to_it() -> None:
    world = World().apply(
        entry("a", STATIC + ", endpoints: [{address: 1.1.1.1}]"),
        entry("b", STATIC + ", endpoints: [{address: 2.2.2.2}]"),
        entry("c", STATIC.replace("name: http", "name: other") + ", endpoints: [{address: 3.3.3.3}]"),
        entry("d", STATIC + ", endpoints: [{address: 4.4.4.4}]", "other"),
    )
    assert _addresses(world, "db.mesh", 80) == ["1.1.1.1:80", "2.2.2.2:80"]
    found = world.engine(endpoints.endpoints, "db.mesh", 80, (), (Key("ServiceEntry", "other", "d"),))
    assert [e.address for e in found] == ["4.4.4.4"]


def test_ports_of_like_entries_add_up() -> None:
    more = STATIC.replace("number: 80, name: http", "number: 81, name: other")
    world = World().apply(
        entry("a", STATIC + ", addresses: [240.0.0.1], endpoints: [{address: 1.1.1.1}]"),
        entry("b", more + ", addresses: [240.0.0.2], endpoints: [{address: 2.2.2.2}]"),
        entry("c", more.replace("81", "82").replace("STATIC", "DNS")),
    )
    found = world.engine(services.service, "db.mesh")
    assert found
    assert [port.number for port in found.ports] == [80, 81]
    assert found.vips == ("240.0.0.1", "240.0.0.2")
    assert _addresses(world, "db.mesh", 81) == ["2.2.2.2:81"]


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ("resolution: DNS", ["db.mesh:81"]),
        ("resolution: DNS, endpoints: [{address: a.example.com}, {address: 1.1.1.1, ports: {http: 9}}]",
         ["a.example.com:81", "1.1.1.1:9"]),
        ("resolution: DNS, workloadSelector: {labels: {app: none}}", []),
        ("resolution: STATIC, endpoints: [{address: a.example.com}, {address: 1.1.1.1}]", ["1.1.1.1:81"]),
        ("resolution: STATIC, endpoints: [{address: 'unix:///run/db.sock'}]", ["/run/db.sock:0"]),
    ],
)  # fmt: skip
def test_what_an_entry_leads_to(more: str, found: list[str]) -> None:
    ports = "ports: [{number: 80, name: http, targetPort: 81}]"
    world = World().apply(entry("db", f"hosts: [db.mesh], location: MESH_INTERNAL, {ports}, {more}"))
    assert _addresses(world, "db.mesh", 80) == found


def test_an_endpoint_knows_its_place() -> None:
    world = World().apply(
        entry("db", STATIC + ", endpoints: [{address: 1.1.1.1, locality: eu/a, network: vpc, weight: 5}]")
    )
    (found,) = _found(world, "db.mesh", 80)
    assert (found.locality, found.network, found.weight) == ("eu/a", "vpc", 5)
    assert dict(found.labels) == {
        "topology.istio.io/network": "vpc",
        "topology.kubernetes.io/region": "eu",
        "topology.kubernetes.io/zone": "a",
    }


# other names


def test_a_name_that_means_another_is_no_service() -> None:
    alias = """---
apiVersion: v1
kind: Service
metadata: {name: %s, namespace: bookinfo}
spec: {type: ExternalName, externalName: %s}
"""
    world = World().apply(
        service("db"),
        alias % ("one", HOST),
        alias % ("two", "one.bookinfo.svc.cluster.local"),
        alias % ("loop", "pool.bookinfo.svc.cluster.local"),
        alias % ("pool", "loop.bookinfo.svc.cluster.local"),
    )
    assert world.engine(services.hosts) == (HOST,)
    found = world.engine(services.service, HOST)
    assert found
    assert found.aliases == ("one.bookinfo.svc.cluster.local", "two.bookinfo.svc.cluster.local")


# health


def test_a_probed_workload_takes_traffic_after_its_first_success() -> None:
    text = workload("db-1", "10.0.0.1").replace(
        "name: db-1,", "name: db-1, annotations: {proxy.istio.io/health-checks-enabled: 'true'},"
    )
    key = Key("WorkloadEntry", "bookinfo", "db-1")
    world = World().apply(text)
    assert not world.engine(workloads.healthy, key)
    world.set_status(*_where(key), {"conditions": [{"type": "Healthy", "status": "True"}]})
    assert world.engine(workloads.healthy, key)
    world.set_status(*_where(key), {"conditions": [{"type": "Healthy", "status": "False"}]})
    assert not world.engine(workloads.healthy, key)


def _where(key: Key) -> tuple[str, str, str]:
    return key.kind, key.namespace, key.name


# what a workload serves


def test_an_address_that_an_entry_lists_is_served_there() -> None:
    world = World().apply(
        entry("db", STATIC + ", endpoints: [{address: 10.0.0.1, ports: {http: 8080}}]"),
        workload("db-1", "10.0.0.1", app="other"),
    )
    key = Key("WorkloadEntry", "bookinfo", "db-1")
    (port,) = world.engine(workloads.inbound_ports, key)
    assert (port.number, port.sources) == (8080, (Key("ServiceEntry", "bookinfo", "db"),))


def test_a_headless_service_follows_the_caller() -> None:
    world = World().apply(service("db", vip="None"), pod("db-0", "10.1.0.1"))
    found = world.engine(services.service, HOST)
    assert found
    assert found.resolution is Resolution.NONE
    assert world.engine(endpoints.addresses, HOST) == ("10.1.0.1",)


def test_an_entry_gives_nothing_to_the_host_of_a_service() -> None:
    spec = (
        f"hosts: [{HOST}], resolution: STATIC, addresses: [198.51.100.1], endpoints: [{{address: 192.0.2.1}}]"
    )
    ports = "ports: [{number: 9080, name: http, protocol: HTTP}, {number: 81, name: other, protocol: HTTP}]"
    world = World().apply(service("db"), workload("db-1", "10.0.0.1"), entry("thief", f"{spec}, {ports}"))
    assert _addresses(world) == ["10.0.0.1:9080"]
    assert _addresses(world, port=81) == []
    assert world.engine(endpoints.addresses, HOST) == ("10.0.0.1",)
    # those who see the entry alone get what it says, and nothing of the Service's
    theirs = world.engine(endpoints.endpoints, HOST, 9080, (), (Key("ServiceEntry", "bookinfo", "thief"),))
    assert [e.address for e in theirs] == ["192.0.2.1"]
    world.delete("Service", "bookinfo", "db")
    assert _addresses(world, port=81) == ["192.0.2.1:81"]

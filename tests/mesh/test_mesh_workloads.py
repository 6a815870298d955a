"""WorkloadEntries -> endpoints of services and inbound ports."""

import pytest

from isthmus.api.meta import Key
from isthmus.mesh import endpoints, workloads
from isthmus.mesh.model import Endpoint, InboundPort, Protocol
from makers import World, service, workload

HOST = "db.bookinfo.svc.cluster.local"
DB = Key("WorkloadEntry", "bookinfo", "db-1")


def _endpoints(world: World, host: str = HOST, port: int = 3306, **subset: str) -> tuple[Endpoint, ...]:
    return world.engine(endpoints.endpoints, host, port, tuple(sorted(subset.items())))


def _service_with(target: str) -> str:
    return service("db", 3306, port_name="mysql").replace("port: 3306", f"port: 3306, targetPort: {target}")


@pytest.mark.parametrize(
    ("target", "ports", "number"),
    [
        ("3306", "", 3306),
        ("3307", "", 3307),
        ("3307", "mysql: 3308", 3308),
        ("sql", "sql: 3309", 3309),
        ("sql", "mysql: 3310", 3310),
        ("sql", "", None),
    ],
)
def test_the_port_of_an_endpoint(target: str, ports: str, number: int | None) -> None:
    world = World().apply(_service_with(target), workload("db-1", "10.0.0.1", ports=ports))
    assert [e.port for e in _endpoints(world)] == ([number] if number else [])


def test_an_endpoint_proves_its_service_account() -> None:
    world = World().apply(service("db", 3306), workload("db-1", "10.0.0.1", account="sql"))
    (endpoint,) = _endpoints(world)
    assert endpoint.mtls
    assert endpoint.identity == "spiffe://cluster.local/ns/bookinfo/sa/sql"
    assert endpoint.workload == DB


def test_subsets_narrow_by_labels() -> None:
    world = World().apply(
        service("db", 3306), workload("db-1", "10.0.0.1"), workload("db-2", "10.0.0.2", version="v2")
    )
    assert [e.address for e in _endpoints(world, version="v2")] == ["10.0.0.2"]
    assert len(_endpoints(world)) == 2


@pytest.mark.parametrize(
    ("spec", "mtls"),
    [
        ("serviceAccount: db", True),
        ("", False),
        ("serviceAccount: db, labels: {app: db, security.istio.io/tlsMode: disabled}", False),
        ("labels: {app: db, security.istio.io/tlsMode: istio}", False),  # nobody to expect there
        ("serviceAccount: 'not a name'", False),
    ],
)
def test_mutual_tls_needs_an_identity_and_no_label_against_it(spec: str, mtls: bool) -> None:
    labels = "" if "labels" in spec else ", labels: {app: db}"
    world = World().apply(
        service("db", 3306),
        "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n"
        f"metadata: {{name: db-1, namespace: bookinfo}}\nspec: {{address: 10.0.0.1{labels}, {spec}}}",
    )
    assert [e.mtls for e in _endpoints(world)] == [mtls]


def test_a_port_that_takes_plaintext_only_is_called_in_plaintext() -> None:
    world = World().apply(
        service("db", 3306),
        workload("db-1", "10.0.0.1"),
        """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: open, namespace: bookinfo}
spec:
  selector: {matchLabels: {app: db}}
  portLevelMtls: {"3306": {mode: DISABLE}}
""",
    )
    assert [e.mtls for e in _endpoints(world)] == [False]
    assert world.engine(endpoints.identities, HOST, 3306, ()) == ()


def test_inbound_ports_are_what_services_ask_for_and_what_the_workload_names() -> None:
    world = World().apply(
        _service_with("sql"),
        service("other", 80),
        workload("db-1", "10.0.0.1", ports="sql: 3307, http-stats: 9104"),
    )
    assert world.engine(workloads.inbound_ports, DB) == (
        InboundPort(3307, Protocol.MYSQL, (Key("Service", "bookinfo", "db"), DB)),
        InboundPort(9104, Protocol.HTTP, (DB,)),
    )


def test_a_service_entry_selects_too_and_its_word_on_the_protocol_counts() -> None:
    world = World().apply(
        """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db, namespace: bookinfo}
spec:
  hosts: [db.mesh]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: web, protocol: HTTP, targetPort: 8080}]
  workloadSelector: {labels: {app: db}}
""",
        workload("db-1", "10.0.0.1", ports="tcp-x: 8080"),
    )
    (port,) = world.engine(workloads.inbound_ports, DB)
    assert (port.number, port.protocol) == (8080, Protocol.HTTP)
    assert [e.port for e in _endpoints(world, "db.mesh", 80)] == [8080]


def test_nothing_is_selected_by_an_empty_selector_or_from_another_namespace() -> None:
    world = World().apply(
        service("db", 3306).replace("selector: {app: db}", "selector: {}"),
        service("db", 3306, namespace="other"),
        workload("db-1", "10.0.0.1"),
    )
    assert _endpoints(world) == ()
    assert _endpoints(world, "db.other.svc.cluster.local") == ()
    assert world.engine(workloads.inbound_ports, DB) == ()


def test_health_is_told_by_the_condition_alone() -> None:
    world = World().apply(workload("db-1", "10.0.0.1"))
    assert world.engine(workloads.healthy, DB)
    assert not world.unhealthy("bookinfo", "db-1").engine(workloads.healthy, DB)
    world.set_status(
        "WorkloadEntry", "bookinfo", "db-1", {"conditions": [{"type": "Healthy", "status": "True"}]}
    )
    assert world.engine(workloads.healthy, DB)


GROUP = """
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: db, namespace: bookinfo}
spec: {template: {}, probe: {tcpSocket: {port: 3306}}}
"""
MEMBER = """
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: db-1
  namespace: bookinfo
  annotations: {istio.io/autoRegistrationGroup: db, proxy.istio.io/health-checks-enabled: "true"}
spec: {address: 10.0.0.1}
"""


def test_a_probed_member_has_to_be_found_healthy() -> None:
    world = World().apply(GROUP, MEMBER)
    assert world.engine(workloads.probe, DB) is not None
    assert not world.engine(workloads.healthy, DB)
    world.set_status(
        "WorkloadEntry", "bookinfo", "db-1", {"conditions": [{"type": "Healthy", "status": "True"}]}
    )
    assert world.engine(workloads.healthy, DB)


def test_what_was_found_before_the_probe_was_taken_away_does_not_count() -> None:
    world = World().apply(GROUP, MEMBER).unhealthy("bookinfo", "db-1")
    assert not world.engine(workloads.healthy, DB)
    world.apply(GROUP.replace(", probe: {tcpSocket: {port: 3306}}", ""))
    assert world.engine(workloads.probe, DB) is None
    assert world.engine(workloads.healthy, DB)


def test_a_probe_that_is_new_takes_nobody_out_before_it_was_tried() -> None:
    unmarked = MEMBER.replace(', proxy.istio.io/health-checks-enabled: "true"', "")
    world = World().apply(GROUP, unmarked)
    assert world.engine(workloads.healthy, DB)
    assert not world.unhealthy("bookinfo", "db-1").engine(workloads.healthy, DB)


def test_labels_that_nobody_asks_for_wake_almost_nothing() -> None:
    world = World().apply(
        *(service(f"s{i}") for i in range(20)), *(workload(f"s{i}-1", f"10.0.1.{i}") for i in range(20))
    )
    for i in range(20):
        _endpoints(world, f"s{i}.bookinfo.svc.cluster.local", 9080)
    before = world.engine.runs
    world.apply(workload("s3-1", "10.0.1.3", version="v9"))
    for i in range(20):
        _endpoints(world, f"s{i}.bookinfo.svc.cluster.local", 9080)
    assert world.engine.runs - before <= 8

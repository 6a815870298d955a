"""Services and ServiceEntries -> one registry by host."""

from isthmus.mesh import services
from isthmus.mesh.model import Port, Protocol, Resolution, Service
from makers import World, service

ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %s, namespace: shop}
spec:
  hosts: [db.mesh]
  ports: [{number: 3306, name: mysql%s}]
  resolution: STATIC
  location: MESH_INTERNAL
  workloadSelector: {labels: {app: db}}
"""


def _service(world: World, host: str) -> Service:
    found = world.engine(services.service, host)
    assert found is not None
    return found


def test_a_kubernetes_service() -> None:
    world = World().apply(
        """
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop, annotations: {networking.istio.io/exportTo: "., other"}}
spec:
  clusterIPs: ['2001:2::5', 240.240.0.5]
  selector: {app: db}
  ports:
  - {name: mysql, port: 3306, targetPort: 3307}
  - {name: web, port: 80, targetPort: http, appProtocol: http}
  - {name: dns, port: 53, protocol: UDP}
"""
    )
    found = _service(world, "db.shop.svc.cluster.local")
    assert found.vips == ("240.240.0.5", "2001:2::5")
    assert found.export_to == (".", "other")
    assert found.ports == (
        Port(3306, "mysql", Protocol.MYSQL, 3307),
        Port(80, "web", Protocol.HTTP, "http"),
        Port(53, "dns", Protocol.UDP, 53),
    )
    assert (found.resolution, found.headless) == (Resolution.ENDPOINTS, False)


def test_a_headless_service_has_no_virtual_address() -> None:
    world = World().apply(service("db", vip="None"))
    found = _service(world, "db.bookinfo.svc.cluster.local")
    assert found.headless
    assert (found.vips, found.resolution) == ((), Resolution.NONE)


def test_a_service_entry_takes_the_allocated_addresses() -> None:
    world = World().apply(ENTRY % ("db", ""))
    assert _service(world, "db.mesh").vips == ()
    rows = [
        {"host": "db.mesh", "value": "2001:2::1"},
        {"host": "db.mesh", "value": "240.240.0.1"},
        {"host": "other", "value": "240.240.0.2"},
    ]
    world.set_status("ServiceEntry", "shop", "db", {"addresses": rows})
    assert _service(world, "db.mesh").vips == ("240.240.0.1", "2001:2::1")


def test_a_host_declared_twice_belongs_to_the_older_object_and_comes_back() -> None:
    world = World().apply(ENTRY % ("z-first", ""), ENTRY % ("a-second", ", targetPort: 1"))
    world.apply("", (ENTRY % ("z-first", "")).replace("namespace: shop", "namespace: ann"))
    assert [key.name for key in world.engine(services.claims_of, "db.mesh")] == [
        "z-first",
        "a-second",
        "z-first",
    ]
    world.delete("ServiceEntry", "ann", "z-first")
    assert _service(world, "db.mesh").source.name == "a-second"


def test_a_kubernetes_service_wins_over_a_service_entry() -> None:
    entry = (ENTRY % ("a", "")).replace("db.mesh", "db.bookinfo.svc.cluster.local")
    world = World().apply(entry, service("db"))
    assert _service(world, "db.bookinfo.svc.cluster.local").source.kind == "Service"


def test_a_name_resolves_as_istio_reads_it_else_as_it_stands() -> None:
    world = World().apply((ENTRY % ("db", "")).replace("db.mesh", "mysql"))
    resolve = services.resolve
    assert world.engine(resolve, "mysql", "shop") == "mysql"
    world.apply(service("mysql", namespace="shop"))
    assert world.engine(resolve, "mysql", "shop") == "mysql.shop.svc.cluster.local"
    assert world.engine(resolve, "unknown", "shop") == "unknown.shop.svc.cluster.local"

"""Mistakes that only all objects together show."""

import pytest

from isthmus.api.meta import Key
from isthmus.mesh.analyse import problems
from makers import BOOKINFO, World, service


def _texts(world: World, kind: str, name: str, namespace: str = "bookinfo") -> list[str]:
    found = world.engine(problems).get(Key(kind, namespace, name), ())
    assert all(problem.severity == "warning" for problem in found)
    return [str(problem) for problem in found]


def _virtual_service(spec: str, name: str = "vs") -> str:
    return (
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
        f"metadata: {{name: {name}, namespace: bookinfo}}\nspec: {spec}\n"
    )


def test_a_sound_world_has_no_problems() -> None:
    assert World().apply(BOOKINFO).engine(problems) == {}


@pytest.mark.parametrize(
    ("destination", "field", "words"),
    [
        ("{host: nowhere}", "host", "no service has the host nowhere.bookinfo.svc.cluster.local"),
        ("{host: reviews.bookinfo}", "host", "did you mean reviews.bookinfo.svc.cluster.local?"),
        ("{host: reviews, port: {number: 81}}", "port.number", "has no port 81 (it has 9080)"),
        ("{host: reviews, subset: v9}", "subset", "no DestinationRule defines subset v9"),
    ],
)
def test_destinations_that_lead_nowhere(destination: str, field: str, words: str) -> None:
    world = World().apply(
        BOOKINFO,
        _virtual_service(f"{{hosts: [reviews], http: [{{route: [{{destination: {destination}}}]}}]}}"),
    )
    (text,) = _texts(world, "VirtualService", "vs")
    assert text.startswith(f"spec.http[0].route[0].destination.{field}: ")
    assert words in text


def test_hosts_that_do_not_exist_or_belong_to_another_rule() -> None:
    spec = "{hosts: [%s], http: [{route: [{destination: {host: reviews}}]}]}"
    world = World().apply(
        BOOKINFO,
        _virtual_service(spec % "nobody"),
        _virtual_service(spec % "reviews", "a"),
        _virtual_service(spec % "reviews", "b"),
    )
    assert "no service has the host nobody" in _texts(world, "VirtualService", "vs")[0]
    assert _texts(world, "VirtualService", "a") == []
    assert "VirtualService/bookinfo/a already routes" in _texts(world, "VirtualService", "b")[0]


def test_destination_rules_without_a_host_or_with_empty_subsets() -> None:
    rule = (
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
        "metadata: {name: %s, namespace: bookinfo}\n"
        "spec: {host: %s, subsets: [{name: v9, labels: {version: v9}}, {name: v1, labels: {version: v1}}]}\n"
    )
    world = World().apply(BOOKINFO, rule % ("lost", "nobody"), rule % ("reviews", "reviews"))
    assert "no service has the host nobody" in _texts(world, "DestinationRule", "lost")[0]
    (text,) = _texts(world, "DestinationRule", "reviews")
    assert "no endpoint of reviews.bookinfo.svc.cluster.local has the labels version=v9" in text


def test_services_without_endpoints_say_why() -> None:
    world = World().apply(service("a", vip="240.240.1.1"), service("b").replace("{app: b}", "{}"))
    assert "no WorkloadEntry in namespace bookinfo has the labels app=a" in _texts(world, "Service", "a")[0]
    assert "it selects no workloads" in _texts(world, "Service", "b")[0]


def test_one_host_declared_twice() -> None:
    entry = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: twice, namespace: bookinfo}
spec:
  hosts: [reviews.bookinfo.svc.cluster.local]
  ports: [{number: 80, name: http}]
  resolution: STATIC
"""
    world = World().apply(BOOKINFO, entry)
    assert "already declared by Service/bookinfo/reviews" in _texts(world, "ServiceEntry", "twice")[0]


def test_tcp_that_cannot_be_captured() -> None:
    world = World().apply(service("db", 3306, port_name="tcp"))
    assert any("has no virtual address" in text for text in _texts(world, "Service", "db"))


def test_endpoints_that_only_the_mesh_knows_by_name() -> None:
    entry = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: named, namespace: bookinfo}
spec:
  hosts: [named.example.com]
  resolution: DNS
  endpoints: [{address: db.example.com}, {address: mysqldb.bookinfo.svc.cluster.local}]
  ports: [{number: 80, name: http}]
"""
    (told,) = _texts(World().apply(BOOKINFO, entry), "ServiceEntry", "named")
    assert told.startswith(
        "spec.endpoints[1].address: Envoy asks DNS for mysqldb.bookinfo.svc.cluster.local, which the mesh"
    )

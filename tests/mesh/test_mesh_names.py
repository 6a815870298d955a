"""Which names a VM's resolver answers, and which addresses Envoy takes."""

from isthmus.mesh.model import Scope
from isthmus.mesh.names import capture_prefixes, name_table
from makers import BOOKINFO, World, service, workload

ENTRIES = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: given, namespace: bookinfo}
spec:
  hosts: [db.example.com, "*.example.org"]
  addresses: [10.9.9.9, 10.8.0.0/16, 'fd00:1::1']
  ports: [{number: 80, name: http}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: real, namespace: bookinfo}
spec:
  hosts: [real.example.com]
  addresses: [240.240.7.7]
  ports: [{number: 80, name: http}]
  resolution: DNS
"""


def test_names_of_services_in_all_spellings() -> None:
    table = dict(World().apply(BOOKINFO).engine(name_table, Scope("bookinfo")))
    both = ("240.240.0.5", "2001:2::5")
    for name in ("mysqldb", "mysqldb.bookinfo", "mysqldb.bookinfo.svc", "mysqldb.bookinfo.svc.cluster.local"):
        assert table[name] == both
    assert "isthmus" not in table
    assert table["isthmus.isthmus-system"] == ("240.240.0.9", "2001:2::9")


def test_other_namespaces_have_no_bare_names() -> None:
    table = dict(World().apply(BOOKINFO).engine(name_table, Scope("other")))
    assert "mysqldb" not in table
    assert "mysqldb.bookinfo" in table


def test_a_headless_service_has_the_addresses_of_its_workloads() -> None:
    world = World().apply(
        service("db", vip="None"), workload("db-1", "10.0.0.2"), workload("db-2", "10.0.0.1")
    )
    table = dict(world.engine(name_table, Scope("bookinfo")))
    assert table["db.bookinfo"] == ("10.0.0.1", "10.0.0.2")


def test_hosts_that_envoy_asks_dns_for_have_their_virtual_address() -> None:
    table = dict(World().apply(ENTRIES).engine(name_table, Scope("bookinfo")))
    assert table["real.example.com"] == ("240.240.7.7",)
    assert table["db.example.com"] == ("10.9.9.9", "fd00:1::1")
    assert table["*.example.org"] == ("10.9.9.9", "fd00:1::1")


def test_given_addresses_are_captured_beside_the_ranges() -> None:
    world = World().apply(BOOKINFO, ENTRIES)
    assert world.engine(capture_prefixes, Scope("bookinfo")) == (
        "240.240.0.0/16",
        "2001:2::/48",
        "10.8.0.0/16",
        "10.9.9.9/32",
        "fd00:1::1/128",
    )

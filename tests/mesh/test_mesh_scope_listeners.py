"""Which listener each service has, who shares one, and who loses it."""

import pytest

from isthmus.api.meta import Key
from isthmus.mesh import scope as scopes
from isthmus.mesh.analyse import problems
from isthmus.mesh.model import Scope
from isthmus.mesh.scope_listeners import Chain, Plan, plan
from makers import World, service, workload

DB = Key("WorkloadEntry", "shop", "db-1")
VM = workload("db-1", "10.0.0.1", namespace="shop")


def entry(name: str, ports: str, *, addresses: str = "", resolution: str = "NONE", hosts: str = "") -> str:
    return (
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"
        f"metadata: {{name: {name}, namespace: shop}}\n"
        f"spec: {{hosts: [{hosts or name + '.example'}], addresses: [{addresses}], resolution: {resolution}, "
        f"ports: [{ports}]}}\n"
    )


def _port(number: int, protocol: str) -> str:
    return f"{{number: {number}, name: p{number}, protocol: {protocol}}}"


def _plan(*objects: str, families: tuple[str, ...] = ("IPv4", "IPv6")) -> Plan:
    return World().apply(*objects).engine(plan, Scope("shop", families=families))


def _chains(found: Plan, name: str) -> list[Chain]:
    return [chain for listener in found.listeners if listener.name == name for chain in listener.chains]


def test_http_shares_and_tcp_has_its_own() -> None:
    found = _plan(
        service("a", 80, vip="240.240.0.1", namespace="shop"),
        service("b", 80, vip="240.240.0.2", namespace="shop"),
        service("c", 3306, vip="240.240.0.3", namespace="shop", port_name="mysql"),
    )
    assert [listener.name for listener in found.listeners] == ["0.0.0.0_80", "240.240.0.3_3306"]
    assert found.listeners[0].binds == ("0.0.0.0", "::")
    assert {key.name for key in found.listeners[0].sources} == {"a", "b"}
    assert [(c.routes, c.sniffed) for c in _chains(found, "0.0.0.0_80")] == [("80", True)]
    assert found.losses == ()


@pytest.mark.parametrize(
    ("families", "names"),
    [
        (("IPv4",), ["0.0.0.0_80", "240.240.0.3_3306"]),
        (("IPv6",), ["2001:2::3_3306", "::_80"]),
        (("IPv4", "IPv6"), ["0.0.0.0_80", "240.240.0.3_3306"]),
    ],
)
def test_address_families(families: tuple[str, ...], names: list[str]) -> None:
    both = """
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec:
  clusterIPs: [240.240.0.3, "2001:2::3"]
  ports: [{name: mysql, port: 3306}, {name: http, port: 80}]
"""
    assert [listener.name for listener in _plan(both, families=families).listeners] == names


def test_a_port_that_nobody_named_is_tcp_and_http() -> None:
    found = _plan(service("a", 81, vip="240.240.0.1", namespace="shop", port_name="x"))
    tcp, http = _chains(found, "240.240.0.1_81")
    assert tcp.takes_all
    assert (http.routes, http.sniffed) == ("a.shop.svc.cluster.local:81", True)


def test_http_and_tcp_without_addresses_share_a_bind() -> None:
    found = _plan(entry("a", _port(9000, "TCP")), entry("b", _port(9000, "HTTP")))
    assert [(c.service, c.sniffed) for c in _chains(found, "0.0.0.0_9000")] == [
        ("a.example", False),
        ("b.example", True),
    ]


def test_of_two_that_nothing_tells_apart_the_first_has_the_place() -> None:
    world = World().apply(VM, entry("a", _port(9000, "TCP")), entry("b", _port(9000, "TCP")))
    scope = world.engine(scopes.scope_of, DB)
    assert scope is not None
    (lost,) = world.engine(plan, scope).losses
    assert (lost.loser.name, lost.winner.name, lost.listener) == ("b", "a", "0.0.0.0_9000")
    told = [str(problem) for problem in world.engine(problems)[Key("ServiceEntry", "shop", "b")]]
    assert any("b.example:9000 has no place on listener 0.0.0.0_9000" in text for text in told)


def test_mysql_shares_with_nothing() -> None:
    found = _plan(entry("a", _port(9000, "HTTP")), entry("b", _port(9000, "MySQL")))
    assert [chain.service for chain in _chains(found, "0.0.0.0_9000")] == ["a.example"]
    assert [loss.reason for loss in found.losses] == ["MySQL and MongoDB share a bind with nothing else"]


def test_tls_without_addresses_is_told_by_server_name() -> None:
    found = _plan(entry("a", _port(443, "TLS")), entry("b", _port(443, "HTTPS")))
    assert [chain.sni for chain in _chains(found, "0.0.0.0_443")] == [("a.example",), ("b.example",)]


def test_a_tls_rule_for_some_addresses_leaves_the_others_to_the_next() -> None:
    rule = """---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v, namespace: shop}
spec:
  hosts: [a.example]
  tls:
  - match: [{sniHosts: [a.example], destinationSubnets: [10.1.1.2/32]}]
    route: [{destination: {host: b.example}}]
  - {match: [{sniHosts: [a.example]}], route: [{destination: {host: a.example}}]}
"""
    found = _plan(
        entry("a", _port(443, "TLS"), addresses="10.1.1.1"),
        entry("b", _port(443, "TLS"), hosts="b.example"),
        rule,
    )
    chains = _chains(found, "10.1.1.1_443")
    assert [(chain.sni, chain.ranges, chain.destinations[0].host) for chain in chains] == [
        (("a.example",), ("10.1.1.2/32",), "b.example"),
        (("a.example",), (), "a.example"),
    ]


def test_ranges_are_told_apart_and_the_same_range_is_not() -> None:
    found = _plan(
        entry("a", _port(9, "TCP"), addresses="10.1.0.0/16"),
        entry("b", _port(9, "TCP"), addresses="10.1.2.0/24"),
        entry("c", _port(9, "TCP"), addresses="10.1.77.0/16"),
    )
    assert [chain.ranges for chain in _chains(found, "0.0.0.0_9")] == [("10.1.0.0/16",), ("10.1.2.0/24",)]
    assert [loss.loser.name for loss in found.losses] == ["c"]


def test_each_given_address_has_a_listener() -> None:
    found = _plan(
        entry("a", _port(9, "TCP"), addresses="10.1.1.1"),
        entry("b", _port(9, "TCP"), addresses="10.2.2.2, 10.1.1.1"),
    )
    assert [chain.service for chain in _chains(found, "10.1.1.1_9")] == ["a.example"]
    assert [chain.service for chain in _chains(found, "10.2.2.2_9")] == ["b.example"]


def test_udp_and_the_sidecars_own_ports_are_left_alone() -> None:
    udp = """
apiVersion: v1
kind: Service
metadata: {name: dns, namespace: shop}
spec: {clusterIP: 240.240.0.1, ports: [{name: dns, port: 53, protocol: UDP}, {name: http, port: 15001}]}
"""
    assert _plan(udp).listeners == ()


def test_a_way_out_of_its_own_has_its_port_for_itself() -> None:
    sidecar = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec:
  egress:
  - port: {number: 80, protocol: HTTP, name: http}
    hosts: ["./a.shop.svc.cluster.local"]
  - hosts: ["./*"]
"""
    world = World().apply(
        VM,
        sidecar,
        service("a", 80, vip="240.240.0.1", namespace="shop"),
        service("b", 80, vip="240.240.0.2", namespace="shop"),
        service("c", 81, vip="240.240.0.3", namespace="shop"),
    )
    scope = world.engine(scopes.scope_of, DB)
    assert scope is not None
    by_name = {listener.name: listener for listener in world.engine(plan, scope).listeners}
    assert {name: {key.name for key in each.sources} for name, each in by_name.items()} == {
        "0.0.0.0_80": {"a"},
        "0.0.0.0_81": {"c"},
    }

"""VirtualServices -> where connections go: tcp rules by address, tls rules by server name."""

from isthmus.mesh import routing_l4
from isthmus.mesh.model import Scope
from isthmus.mesh.routing_table import Caller, L4Route
from makers import World, service

HOST = "db.bookinfo.svc.cluster.local"
SCOPE = Scope("bookinfo")
CALLER = Caller("bookinfo")
DB = service("db", 3306, vip="240.240.0.1", port_name="mysql")


def _virtual_service(name: str, spec: str, *, namespace: str = "bookinfo", created: str = "2020") -> str:
    return (
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
        f"metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '{created}'}}\nspec: {spec}\n"
    )


def _to(subset: str) -> str:
    return f"route: [{{destination: {{host: db, subset: {subset}}}}}]"


def _shown(routes: tuple[L4Route, ...]) -> list[tuple[str, str, str]]:
    return [(",".join(r.sni_hosts), ",".join(r.subnets), r.destinations[0].subset) for r in routes]


def _tcp(world: World, port: int = 3306, host: str = HOST, caller: Caller = CALLER) -> list[tuple[str, str]]:
    rules = world.engine(routing_l4.rules_for, SCOPE, 0, host)
    return [row[1:] for row in _shown(world.engine(routing_l4.tcp_routes, caller, rules, host, port))]


def _tls(
    world: World, port: int = 443, host: str = HOST, caller: Caller = CALLER
) -> list[tuple[str, str, str]]:
    rules = world.engine(routing_l4.rules_for, SCOPE, 0, host)
    return _shown(world.engine(routing_l4.tls_routes, caller, rules, host, port))


def test_without_rules_connections_go_to_the_host() -> None:
    world = World().apply(DB)
    (route,) = world.engine(routing_l4.tcp_routes, CALLER, (), HOST, 3306)
    assert (route.destinations[0].host, route.destinations[0].port, route.source) == (HOST, 3306, None)
    (route,) = world.engine(routing_l4.tls_routes, CALLER, (), HOST, 443)
    assert (route.destinations[0].host, route.sni_hosts) == (HOST, ())


def test_by_port_caller_and_gateway_the_first_that_fits_takes_all() -> None:
    world = World().apply(
        DB,
        _virtual_service(
            "r",
            f"""
  hosts: [db]
  gateways: [mesh, door]
  tcp:
  - {{match: [{{port: 1}}], {_to("port")}}}
  - {{match: [{{sourceLabels: {{app: web}}}}], {_to("labels")}}}
  - {{match: [{{sourceNamespace: shop}}], {_to("namespace")}}}
  - {{match: [{{gateways: [door]}}], {_to("door")}}}
  - {{match: [{{gateways: [mesh], port: 3306}}, {{port: 7}}], {_to("mesh")}}}
  - {{{_to("rest")}}}
  - {{{_to("never")}}}
""",
        ),
    )
    assert _tcp(world) == [("", "mesh")]
    assert _tcp(world, 1) == [("", "port")]
    assert _tcp(world, 9) == [("", "rest")]
    assert _tcp(world, caller=Caller("bookinfo", (("app", "web"),))) == [("", "labels")]
    assert _tcp(world, caller=Caller("shop")) == [("", "namespace")]
    assert _tcp(world, caller=Caller("bookinfo", gateway="bookinfo/door")) == [("", "door")]


def test_addresses_stand_before_the_rest() -> None:
    world = World().apply(
        DB,
        _virtual_service(
            "r",
            f"""
  hosts: [db]
  tcp:
  - {{match: [{{destinationSubnets: [10.0.0.0/8]}}, {{destinationSubnets: [1.1.1.1, 2.2.2.2], port: 3306}}],
      {_to("near")}}}
  - {{match: [{{destinationSubnets: [10.1.0.0/16], port: 5}}], {_to("never")}}}
  - {{match: [{{destinationSubnets: [fd00::/8]}}], {_to("six")}}}
""",
        ),
    )
    assert _tcp(world) == [("10.0.0.0/8,1.1.1.1,2.2.2.2", "near"), ("fd00::/8", "six"), ("", "")]


def test_every_virtual_service_that_covers_the_host_is_asked_in_order() -> None:
    world = World().apply(
        DB,
        _virtual_service("wide", f"{{hosts: ['*.local'], tcp: [{{{_to('wide')}}}]}}", created="2019"),
        _virtual_service("exact", f"{{hosts: [db], tcp: [{{{_to('exact')}}}]}}", created="2021"),
        _virtual_service(
            "http", "{hosts: [db], http: [{route: [{destination: {host: db}}]}]}", created="2018"
        ),
    )
    assert _tcp(world) == [("", "wide")]
    rules = world.engine(routing_l4.rules_for, SCOPE, 0, HOST)
    assert [key.name for key in rules] == ["wide", "exact"]
    assert world.engine(routing_l4.rules_for, SCOPE, 0, "elsewhere.example.com") == ()


def test_a_destination_without_a_port_is_the_hosts_only_one() -> None:
    world = World().apply(
        DB,
        service("web", 80),
        _virtual_service("r", "{hosts: [db], tcp: [{route: [{destination: {host: web}}]}]}"),
    )
    rules = world.engine(routing_l4.rules_for, SCOPE, 0, HOST)
    (route,) = world.engine(routing_l4.tcp_routes, CALLER, rules, HOST, 3306)
    assert (route.destinations[0].host, route.destinations[0].port) == ("web.bookinfo.svc.cluster.local", 80)


def test_server_names_and_no_two_routes_for_the_same() -> None:
    world = World().apply(
        DB,
        _virtual_service(
            "r",
            f"""
  hosts: [db]
  tls:
  - {{match: [{{sniHosts: [a.com, b.com]}}, {{sniHosts: [c.com], port: 443}}], {_to("one")}}}
  - {{match: [{{sniHosts: [a.com, b.com]}}], {_to("again")}}}
  - {{match: [{{sniHosts: [d.com], port: 8443}}], {_to("port")}}}
  - {{match: [{{sniHosts: [e.com], sourceLabels: {{app: web}}}}], {_to("labels")}}}
  - {{match: [{{sniHosts: ['*.com'], destinationSubnets: [10.0.0.0/8]}}], {_to("net")}}}
""",
        ),
    )
    assert _tls(world) == [("a.com,b.com", "", "one"), ("c.com", "", "one"), ("*.com", "10.0.0.0/8", "net")]
    assert ("d.com", "", "port") in _tls(world, 8443)
    assert ("e.com", "", "labels") in _tls(world, caller=Caller("bookinfo", (("app", "web"),)))

"""VirtualServices and DestinationRules -> rules for a host and port."""

from isthmus.api.meta import Key
from isthmus.mesh import destinations, routing
from isthmus.mesh.model import Destination, RouteTable, Subset
from makers import World, service

HOST = "reviews.bookinfo.svc.cluster.local"


def _virtual_service(name: str, spec: str, *, namespace: str = "bookinfo", created: str = "") -> str:
    stamp = f", creationTimestamp: '{created}'" if created else ""
    return (
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
        f"metadata: {{name: {name}, namespace: {namespace}{stamp}}}\nspec: {spec}\n"
    )


def _destination_rule(name: str, spec: str, *, namespace: str = "bookinfo") -> str:
    return (
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )


def _governing(world: World, viewer: str = "bookinfo", host: str = HOST) -> str:
    key = world.engine(routing.governing, viewer, host)
    return key.name if key else ""


def _table(world: World, name: str, port: int = 9080) -> RouteTable:
    return world.engine(routing.route_table, Key("VirtualService", "bookinfo", name), HOST, port)


ONE = "http: [{route: [{destination: {host: reviews}}]}]"


def test_the_most_specific_then_the_oldest_rule_governs() -> None:
    world = World().apply(
        service("reviews"),
        _virtual_service("wide", f"{{hosts: ['*.bookinfo.svc.cluster.local'], {ONE}}}", created="2020"),
        _virtual_service("young", f"{{hosts: [reviews], {ONE}}}", created="2022"),
        _virtual_service("old", f"{{hosts: [{HOST}], {ONE}}}", created="2021"),
    )
    assert _governing(world) == "old"
    world.delete("VirtualService", "bookinfo", "old")
    assert _governing(world) == "young"
    world.delete("VirtualService", "bookinfo", "young")
    assert _governing(world) == "wide"
    assert _governing(world, host="api.example.com") == ""


def test_a_rule_is_seen_where_it_is_exported_to() -> None:
    world = World().apply(
        _virtual_service("own", f"{{hosts: [reviews], exportTo: [.], {ONE}}}"),
        _virtual_service("gate", f"{{hosts: [reviews], gateways: [other], {ONE}}}", created="2000"),
    )
    assert _governing(world) == "own"
    assert _governing(world, "elsewhere") == ""


def test_rules_keep_their_order_and_nothing_follows_one_that_always_holds() -> None:
    world = World().apply(
        service("reviews"),
        _virtual_service(
            "r",
            """
  hosts: [reviews]
  http:
  - {name: other-port, match: [{port: 81}], route: [{destination: {host: reviews, subset: x}}]}
  - {name: a, match: [{name: m, uri: {prefix: /a}}, {uri: {exact: /b}, port: 9080}],
     route: [{destination: {host: reviews, subset: v2}}]}
  - {name: rest, match: [{port: 9080}], route: [{destination: {host: ratings.example, port: {number: 5}}}]}
  - {name: never, route: [{destination: {host: reviews}}]}
""",
        ),
    )
    rules = _table(world, "r").rules
    assert rules is not None
    assert [rule.name for rule in rules] == ["a.m", "a", "rest"]
    assert rules[0].destinations == (Destination(HOST, 9080, "v2", 0),)
    assert rules[2].match is None
    assert rules[2].destinations == (Destination("ratings.example", 5, "", 0),)
    other = _table(world, "r", 81).rules
    assert other is not None
    assert [rule.name for rule in other] == ["other-port"]
    # the service has one port, and that is where a destination without a port goes
    assert other[0].destinations[0].port == 9080


def test_a_rule_with_a_bad_expression_loses_itself_only() -> None:
    world = World().apply(
        _virtual_service(
            "r",
            """
  hosts: [reviews]
  http:
  - {name: bad, match: [{headers: {x: {regex: "a(?=b)"}}}], route: [{destination: {host: reviews}}]}
  - {name: worse, match: [{uri: {regex: "["}}], route: [{destination: {host: reviews}}]}
  - {name: good, match: [{uri: {regex: "/[0-9]+"}}], route: [{destination: {host: reviews}}]}
""",
        )
    )
    rules = _table(world, "r").rules
    assert rules is not None
    assert [rule.name for rule in rules] == ["good"]
    judged = world.engine(routing.usable_routes, Key("VirtualService", "bookinfo", "r"))
    assert [problem.field for problem in judged.problems] == [
        "spec.http[0].match[0].headers[x].regex",
        "spec.http[1].match[0].uri.regex",
    ]


def test_tcp_rules_choose_by_port() -> None:
    world = World().apply(
        _virtual_service(
            "r",
            """
  hosts: [reviews]
  tcp:
  - {match: [{port: 1}], route: [{destination: {host: reviews, subset: one}}]}
  - {match: [{port: 2}], route: [{destination: {host: reviews, subset: a}, weight: 3},
                                  {destination: {host: reviews, subset: b}, weight: 1}]}
""",
        )
    )
    key = Key("VirtualService", "bookinfo", "r")
    found = world.engine(routing.tcp_table, key, HOST, 2)
    assert [(d.subset, d.weight) for d in found.destinations] == [("a", 3), ("b", 1)]
    assert world.engine(routing.tcp_table, key, HOST, 3).destinations == (Destination(HOST, 3, "", 1),)
    assert world.engine(routing.tcp_table, None, HOST, 3).sources == ()


def test_destination_rules_of_the_caller_then_the_service_then_the_root() -> None:
    world = World().apply(
        service("reviews"),
        _destination_rule("root", "{host: '*.local'}", namespace="isthmus-system"),
        _destination_rule("own", "{host: reviews}"),
        _destination_rule("caller", f"{{host: {HOST}}}", namespace="client"),
        _destination_rule("hidden", "{host: ratings, exportTo: [.]}"),
        service("ratings"),
    )

    def rules(viewer: str, host: str = HOST) -> list[str]:
        return [key.name for key in world.engine(destinations.rules_for, viewer, host)]

    assert rules("client") == ["caller"]
    assert rules("other") == ["own"]
    assert rules("bookinfo") == ["own"]
    assert rules("bookinfo", "ratings.bookinfo.svc.cluster.local") == ["hidden"]
    assert rules("other", "ratings.bookinfo.svc.cluster.local") == ["root"]


def test_rules_of_one_namespace_add_up() -> None:
    world = World().apply(
        _destination_rule("a", "{host: reviews, subsets: [{name: v1, labels: {version: v1}}]}"),
        _destination_rule(
            "b",
            """
  host: reviews
  subsets: [{name: v1, labels: {version: other}}, {name: v2, labels: {version: v2}}]
  trafficPolicy: {tls: {mode: DISABLE}}
""",
        ),
    )
    keys = world.engine(destinations.rules_for, "bookinfo", HOST)
    assert world.engine(destinations.subsets, keys) == (
        Subset("v1", (("version", "v1"),)),
        Subset("v2", (("version", "v2"),)),
    )
    policy = world.engine(destinations.policy, keys, "", 9080)
    assert policy.tls is not None


def test_subset_sections_replace_and_port_settings_inherit_nothing() -> None:
    world = World().apply(
        _destination_rule(
            "r",
            """
  host: reviews
  trafficPolicy:
    loadBalancer: {simple: RANDOM}
    tls: {mode: DISABLE}
    portLevelSettings: [{port: {number: 81}, loadBalancer: {simple: ROUND_ROBIN}}]
  subsets: [{name: v1, trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}}, {name: v2}]
""",
        )
    )
    keys = world.engine(destinations.rules_for, "bookinfo", HOST)

    def said(subset: str, port: int) -> tuple[str | None, bool]:
        policy = world.engine(destinations.policy, keys, subset, port)
        return policy.load_balancer.simple if policy.load_balancer else None, policy.tls is not None

    assert said("", 80) == ("RANDOM", True)
    assert said("v1", 80) == ("LEAST_REQUEST", True)
    assert said("v2", 80) == ("RANDOM", True)
    assert said("v1", 81) == ("ROUND_ROBIN", False)

"""VirtualServices and DestinationRules -> rules for a host and port."""

import pytest

from isthmus.api.meta import Key
from isthmus.api.shapes import Percent
from isthmus.mesh import destinations, routing
from isthmus.mesh.model import Destination, Subset
from isthmus.mesh.routing_rules import http_rules
from isthmus.mesh.routing_table import MESH, Caller, HttpRule, Mirror
from makers import World, service

HOST = "reviews.bookinfo.svc.cluster.local"
CALLER = Caller("bookinfo")


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


def _visible(world: World, viewer: str = "bookinfo", gateway: str = MESH) -> list[str]:
    return [key.name for key in world.engine(routing.visible_rules, viewer, gateway)]


def _table(world: World, name: str, port: int = 9080, caller: Caller = CALLER) -> tuple[HttpRule, ...]:
    return world.engine(routing.http_table, Key("VirtualService", "bookinfo", name), caller, port)


def _routed(world: World, name: str, port: int = 9080, caller: Caller = CALLER) -> list[tuple[str, str]]:
    """Name and first destination's subset of each rule."""
    return [(rule.name, rule.destinations[0].subset) for rule in _table(world, name, port, caller)]


ONE = "http: [{route: [{destination: {host: reviews}}]}]"


def test_private_rules_come_before_exported_ones_and_those_before_public_ones() -> None:
    world = World().apply(
        _virtual_service("public", f"{{hosts: [reviews], {ONE}}}", created="2020"),
        _virtual_service("star", f"{{hosts: [reviews], exportTo: ['*'], {ONE}}}", created="2019"),
        _virtual_service("own", f"{{hosts: [reviews], exportTo: [.], {ONE}}}", created="2023"),
        _virtual_service(
            "other", f"{{hosts: [{HOST}], exportTo: [bookinfo, x], {ONE}}}", namespace="shop", created="2022"
        ),
        _virtual_service("hidden", f"{{hosts: [reviews], exportTo: [x], {ONE}}}", created="2018"),
        _virtual_service("gate", f"{{hosts: [reviews], gateways: [door], {ONE}}}", created="2017"),
        _virtual_service("both", f"{{hosts: [reviews], gateways: [shop/door, mesh], {ONE}}}", created="2016"),
    )
    assert _visible(world) == ["own", "other", "both", "star", "public"]
    assert _visible(world, "x") == ["hidden", "other", "both", "star", "public"]
    assert _visible(world, gateway="bookinfo/door") == ["gate"]
    assert _visible(world, gateway="shop/door") == ["both"]


def test_of_one_age_names_decide_then_namespaces() -> None:
    world = World().apply(
        _virtual_service("b", f"{{hosts: [reviews], {ONE}}}", namespace="a"),
        _virtual_service("a", f"{{hosts: [reviews], {ONE}}}", namespace="z"),
        _virtual_service("a", f"{{hosts: [reviews], {ONE}}}", namespace="b"),
    )
    found = world.engine(routing.visible_rules, "x", MESH)
    assert [(key.name, key.namespace) for key in found] == [("a", "b"), ("a", "z"), ("b", "a")]


def test_rules_keep_their_order_and_nothing_follows_one_that_always_holds() -> None:
    world = World().apply(
        service("reviews"),
        service("single", 7),
        _virtual_service(
            "r",
            """
  hosts: [reviews]
  http:
  - {name: other-port, match: [{port: 81}], route: [{destination: {host: reviews, subset: x}}]}
  - {name: a, match: [{name: m, uri: {prefix: /a}}, {uri: {exact: /b}, port: 9080}],
     route: [{destination: {host: reviews, subset: v2}}]}
  - {name: rest, match: [{port: 9080}], route: [{destination: {host: single}}]}
  - {name: never, route: [{destination: {host: reviews}}]}
""",
        ),
    )
    rules = _table(world, "r")
    assert [rule.name for rule in rules] == ["a.m", "a", "rest"]
    assert rules[0].destinations == (Destination(HOST, 9080, "v2", 0),)
    # a sidecar goes to the port that the request came to, also when the destination has another one only
    assert rules[2].destinations[0].port == 9080
    gateway = Caller("bookinfo", gateway="bookinfo/door")
    assert _table(world, "r", caller=gateway)[2].destinations[0].port == 7
    assert [rule.name for rule in _table(world, "r", 81)] == ["other-port"]


@pytest.mark.parametrize(
    ("match", "takes_all"),
    [
        ("{uri: {prefix: /}}", True),
        ("{uri: {regex: '.*'}}", True),
        ("{name: n, port: 9080, ignoreUriCase: true}", True),
        ("{uri: {prefix: /}, headers: {x: {}}}", False),
        ("{uri: {prefix: /}, queryParams: {x: {exact: y}}}", False),
        ("{withoutHeaders: {x: {}}}", False),
        ("{method: {exact: GET}}", False),
        ("{uri: {regex: '/.*'}}", False),
    ],
)
def test_what_takes_all_ends_the_rules(match: str, takes_all: bool) -> None:
    rules = f"[{{match: [{match}], {_to('a')}}}, {{{_to('b')}}}]"
    world = World().apply(_virtual_service("r", f"{{hosts: [reviews], http: {rules}}}"))
    assert len(_table(world, "r")) == (1 if takes_all else 2)


def _to(subset: str) -> str:
    return f"route: [{{destination: {{host: reviews, subset: {subset}}}}}]"


SOURCES = f"""
  hosts: [reviews]
  gateways: [mesh, door]
  http:
  - {{match: [{{sourceLabels: {{app: web, tier: front}}}}], {_to("labels")}}}
  - {{match: [{{sourceNamespace: shop}}], {_to("namespace")}}}
  - {{match: [{{gateways: [door]}}], {_to("door")}}}
  - {{match: [{{gateways: [mesh, shop/door], sourceLabels: {{app: nobody}}, uri: {{exact: /x}}}}],
      {_to("mesh")}}}
  - {{{_to("rest")}}}
"""


@pytest.mark.parametrize(
    ("caller", "subsets"),
    [
        (Caller("bookinfo"), ["mesh", "rest"]),
        (Caller("bookinfo", (("app", "web"),)), ["mesh", "rest"]),
        (Caller("bookinfo", (("app", "web"), ("tier", "front"))), ["labels"]),
        (Caller("shop"), ["namespace"]),
        (Caller("bookinfo", gateway="bookinfo/door"), ["door"]),
        (Caller("bookinfo", gateway="shop/door"), ["mesh", "rest"]),
    ],
)
def test_rules_for_some_callers(caller: Caller, subsets: list[str]) -> None:
    world = World().apply(service("reviews"), _virtual_service("r", SOURCES))
    key = Key("VirtualService", "bookinfo", "r")
    assert [rule.destinations[0].subset for rule in _table(world, "r", caller=caller)] == subsets
    narrow = world.engine(routing.narrowed, key, caller)
    assert _table(world, "r", caller=narrow) == _table(world, "r", caller=caller)


def test_a_rule_without_conditions_on_callers_sees_them_all_alike() -> None:
    world = World().apply(_virtual_service("r", f"{{hosts: [reviews], {ONE}}}"))
    caller = Caller("bookinfo", (("app", "web"),))
    assert world.engine(routing.narrowed, Key("VirtualService", "bookinfo", "r"), caller) == Caller("")


def test_copies() -> None:
    world = World().apply(
        service("reviews"),
        _virtual_service(
            "r",
            """
  hosts: [reviews]
  http:
  - {match: [{uri: {exact: /1}}], route: [{destination: {host: reviews}}],
     mirror: {host: reviews, subset: v2}}
  - {match: [{uri: {exact: /2}}], route: [{destination: {host: reviews}}], mirror: {host: reviews},
     mirrorPercentage: {value: 0}}
  - {match: [{uri: {exact: /3}}], route: [{destination: {host: reviews}}], mirror: {host: reviews},
     mirrorPercent: 7}
  - route: [{destination: {host: reviews}}]
    mirrors:
    - {destination: {host: ratings, port: {number: 1}}, percentage: {value: 12.5}}
    - {destination: {host: reviews, subset: v3}}
""",
        ),
    )
    found = [rule.mirrors for rule in _table(world, "r")]
    ratings = "ratings.bookinfo"  # there is no such service
    assert found == [
        (Mirror(HOST, 9080, "v2", None),),
        (),
        (Mirror(HOST, 9080, "", Percent(value=7)),),
        (Mirror(ratings, 1, "", Percent(value=12.5)), Mirror(HOST, 9080, "v3", None)),
    ]


def test_a_rule_that_envoy_would_refuse_loses_itself_only() -> None:
    world = World().apply(
        _virtual_service(
            "r",
            """
  hosts: [reviews]
  http:
  - {name: bad, match: [{headers: {x: {regex: "a(?=b)"}}}], route: [{destination: {host: reviews}}]}
  - {name: worse, match: [{uri: {regex: "["}}], route: [{destination: {host: reviews}}]}
  - {name: rewritten, match: [{uri: {prefix: /r}}], route: [{destination: {host: reviews}}],
     rewrite: {uriRegexRewrite: {match: 'a{1001}', rewrite: b}}}
  - {name: code, match: [{uri: {prefix: /c}}], redirect: {uri: /, redirectCode: 304}}
  - {name: good, match: [{uri: {regex: "/[0-9]+"}, headers: {x: {regex: '*'}}}],
     route: [{destination: {host: reviews}}]}
""",
        )
    )
    assert [rule.name for rule in _table(world, "r")] == ["good"]
    judged = world.engine(http_rules, Key("VirtualService", "bookinfo", "r"))
    assert [problem.field for problem in judged.problems] == [
        "spec.http[0].match[0].headers[x].regex",
        "spec.http[1].match[0].uri.regex",
        "spec.http[2].rewrite.uriRegexRewrite.match",
        "spec.http[3].redirect.redirectCode",
    ]


def test_a_name_for_another_host_leads_to_that_host() -> None:
    alias = """---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: bookinfo}
spec: {type: ExternalName, externalName: reviews.bookinfo.svc.cluster.local}
"""
    world = World().apply(
        service("reviews"),
        alias,
        _virtual_service("r", "{hosts: [ratings], http: [{route: [{destination: {host: alias}}]}]}"),
    )
    assert _table(world, "r")[0].destinations[0].host == HOST


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
    assert said("v1", 81) == ("LEAST_REQUEST", False)  # the subset is narrower than the port

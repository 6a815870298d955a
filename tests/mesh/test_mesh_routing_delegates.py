"""Roots and their delegates: one table, narrowed by both; who loses is told."""

import pytest

from isthmus.api.meta import Key
from isthmus.api.networking.virtual_service import HTTPMatchRequest, HTTPRoute
from isthmus.mesh import routing
from isthmus.mesh.routing_delegates import conflict
from isthmus.mesh.routing_problems import problems_of
from isthmus.mesh.routing_rules import http_rules, http_sources
from isthmus.mesh.routing_table import Caller
from makers import World, service


def _virtual_service(name: str, spec: str, namespace: str = "bookinfo") -> str:
    return (
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )


def _rules(world: World, name: str = "root") -> tuple[HTTPRoute, ...]:
    return world.engine(http_rules, Key("VirtualService", "bookinfo", name)).value


def _problems(world: World, name: str, namespace: str = "bookinfo") -> list[str]:
    return [str(problem) for problem in world.engine(problems_of, Key("VirtualService", namespace, name))]


ROOT = """
  hosts: [reviews]
  gateways: [door, mesh]
  http:
  - name: r
    match: [{uri: {prefix: /api}, headers: {a: {exact: "1"}}, name: m, gateways: [door]}]
    delegate: {name: leaf, namespace: shop}
    timeout: 5s
    headers: {request: {set: {x: root}}}
    mirror: {host: reviews, subset: copy}
  - {name: rest, route: [{destination: {host: reviews}}]}
"""
LEAF = """
  http:
  - name: one
    match: [{uri: {prefix: /api/one}, headers: {b: {exact: "2"}}, name: n}]
    route: [{destination: {host: ratings}}]
    timeout: 1s
  - {route: [{destination: {host: ratings, subset: all}}]}
  - {match: [{uri: {prefix: /other}}], route: [{destination: {host: ratings, subset: never}}]}
"""


def test_the_delegates_rules_under_the_roots_conditions() -> None:
    world = World().apply(
        service("reviews"),
        service("ratings", namespace="shop"),
        _virtual_service("root", ROOT),
        _virtual_service("leaf", LEAF, "shop"),
    )
    one, everything, rest = _rules(world)
    assert (one.name, everything.name, rest.name) == ("r-one", "r", "rest")
    (match,) = one.match
    assert (match.name, match.uri and match.uri.prefix) == ("m-n", "/api/one")
    assert sorted(match.headers) == ["a", "b"]
    assert match.gateways == ("bookinfo/door",)
    # names are read where they were written
    assert one.route[0].destination.host == "ratings.shop.svc.cluster.local"
    assert one.mirror
    assert one.mirror.host == "reviews.bookinfo.svc.cluster.local"
    # what the delegate says counts, else what the root says
    assert (one.timeout, everything.timeout) == ("1s", "5s")
    assert one.headers
    assert one.headers.request
    assert one.headers.request.set == {"x": "root"}
    assert everything.match[0].headers.keys() == {"a"}
    key = Key("VirtualService", "bookinfo", "root")
    assert world.engine(http_sources, key) == (key, Key("VirtualService", "shop", "leaf"))
    # the rule that the root excludes is told to the delegate, which lost
    (text,) = [p for p in _problems(world, "leaf", "shop") if "subset" not in p]
    assert text.startswith("spec.http[2].match: asks for what spec.http[0] of VirtualService/bookinfo/root")
    assert not [p for p in _problems(world, "root") if "delegate" in p]


def test_a_delegate_routes_nothing_by_itself() -> None:
    world = World().apply(service("ratings"), _virtual_service("leaf", LEAF))
    key = Key("VirtualService", "bookinfo", "leaf")
    assert world.engine(routing.http_table, key, Caller("bookinfo"), 9080) == ()
    assert "no VirtualService delegates to this one" in _problems(world, "leaf")[0]


@pytest.mark.parametrize(
    ("leaf", "words"),
    [
        ("", "there is no VirtualService/bookinfo/leaf"),
        ("{hosts: [ratings], http: [{route: [{destination: {host: ratings}}]}]}", "has hosts of its own"),
        ("{exportTo: [x], http: [{route: [{destination: {host: ratings}}]}]}", "is not exported to"),
    ],
)
def test_a_delegate_that_cannot_be_used_loses_its_rule_only(leaf: str, words: str) -> None:
    root = """
  hosts: [reviews]
  http: [{match: [{uri: {prefix: /a}}], delegate: {name: leaf}}, {route: [{destination: {host: reviews}}]}]
"""
    world = World().apply(service("reviews"), service("ratings"), _virtual_service("root", root))
    if leaf:
        world.apply(_virtual_service("leaf", leaf))
    assert len(_rules(world)) == 1
    (text,) = _problems(world, "root")
    assert text.startswith("spec.http[0].delegate: ")
    assert words in text


def test_cycles_of_delegates_end_where_they_begin() -> None:
    world = World().apply(
        service("reviews"),
        _virtual_service(
            "root", "{hosts: [reviews], http: [{delegate: {name: a}}, {delegate: {name: root}}]}"
        ),
        _virtual_service("a", "{http: [{delegate: {name: b}}, {route: [{destination: {host: reviews}}]}]}"),
        _virtual_service("b", "{http: [{delegate: {name: a}}]}"),
    )
    assert len(_rules(world)) == 1
    assert ["cannot continue in itself" in text for text in _problems(world, "root")] == [True]
    for name in ("a", "b"):
        assert "a delegate cannot delegate further" in _problems(world, name)[0]


def test_a_delegate_that_comes_and_goes() -> None:
    world = World().apply(service("reviews"), _virtual_service("root", ROOT))
    assert [rule.name for rule in _rules(world)] == ["rest"]
    world.apply(_virtual_service("leaf", LEAF, "shop"))
    assert [rule.name for rule in _rules(world)] == ["r-one", "r", "rest"]
    world.delete("VirtualService", "shop", "leaf")
    assert [rule.name for rule in _rules(world)] == ["rest"]


@pytest.mark.parametrize(
    ("root", "leaf", "excluded"),
    [
        ({}, {"uri": {"prefix": "/a"}}, False),
        ({"uri": {"prefix": "/a"}}, {}, False),
        ({"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/a/b"}}, False),
        ({"uri": {"prefix": "/a"}}, {"uri": {"exact": "/abc"}}, False),
        ({"uri": {"prefix": "/a/b"}}, {"uri": {"prefix": "/a"}}, True),
        ({"uri": {"exact": "/a"}}, {"uri": {"exact": "/a"}}, False),
        ({"uri": {"exact": "/a"}}, {"uri": {"prefix": "/a"}}, True),
        ({"uri": {"regex": "/a"}}, {"uri": {"exact": "/a"}}, True),
        ({"uri": {"prefix": "/a"}}, {"uri": {"regex": "/a.*"}}, True),
        ({"headers": {"x": {"exact": "1"}}}, {"headers": {"y": {"exact": "2"}}}, False),
        ({"headers": {"x": {"exact": "1"}}}, {"headers": {"x": {"exact": "2"}}}, True),
        ({"queryParams": {"x": {"exact": "1"}}}, {"queryParams": {"x": {"exact": "1"}}}, False),
        ({"withoutHeaders": {"x": {"prefix": "1"}}}, {"withoutHeaders": {"x": {"prefix": "2"}}}, True),
        ({"ignoreUriCase": True}, {}, True),
        ({"port": 80}, {"port": 80}, False),
        ({"port": 80}, {"port": 81}, True),
        ({"port": 80}, {}, False),
        ({"sourceNamespace": "a"}, {}, True),
        ({"sourceNamespace": "a"}, {"sourceNamespace": "a"}, False),
        ({"sourceLabels": {"a": "1"}}, {"sourceLabels": {"a": "2"}}, True),
        ({"sourceLabels": {"a": "1"}}, {"sourceLabels": {"b": "2"}}, False),
        ({"gateways": ["a", "b"]}, {"gateways": ["a"]}, False),
        ({"gateways": ["a"]}, {"gateways": ["a", "b"]}, True),
        ({"gateways": ["a"]}, {"gateways": ["b"]}, True),
    ],
)
def test_what_excludes_what(root: dict[str, object], leaf: dict[str, object], excluded: bool) -> None:
    assert conflict(HTTPMatchRequest.model_validate(root), HTTPMatchRequest.model_validate(leaf)) is excluded

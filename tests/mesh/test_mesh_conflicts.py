"""Of objects that want the same thing the loser says so, it alone, and nothing of it reaches anybody."""

import re

import pytest

from conflicts import BASE, CONFLICTS, Conflict, entry, thing
from isthmus.api.meta import Key, Problem
from isthmus.envoy.resource import TYPES
from isthmus.mesh.analyse import problems
from makers import World

PROXIES = ("vm-1", "vm-2", "gate")


def _key(name: str) -> Key:
    kind, _, bare = name.partition("/")
    return Key(kind, "shop", bare)


def _told(world: World) -> dict[Key, tuple[Problem, ...]]:
    return dict(world.engine(problems))


def _held(world: World) -> dict[tuple[str, str, str], bytes]:
    """Everything that every proxy should hold."""
    return {
        (proxy, type_url.rpartition(".")[2], name): resource.body
        for proxy in PROXIES
        for type_url in TYPES
        for name, resource in world.manifest(type_url, "shop", proxy).items()
    }


def _without(conflict: Conflict) -> World:
    return World().apply(BASE, *([conflict.before] if conflict.before else []))


@pytest.mark.parametrize("conflict", CONFLICTS, ids=str)
def test_the_loser_says_what_it_lost_and_nobody_else_does(conflict: Conflict) -> None:
    without, both = _told(_without(conflict)), _told(_without(conflict).apply(conflict.last))
    loser = _key(conflict.loser)
    assert {key: told for key, told in both.items() if key != loser} == {
        key: told for key, told in without.items() if key != loser
    }
    (problem,) = [each for each in both[loser] if conflict.says in each.text]
    assert problem.field == conflict.field
    assert conflict.hint in problem.hint


@pytest.mark.parametrize("conflict", CONFLICTS, ids=str)
def test_everybody_else_holds_what_he_would_hold_without_the_loser(conflict: Conflict) -> None:
    without = _held(_without(conflict))
    both = _held(_without(conflict).apply(conflict.last))
    if conflict.own:
        # its own name is known, and leads to the address that its author gave it
        without, both = (
            {name: body for name, body in held.items() if name[1] != "HostConfig"} for held in (without, both)
        )
    assert {name: both.get(name) for name in without} == without
    added = {name for _, _, name in both.keys() - without.keys()}
    assert not [name for name in added if not conflict.own or conflict.own not in name]


@pytest.mark.parametrize("conflict", [c for c in CONFLICTS if not c.gateway], ids=str)
def test_the_loser_counts_once_the_others_are_gone(conflict: Conflict) -> None:
    world = World().apply(BASE, conflict.before, conflict.last)
    before, told = _held(world), _told(world)
    (said,) = [each.text for each in told[_key(conflict.loser)] if conflict.says in each.text]
    winner = next(key for key in world.objects if re.search(rf"{key}\b", said))
    world.delete(winner.kind, winner.namespace, winner.name)
    assert not any(conflict.says in each.text for each in _told(world).get(_key(conflict.loser), ()))
    assert _held(world) != before


# who does not lose


STATIC = "resolution: STATIC, endpoints: [{address: 192.0.2.1}]"


@pytest.mark.parametrize(
    "other",
    [
        entry("two", STATIC.replace("2.1", "2.2"), "9000 TCP, 9001 TCP"),
        entry("two", "resolution: STATIC, workloadSelector: {labels: {app: b}}"),
        entry("two", STATIC, labels="team: x"),
        entry("two", f"{STATIC}, addresses: [198.51.100.2]", "9001 HTTP"),
    ],
)
def test_entries_that_can_be_put_together_lose_nothing(other: str) -> None:
    told = _told(World().apply(BASE, entry("one", STATIC), other))
    assert [each for key in (_key("ServiceEntry/one"), _key("ServiceEntry/two")) for each in told.get(key, ())
            if "counts" in each.text] == []  # fmt: skip


def test_entries_that_nobody_sees_both_of_are_both_what_they_say() -> None:
    one = entry("one", f"{STATIC}, exportTo: [shop]")
    two = entry("two", "resolution: DNS, exportTo: [web]", "9000 HTTP")
    told = _told(World().apply(BASE, one, two))
    assert [each for found in told.values() for each in found if "counts" in each.text] == []


def test_a_port_that_is_lost_takes_no_other_with_it() -> None:
    one = entry("one", f"{STATIC}, addresses: [198.51.100.1]")
    two = entry("two", STATIC.replace("2.1", "2.2"), "9000 HTTP, 9001 TCP")
    world = World().apply(BASE, one, two)
    held = {name: body for (proxy, _, name), body in _held(world).items() if proxy == "vm-1"}
    assert b"192.0.2.2" in held["outbound|9001||db.mesh"]
    assert "198.51.100.1_9000" in held
    assert b"192.0.2.2" not in held["outbound|9000||db.mesh"]
    assert _told(world)[_key("ServiceEntry/two")][0].field == "spec.ports[0]"


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("http: [{match: [{port: 81}], route: [{destination: {host: b}}]}]", "http: [{redirect: {uri: /}}]"),
        ("tcp: [{route: [{destination: {host: db}}]}]", "http: [{redirect: {uri: /}}]"),
    ],
)
def test_rules_that_leave_each_other_room(one: str, two: str) -> None:
    rules = [
        thing("VirtualService", name, f"hosts: [a], {spec}") for name, spec in (("one", one), ("two", two))
    ]
    told = _told(World().apply(BASE, *rules)).get(_key("VirtualService/two"), ())
    assert [each for each in told if "already routes" in each.text] == []


def test_the_first_rule_that_has_a_policy_says_it() -> None:
    rules = [
        thing("DestinationRule", name, f"host: a{spec}")
        for name, spec in (
            ("one", ", subsets: [{name: v1, labels: {app: a}}]"),
            ("two", ", trafficPolicy: {tls: {mode: DISABLE}}"),
            ("zwo", ", trafficPolicy: {tls: {mode: SIMPLE}}"),
        )
    ]
    told = _told(World().apply(BASE, *rules))
    assert _key("DestinationRule/two") not in told
    assert "DestinationRule/shop/two is older" in told[_key("DestinationRule/zwo")][0].text


def test_a_server_that_finds_no_place_takes_no_name_from_a_third() -> None:
    def gateway(name: str, server: str) -> str:
        tls = "tls: {mode: SIMPLE, credentialName: x}"
        return thing("Gateway", name, f"selector: {{istio: gate}}, servers: [{{{server}, {tls}}}]")

    port = "port: {number: 443, protocol: HTTPS, name: %s}, hosts: [%s]"
    taken = thing(
        "Gateway", "one",
        "selector: {istio: gate}, servers: [{port: {number: 444, protocol: TCP, name: t}, hosts: ['*']}]",
    )  # fmt: skip
    loser = gateway("two", port.replace("443", "444") % ("s", "c.example.com"))
    third = gateway("zwo", (port.replace("443", "444") % ("s", "c.example.com")))
    told = _told(World().apply(BASE, taken, loser, third))
    for name in ("two", "zwo"):
        assert any("by Gateway/shop/one" in each.text for each in told[_key(f"Gateway/{name}")])


# what wants itself, and what wants much


def test_rules_that_delegate_to_each_other_are_told_and_left_out() -> None:
    def rule(name: str, spec: str, leads: str = "") -> str:
        delegating = f"{{match: [{{uri: {{prefix: /x}}}}], delegate: {{name: {leads}}}}}, " if leads else ""
        return thing(
            "VirtualService", name, f"{spec}http: [{delegating}{{route: [{{destination: {{host: b}}}}]}}]"
        )

    plain = World().apply(BASE, rule("root", "hosts: [a], "))
    circle = World().apply(
        BASE,
        rule("root", "hosts: [a], ", "root"),
        rule("one", "", "two"),
        rule("two", "", "one"),
        rule("other", "hosts: [b], "),
    )
    told = _told(circle)
    assert {key.name for key in told} == {"root", "one", "two"}
    assert all(each.hint for found in told.values() for each in found)
    assert "delegate" in told[_key("VirtualService/one")][0].field
    held = {name: body for name, body in _held(circle).items() if name[1] != "RouteConfiguration"}
    assert held == {name: body for name, body in _held(plain).items() if name[1] != "RouteConfiguration"}


def test_an_entry_of_another_namespace_counts_for_its_own_callers() -> None:
    one = entry("one", STATIC)
    two = entry("two", STATIC.replace("2.1", "2.2"), "9000 TCP, 9001 HTTP").replace(
        "namespace: shop", "namespace: web"
    )
    without, both = World().apply(BASE, one), World().apply(BASE, one, two)
    assert _held(both) == _held(without)
    told = _told(both)
    assert told[_key("ServiceEntry/one")] == _told(without)[_key("ServiceEntry/one")]
    (problem,) = told[Key("ServiceEntry", "web", "two")]
    assert "also declared by ServiceEntry/shop/one; this one counts for callers of web only" in problem.text
    assert "delete one of the two" in problem.hint


def test_many_rules_are_nobodys_loss() -> None:
    routes = ", ".join(
        f"{{match: [{{uri: {{prefix: /p{number}}}}}], route: [{{destination: {{host: a}}}}]}}"
        for number in range(2_000)
    )
    subsets = ", ".join(f"{{name: s{number}, labels: {{app: b}}}}" for number in range(200))
    plain = World().apply(BASE)
    many = World().apply(
        BASE,
        thing("VirtualService", "many", f"hosts: [a], http: [{routes}]"),
        thing("DestinationRule", "many", f"host: b, subsets: [{subsets}]"),
    )
    assert _told(many) == _told(plain)
    held, before = _held(many), _held(plain)
    changed = {name for name in before if held[name] != before[name]}
    assert {kind for _, kind, _ in changed} == {"RouteConfiguration"}
    added = {name for _, _, name in held.keys() - before.keys()}
    assert all("|s" in name for name in added)

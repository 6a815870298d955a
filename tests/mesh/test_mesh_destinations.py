"""DestinationRules: which of them a caller obeys, how they add up, what narrows what."""

import pytest

from isthmus.mesh import destinations
from isthmus.mesh.model import Subset
from makers import BOOKINFO, World

HOST = "reviews.bookinfo.svc.cluster.local"
ROOT = "isthmus-system"


def rule(name: str, spec: str, namespace: str = "bookinfo", created: str = "") -> str:
    """A DestinationRule."""
    stamp = f", creationTimestamp: '{created}'" if created else ""
    return (
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
        f"metadata: {{name: {name}, namespace: {namespace}{stamp}}}\nspec: {{{spec}}}\n"
    )


def _names(world: World, viewer: str = "bookinfo", host: str = HOST, **labels: str) -> list[str]:
    wanted = tuple(sorted(labels.items()))
    return [str(key).partition("/")[2] for key in world.engine(destinations.rules_for, viewer, host, wanted)]


# where rules are looked for


def test_the_callers_namespace_then_the_services_then_the_root() -> None:
    world = World().apply(
        BOOKINFO,
        rule("root", f"host: {HOST}", ROOT),
        rule("service", "host: reviews"),
        rule("caller", f"host: {HOST}", "shop"),
    )
    assert _names(world, "shop") == ["shop/caller"]
    assert _names(world, "other") == ["bookinfo/service"]
    world.delete("DestinationRule", "bookinfo", "service")
    assert _names(world, "other") == [f"{ROOT}/root"]
    assert _names(world) == [f"{ROOT}/root"]


def test_a_short_name_means_a_service_of_the_rules_own_namespace() -> None:
    world = World().apply(BOOKINFO, rule("caller", "host: reviews", "shop"))
    assert _names(world, "shop") == []


@pytest.mark.parametrize(
    ("export_to", "seen_by"),
    [
        ("[]", {"bookinfo", "shop", "other"}),
        ("['*']", {"bookinfo", "shop", "other"}),
        ("['.']", {"bookinfo"}),
        ("[bookinfo]", {"bookinfo"}),
        ("[shop]", {"shop"}),
        ("['.', shop]", {"bookinfo", "shop"}),
    ],
)
def test_export_to(export_to: str, seen_by: set[str]) -> None:
    world = World().apply(BOOKINFO, rule("r", f"host: reviews, exportTo: {export_to}"))
    assert {viewer for viewer in ("bookinfo", "shop", "other") if _names(world, viewer)} == seen_by


def test_a_private_rule_of_the_root_namespace_is_for_callers_there_and_comes_first() -> None:
    world = World().apply(
        BOOKINFO,
        rule("private", f"host: {HOST}, exportTo: ['.']", ROOT),
        rule("public", f"host: {HOST}", ROOT),
        rule("service", "host: reviews"),
    )
    assert _names(world, ROOT) == [f"{ROOT}/private"]
    world.delete("DestinationRule", ROOT, "private")
    assert _names(world, ROOT) == ["bookinfo/service"]


def test_the_most_specific_host_counts_and_hides_the_others() -> None:
    world = World().apply(
        BOOKINFO,
        rule("all", "host: '*'"),
        rule("domain", "host: '*.svc.cluster.local'"),
        rule("namespace", "host: '*.bookinfo.svc.cluster.local'"),
    )
    assert _names(world) == ["bookinfo/namespace"]
    assert _names(world, host="a.other.svc.cluster.local") == ["bookinfo/domain"]
    assert _names(world, host="example.com") == ["bookinfo/all"]
    world.apply(rule("exact", "host: reviews, exportTo: [elsewhere]"))
    assert _names(world) == ["bookinfo/namespace"]
    # what is exported elsewhere still hides the wider rules from those who look into this namespace
    assert _names(world, "shop") == []


# callers with labels


def test_a_rule_for_some_workloads_of_its_namespace() -> None:
    selector = "workloadSelector: {matchLabels: {app: productpage}}"
    world = World().apply(
        BOOKINFO, rule("z-some", f"host: reviews, {selector}"), rule("a-all", "host: reviews")
    )
    assert _names(world, app="productpage", version="v1") == ["bookinfo/z-some"]
    assert _names(world, app="ratings") == ["bookinfo/a-all"]
    assert _names(world, "shop", app="productpage") == ["bookinfo/a-all"]
    world.delete("DestinationRule", "bookinfo", "a-all")
    assert _names(world, app="ratings") == []
    assert _names(world, "shop", app="productpage") == []


def test_rules_for_the_same_workloads_add_up() -> None:
    selector = "workloadSelector: {matchLabels: {app: a}}"
    other = "workloadSelector: {matchLabels: {app: b}}"
    world = World().apply(
        BOOKINFO,
        rule("one", f"host: reviews, {selector}"),
        rule("two", f"host: reviews, {selector}"),
        rule("three", f"host: reviews, {other}"),
    )
    assert _names(world, app="a") == ["bookinfo/one", "bookinfo/two"]
    assert _names(world, app="b") == ["bookinfo/three"]


# adding up


def test_the_oldest_says_the_policy_and_each_adds_subsets() -> None:
    world = World().apply(
        BOOKINFO,
        rule(
            "z", "host: reviews, subsets: [{name: v1, labels: {version: v1}}]", created="2020-01-01T00:00:00Z"
        ),
        rule(
            "a",
            "host: reviews, trafficPolicy: {tls: {mode: DISABLE}}, "
            "subsets: [{name: v1, labels: {version: other}}, {name: v2, labels: {version: v2}}]",
            created="2021-01-01T00:00:00Z",
        ),
        rule("b", "host: reviews, trafficPolicy: {tls: {mode: SIMPLE}}", created="2022-01-01T00:00:00Z"),
    )
    keys = world.engine(destinations.rules_for, "bookinfo", HOST)
    assert [key.name for key in keys] == ["z", "a", "b"]
    assert world.engine(destinations.subsets, keys) == (
        Subset("v1", (("version", "v1"),)),
        Subset("v2", (("version", "v2"),)),
    )
    policy = world.engine(destinations.policy, keys, "", 9080)
    assert policy.tls
    assert policy.tls.mode == "DISABLE"


def test_rules_for_different_namespaces_stand_apart_and_the_last_counts() -> None:
    world = World().apply(
        BOOKINFO,
        rule("a", "host: reviews, subsets: [{name: a}], exportTo: ['*']", created="2020-01-01T00:00:00Z"),
        rule("b", "host: reviews, subsets: [{name: b}], exportTo: [shop]", created="2021-01-01T00:00:00Z"),
    )
    assert _names(world, "shop") == ["bookinfo/b"]
    assert _names(world, "other") == ["bookinfo/a"]


# what narrows what


def test_sections_of_subsets_replace_and_ports_inherit_nothing() -> None:
    world = World().apply(
        BOOKINFO,
        rule(
            "r",
            """host: reviews,
  trafficPolicy: {
    loadBalancer: {simple: RANDOM}, tls: {mode: DISABLE}, proxyProtocol: {version: V2},
    portLevelSettings: [{port: {number: 81}, loadBalancer: {simple: ROUND_ROBIN}}]},
  subsets: [
    {name: v1, trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}},
    {name: v2},
    {name: v3, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}]}}]""",
        ),
    )
    keys = world.engine(destinations.rules_for, "bookinfo", HOST)

    def said(subset: str, port: int) -> tuple[str | None, str | None, bool]:
        policy = world.engine(destinations.policy, keys, subset, port)
        balancer = policy.load_balancer.simple if policy.load_balancer else None
        return balancer, policy.tls.mode if policy.tls else None, policy.proxy_protocol is not None

    assert said("", 80) == ("RANDOM", "DISABLE", True)
    assert said("", 81) == ("ROUND_ROBIN", None, False)
    assert said("v1", 80) == ("LEAST_REQUEST", "DISABLE", True)
    assert said("v1", 81) == ("LEAST_REQUEST", None, False)
    assert said("v2", 81) == ("ROUND_ROBIN", None, False)
    assert said("v3", 80) == (None, "SIMPLE", True)
    assert said("v3", 81) == ("ROUND_ROBIN", None, False)


def test_a_thousand_subsets() -> None:
    subsets = ", ".join(f"{{name: s{i}, labels: {{version: v{i}}}}}" for i in range(1000))
    world = World().apply(BOOKINFO, rule("r", f"host: reviews, subsets: [{subsets}]"))
    keys = world.engine(destinations.rules_for, "bookinfo", HOST)
    assert len(world.engine(destinations.subsets, keys)) == 1000
    assert world.engine(destinations.subset, keys, "s999") == Subset("s999", (("version", "v999"),))

"""Where endpoints are and where callers are -> weights and priorities."""

import pytest

from isthmus.api.documents import read_documents
from isthmus.api.meta import Key
from isthmus.api.networking.destination_rule import LoadBalancerSettings, OutlierDetection
from isthmus.api.networking.load_balancing import LocalityLoadBalancerSetting
from isthmus.mesh.destinations import Policy
from isthmus.mesh.localities import Group, Spread, arranged, groups, spread
from isthmus.mesh.model import Endpoint, Labels, Resolution, Service

HERE = "eu/a/1"
SERVICE = Service(
    "x", "ns", (), (), False, Resolution.ENDPOINTS, (), (), (), (), False, Key("Service", "ns", "x")
)


def _endpoint(address: str, locality: str, weight: int = 1, labels: Labels = ()) -> tuple[Endpoint, bool]:
    return Endpoint(address, 80, labels, "", False, locality, weight, None), True


PLACES = groups(
    _endpoint(f"10.0.0.{i}", place)
    for i, place in enumerate(["eu/a/1", "eu/a/2", "eu/b/1", "us/a/1", "asia/a/1", ""])
)


def _spread(locality: str, *, outliers: bool = True, mesh: bool = False) -> Spread:
    setting = LocalityLoadBalancerSetting.model_validate(_yaml(locality)) if locality else None
    balancer = LoadBalancerSettings(locality_lb_setting=None if mesh else setting)
    policy = Policy(load_balancer=balancer, outlier_detection=OutlierDetection() if outliers else None)
    return spread(policy, SERVICE, setting if mesh else None)


def _yaml(text: str) -> object:
    documents, problems = read_documents(f"said: {text}", "test")
    assert not problems
    return documents[0].data["said"]


def _priorities(found: tuple[Group, ...]) -> dict[str, int]:
    return {group.place: group.priority for group in found}


def test_groups_are_ordered_and_weighed() -> None:
    found = groups([_endpoint("b", "eu", 3), _endpoint("a", "eu"), _endpoint("c", "asia")])
    assert [(g.place, g.weight, [e.address for e, _ in g.members]) for g in found] == [
        ("asia", 1, ["c"]),
        ("eu", 4, ["a", "b"]),
    ]


def test_nearer_places_come_first_when_failing_endpoints_are_found_out() -> None:
    said = _spread("{enabled: true}")
    assert _priorities(arranged(PLACES, said, HERE, ())) == {
        "eu/a/1": 0, "eu/a/2": 1, "eu/b/1": 2, "us/a/1": 3, "asia/a/1": 3, "": 3,
    }  # fmt: skip
    assert not _spread("{enabled: true}", outliers=False).failover
    assert not _spread("{enabled: false}").failover
    assert arranged(PLACES, _spread("{enabled: false}"), HERE, ()) == PLACES


def test_the_meshs_setting_holds_where_no_rule_says_anything() -> None:
    assert _spread("{enabled: true}", mesh=True).failover
    assert not _spread("").failover


def test_a_region_that_takes_over() -> None:
    said = _spread("{failover: [{from: eu, to: asia}]}")
    found = _priorities(arranged(PLACES, said, HERE, ()))
    assert (found["asia/a/1"], found["us/a/1"], found[""]) == (3, 4, 4)
    assert said.weighted


def test_priorities_have_no_gaps() -> None:
    found = groups([_endpoint("a", "eu/b/1"), _endpoint("b", "us")])
    assert _priorities(arranged(found, _spread("{enabled: true}"), HERE, ())) == {"eu/b/1": 0, "us": 1}


def test_shares_by_place_of_the_caller() -> None:
    text = "{distribute: [{from: 'eu/a/*', to: {'eu/a/*': 80, 'us/*': 20}}, {from: 'us', to: {'us/*': 100}}]}"
    said = _spread(text, outliers=False)
    found = arranged(PLACES, said, HERE, ())
    weights = {g.place: (g.weight, len(g.members)) for g in found}
    assert weights == {
        "": (1, 0), "asia/a/1": (1, 0), "eu/b/1": (1, 0),
        "eu/a/1": (40, 1), "eu/a/2": (40, 1), "us/a/1": (20, 1),
    }  # fmt: skip
    assert arranged(PLACES, said, "asia/a/1", ()) == PLACES
    assert said.weighted
    assert not said.failover


def test_callers_labels_in_the_order_of_their_weight() -> None:
    labels = [(("cluster", "a"), ("version", "v1")), (("cluster", "a"),), (("version", "v1"),), ()]
    found = groups(_endpoint(f"10.0.0.{i}", "eu", labels=said) for i, said in enumerate(labels))
    said = _spread("{failoverPriority: [cluster, version]}")
    caller = (("cluster", "a"), ("version", "v1"))
    ranked = arranged(found, said, HERE, caller)
    assert [(g.priority, [e.address for e, _ in g.members]) for g in ranked] == [
        (0, ["10.0.0.0"]),
        (1, ["10.0.0.1"]),
        (2, ["10.0.0.2", "10.0.0.3"]),
    ]
    fixed = _spread("{failoverPriority: ['version=v1']}")
    assert [g.priority for g in arranged(found, fixed, HERE, (("version", "v9"),))] == [0, 1]


@pytest.mark.parametrize(
    ("text", "by_place", "by_labels"),
    [
        ("{enabled: true}", True, False),
        ("{failoverPriority: [x]}", True, True),
        ("{distribute: [{from: '*', to: {'*': 100}}]}", True, False),
        ("{enabled: false}", False, False),
    ],
)
def test_what_makes_a_difference(text: str, by_place: bool, by_labels: bool) -> None:
    said = _spread(text)
    assert (said.depends_on_place, said.depends_on_labels) == (by_place, by_labels)

"""Answers and problems -> conditions, and what may replace what."""

from dataclasses import replace

import pytest
from xds_mesh import Committed

from isthmus.api.meta import Key, Problem
from isthmus.envoy.resource import ROUTES
from isthmus.xds.delta import Refusal
from isthmus.xds.judgement import Judgement
from isthmus.xds.verdicts import Answers, Condition, Verdict, outweighs

RULE = Key("VirtualService", "shop", "ratings")
OTHER = Key("VirtualService", "shop", "reviews")
OBJECTS = {RULE: Committed("u", 3, 7), OTHER: Committed("u", 1, 2)}


def told(*proxies: Answers) -> dict[str, str]:
    verdicts = Judgement(OBJECTS).judge(proxies, {}, 9)
    return {
        key.name: f"{v.programmed.status} {v.programmed.reason}: {v.programmed.message}"
        for key, v in verdicts.items()
    }


def test_no_proxies() -> None:
    assert told()["ratings"] == "True NoProxies: no proxy is connected; the next one gets it"


def test_all_must_have_answered_the_revision() -> None:
    late = told(Answers("a", 7), *(Answers(name, 6) for name in "bcde"))
    assert late["ratings"] == "Unknown Pending: waiting for 4 of 5 proxies: b, c, d, and 1 more"
    assert late["reviews"].startswith("True Programmed")
    assert told(Answers("a", 7), Answers("b", 9))["ratings"].startswith("True Programmed")


def test_refusal_names_proxies_resource_and_sources() -> None:
    refusal = Refusal(ROUTES, "80", "1", "bad regex", sources=(RULE,), kept=True)
    refused = told(Answers("a", 7, (refusal,)), Answers("b", 7, (refusal,)))
    assert refused["ratings"] == (
        "False Rejected: a and 1 more proxies refused RouteConfiguration '80' (made from"
        " VirtualService/shop/ratings; the last good version stays): bad regex"
    )
    assert refused["reviews"].startswith("True Programmed")


def test_problems_are_told_beside_it() -> None:
    problem = Problem("spec.http[0]", "no host 'nowhere'", severity="warning")
    verdict = Judgement(OBJECTS).judge((), {RULE: (problem,)}, 9)[RULE]
    assert verdict.programmed.status == "True"
    assert verdict.resolved == Condition("Resolved", "False", "Problems", "spec.http[0]: no host 'nowhere'")


def verdict(reason: str, generation: int, *, bare: bool = False) -> Verdict:
    proxies = {
        "NoProxies": (),
        "Pending": (Answers("a", 0),),
        "Programmed": (Answers("a", 9),),
        "Rejected": (Answers("a", 9, (Refusal(ROUTES, "80", "1", "no", (RULE,), not bare),)),),
    }
    made = Judgement({RULE: Committed("u", generation, 7)}).judge(proxies[reason], {}, 9)[RULE]
    assert made.programmed.reason == reason
    return made


@pytest.mark.parametrize(
    ("new", "old", "replaces"),
    [
        ("Pending", "", True),
        ("Pending", "NoProxies", False),
        ("Pending", "Programmed", False),
        ("Pending", "Rejected", False),
        ("NoProxies", "Pending", True),
        ("NoProxies", "Rejected", False),
        ("Programmed", "NoProxies", True),
        ("Programmed", "Rejected", True),
        ("Rejected", "Pending", True),
        ("Rejected", "Programmed", False),
    ],
)
def test_what_may_replace_what(new: str, old: str, replaces: bool) -> None:
    assert outweighs(verdict(new, 2), old, 2) is replaces
    assert outweighs(verdict(new, 3), old, 2)
    assert not outweighs(verdict(new, 1), old, 2)


def test_refusal_that_leaves_a_proxy_with_nothing_is_told_in_any_case() -> None:
    assert outweighs(verdict("Rejected", 2, bare=True), "Programmed", 2)
    assert replace(verdict("Rejected", 2), strength=3) != verdict("Rejected", 2)

"""Verdicts while commits and answers come in: as if all were judged anew, at a cost that stays the same."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from xds_mesh import Committed

from isthmus.api.meta import Key, Problem
from isthmus.envoy.resource import ROUTES
from isthmus.xds.delta import Refusal
from isthmus.xds.judgement import Judgement
from isthmus.xds.verdicts import Answers, Verdict

MANY = 5_000
NAMES = [f"vm{n}" for n in range(4)]


def key(name: str) -> Key:
    return Key("WorkloadEntry", "shop", name)


def test_what_a_change_costs_does_not_grow_with_what_stands() -> None:
    objects = {key(f"vm{n}"): Committed("u", 1, 1) for n in range(MANY)}
    proxies = [Answers("a", 1), Answers("b", 1)]
    judgement = Judgement(objects)
    assert len(judgement.judge(proxies, {}, 1)) == MANY
    before = judgement.judged
    changed = [key("vm1"), key("vm2")]
    for revision in range(2, 12):
        objects.update(dict.fromkeys(changed, Committed("u", revision, revision)))
        judgement.touch(changed)
        for watermark in ([revision - 1] * 2, [revision, revision - 1], [revision] * 2):
            proxies = [Answers(name, mark) for name, mark in zip("ab", watermark, strict=True)]
            said = judgement.judge(proxies, {}, revision)
        assert {verdict.programmed.reason for verdict in said.values()} == {"Programmed"}
    assert judgement.judged - before == 10 * 2 * len(changed)


def test_what_analysis_has_not_seen_is_judged_without_it() -> None:
    judgement = Judgement({key("vm"): Committed("u", 1, 7)})
    (verdict,) = judgement.judge((), {}, 6).values()
    assert (verdict.programmed.reason, verdict.resolved) == ("NoProxies", None)
    assert judgement.judge((), {}, 6) == {}
    assert judgement.judged == 1
    (verdict,) = judgement.judge((), {key("vm"): (Problem("spec", "is odd"),)}, 7).values()
    assert verdict.resolved is not None
    assert verdict.resolved.status == "False"


def test_waiting_is_told_anew_when_others_are_late() -> None:
    judgement = Judgement({key("vm"): Committed("u", 1, 7)})
    proxies = [Answers("a", 6), Answers("b", 6)]
    (first,) = judgement.judge(proxies, {}, 7).values()
    proxies = [Answers("a", 6), Answers("b", 7)]
    assert judgement.judge(proxies, {}, 7) == {}
    judgement.overdue(proxies)
    (second,) = judgement.judge(proxies, {}, 7).values()
    assert "2 of 2" in first.programmed.message
    assert second.programmed.message == "waiting for 1 of 2 proxies: a"


class World:
    """Objects, proxies and analysis that change; judged step by step, and all anew each time."""

    def __init__(self) -> None:
        self.objects: dict[Key, Committed] = {}
        self.proxies: dict[str, Answers] = {}
        self.problems: dict[Key, tuple[Problem, ...]] = {}
        self.revision = 0
        self.steps, self.anew = Judgement(self.objects), Judgement(self.objects)
        self.by_steps: dict[Key, Verdict] = {}
        self.by_all: dict[Key, Verdict] = {}

    def change(self, what: str, name: str, node: str) -> None:
        self.revision += 1
        answers = self.proxies.get(node)
        match what:
            case "write":
                old = self.objects.get(key(name))
                self.objects[key(name)] = Committed("u", old.generation + 1 if old else 1, self.revision)
                self.steps.touch([key(name)])
            case "delete":
                self.objects.pop(key(name), None)
                self.steps.touch([key(name)])
                for told in (self.by_steps, self.by_all):
                    told.pop(key(name), None)
            case "connect":
                self.proxies[node] = Answers(node, -1)
            case "hang up":
                self.proxies.pop(node, None)
            case "answer" if answers:
                self.proxies[node] = replace(answers, watermark=self.revision)
            case "refuse" if answers:
                refusal = Refusal(
                    ROUTES, name, str(self.revision), "no", (key(name),), bool(self.revision % 2)
                )
                self.proxies[node] = replace(answers, refusals=(refusal,))
            case "relent" if answers:
                self.proxies[node] = replace(answers, refusals=())
            case "problem":
                self.problems = {**self.problems, key(name): (Problem("spec", f"{self.revision}"),)}
            case "no problem":
                self.problems = {one: found for one, found in self.problems.items() if one != key(name)}

    def judge(self) -> None:
        proxies = list(self.proxies.values())
        self.by_steps.update(self.steps.judge(proxies, self.problems, self.revision))
        self.anew.touch({*self.objects, *map(key, NAMES)})
        self.anew.overdue(proxies)
        self.by_all.update(self.anew.judge(proxies, self.problems, self.revision))


CHANGES = ("write", "delete", "connect", "hang up", "answer", "refuse", "relent", "problem", "no problem")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(CHANGES), st.sampled_from(NAMES), st.sampled_from("ab"), st.booleans()),
        max_size=40,
    )
)
def test_step_by_step_is_as_all_anew(changes: list[tuple[str, str, str, bool]]) -> None:
    world = World()
    for what, name, node, judged in changes:
        world.change(what, name, node)
        if judged or what == "delete":
            world.judge()
    world.steps.overdue(list(world.proxies.values()))
    world.judge()
    assert world.by_steps == world.by_all

"""Analysis of many objects: no turn of the event loop has to wait for all of it."""

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import pytest

from isthmus.api.meta import Key, Object, ObjectMeta, Problem
from isthmus.api.networking.service_entry import ServiceEntrySpec
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.engine import Engine, Reader
from isthmus.mesh.analyse import problems, rehearsal
from isthmus.mesh.model import MeshSettings
from isthmus.registry.inputs import whole
from isthmus.xds.analysis import TURN_S, Analysis

MANY = 300
MOST_RUNS = 80
"""Queries in one turn, of the thousands that there are; besides, a question about everything may ask each
object one more small thing (to whom it is exported, who else declares its host)."""


def service(number: int) -> Object:
    spec = ServiceEntrySpec.model_validate(
        {
            "hosts": [f"s{number}.example.com"],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "resolution": "STATIC",
            "endpoints": [{"address": "10.0.0.1"}] if number % 2 else [],
        },
        by_alias=True,
    )
    return made("ServiceEntry", f"s{number}", spec)


def workload(number: int) -> Object:
    return made(
        "WorkloadEntry", f"w{number}", WorkloadEntrySpec(address=f"10.1.{number // 250}.{number % 250}")
    )


def made(kind: str, name: str, spec: Any) -> Object:
    return Object(Key(kind, "shop", name), ObjectMeta(name, "shop"), spec, {})


class World:
    """An engine and its analysis; every look at the clock is a tenth of a turn."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.failures: list[str] = []
        moments = count()
        self.analysis = Analysis(
            self.engine,
            problems,
            rehearsal,
            now=lambda: next(moments) * TURN_S / 10,
            failed=self.failures.append,
        )
        self.objects: list[Object] = []

    def add(self, *objects: Object) -> None:
        self.objects += objects
        inputs: Mapping[tuple[Any, ...], Any] = {
            ("mesh",): MeshSettings(trust_domain="cluster.local"),
            **whole(self.objects),
        }
        self.engine.commit(
            {name: value for name, value in inputs.items() if self.engine.input(*name) != value}
        )
        self.analysis.touch([obj.key for obj in objects])

    def turns(self) -> list[int]:
        """How many queries ran in each turn until everything was seen."""
        runs = []
        while self.analysis.next_in_s() is not None:
            before = self.engine.runs
            self.analysis.turn()
            runs.append(self.engine.runs - before)
        return [number for number in runs if number]


def alone(objects: list[Object]) -> Mapping[Key, tuple[Problem, ...]]:
    engine = Engine()
    engine.commit({("mesh",): MeshSettings(trust_domain="cluster.local"), **whole(objects)})
    return engine(problems)


def test_many_objects_are_analysed_in_many_turns() -> None:
    world = World()
    world.add(*map(service, range(MANY)), *map(workload, range(MANY)))
    runs = world.turns()
    assert sum(runs) > 50 * MOST_RUNS, "the world is too small to show anything"
    assert max(runs) <= MOST_RUNS + MANY
    assert len([number for number in runs if number > MOST_RUNS]) <= 1
    assert world.analysis.problems == alone(world.objects) != {}
    assert world.analysis.revision == world.engine.revision


def test_what_comes_meanwhile_is_analysed_in_turns_too() -> None:
    world = World()
    world.add(*map(service, range(MANY)))
    for _ in range(5):
        world.analysis.turn()
    assert world.analysis.revision == -1, "the first pass is still under way"
    world.add(*map(service, range(MANY, 2 * MANY)))
    assert max(world.turns()) <= MOST_RUNS + 3 * MANY  # who was there is asked who declares its host
    assert world.analysis.problems == alone(world.objects)


def test_one_object_more_is_seen_in_the_next_turn() -> None:
    world = World()
    world.add(*map(workload, range(MANY)))
    world.turns()
    world.add(workload(MANY))
    turns = world.turns()
    assert len(turns) == 1
    assert sum(turns) <= MOST_RUNS


def test_a_bug_ends_the_pass_and_is_told() -> None:
    def broken(q: Reader) -> Mapping[Key, tuple[Problem, ...]]:
        raise RuntimeError(f"of {q.input('mesh')}")

    world = World()
    analysis = Analysis(world.engine, broken, rehearsal, now=lambda: 0.0, failed=world.failures.append)
    world.add(service(1))
    analysis.turn()
    assert world.failures == ["analysis"]
    assert analysis.next_in_s() is None
    assert analysis.problems == {}


def test_others_who_have_something_to_do_have_twice_the_time_of_a_turn() -> None:
    now, steps = [0.0], [0]

    def slowly(q: Reader, keys: Any) -> Iterator[None]:
        for _ in range(100):
            steps[0] += 1
            now[0] += 0.3 * TURN_S
            yield

    engine = Engine()
    analysis = Analysis(engine, lambda q: {}, slowly, now=lambda: now[0], failed=lambda _: None)
    analysis.turn()
    assert steps == [4]
    assert analysis.next_in_s() == 0, "nobody else has anything to do"
    now[0] += TURN_S / 2  # somebody has
    analysis.turn()
    assert steps == [8]
    assert analysis.next_in_s() == pytest.approx(2 * 1.2 * TURN_S)
    now[0] += 1.2 * TURN_S
    analysis.turn()
    assert steps == [8], "it is not its turn yet"
    now[0] += 1.2 * TURN_S  # and then it is, at once
    analysis.turn()
    assert steps == [12]
    assert analysis.next_in_s() == 0

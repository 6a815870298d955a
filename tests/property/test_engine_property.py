"""Incremental answers equal those of a fresh engine, for any history of commits, reads and collections."""

from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.engine import Engine, Reader

# a small mesh: services select members by label; a route picks a service by name; a view reads routes


def members(q: Reader, service: str) -> tuple[str, ...]:
    selector = q.input("selector", service)
    if selector is None:
        return ()
    return tuple(name for name in q.input("names") or () if q.input("label", name) == selector)


def target(q: Reader, route: str) -> str | None:
    named = q.input("route", route)
    # a read that depends on another: asked for only while the route names a service
    return named if named and q(members, named) else None


def view(q: Reader, width: int) -> Mapping[str, object]:
    routes = {route: q(target, route) for route in ROUTES[:width]}
    return {route: q(members, service) if service else None for route, service in routes.items()}


def ladder(q: Reader, height: int) -> int:
    below = q(ladder, height - 1) if height else 0
    return below + len(q(members, SERVICES[height % len(SERVICES)])) // 2


SERVICES = ("a", "b", "c")
ROUTES = ("r", "s", "t")
NAMES = ("w1", "w2", "w3", "w4")
QUERIES: list[tuple[Any, tuple[str | int, ...]]] = [
    *((members, (service,)) for service in SERVICES),
    *((target, (route,)) for route in ROUTES),
    *((view, (width,)) for width in range(4)),
    *((ladder, (height,)) for height in range(6)),
]

inputs = st.one_of(
    st.tuples(st.tuples(st.just("selector"), st.sampled_from(SERVICES)), st.sampled_from((None, "x", "y"))),
    st.tuples(st.tuples(st.just("label"), st.sampled_from(NAMES)), st.sampled_from((None, "x", "y"))),
    st.tuples(st.tuples(st.just("route"), st.sampled_from(ROUTES)), st.sampled_from((None, *SERVICES))),
    st.tuples(
        st.tuples(st.just("names")), st.lists(st.sampled_from(NAMES), unique=True).map(sorted).map(tuple)
    ),
)
steps = st.one_of(
    st.tuples(st.just("commit"), st.lists(inputs, max_size=4)),
    st.tuples(st.just("read"), st.sampled_from(QUERIES)),
    st.tuples(st.just("collect"), st.lists(st.sampled_from(QUERIES), max_size=2)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=25))
def test_incremental_equals_fresh(history: list[tuple[str, Any]]) -> None:
    engine = Engine()
    committed: dict[Any, object] = {}
    for action, what in history:
        if action == "commit":
            committed.update(what)
            engine.commit(dict(what))
        elif action == "collect":
            engine.collect(what)
        else:
            query, args = what
            fresh = Engine()
            fresh.commit(committed)
            assert engine(query, *args) == fresh(query, *args)


@settings(max_examples=100, deadline=None)
@given(st.lists(inputs, max_size=12), st.lists(inputs, max_size=3))
def test_answer_that_stays_equal_keeps_its_revision(
    before: list[tuple[tuple[str, ...], object]], after: list[tuple[tuple[str, ...], object]]
) -> None:
    engine = Engine()
    engine.commit(dict(before))
    old = {(query, args): (engine(query, *args), engine.changed_at(query, *args)) for query, args in QUERIES}
    engine.commit(dict(after))
    for query, args in QUERIES:
        value, changed = old[query, args]
        assert (engine(query, *args) == value) == (engine.changed_at(query, *args) == changed)


@settings(max_examples=100, deadline=None)
@given(st.lists(inputs, max_size=12))
def test_commit_of_equal_values_runs_nothing(world: list[tuple[tuple[str, ...], object]]) -> None:
    engine = Engine()
    engine.commit(dict(world))
    for query, args in QUERIES:
        engine(query, *args)
    runs = engine.runs
    engine.commit(dict(world))
    for query, args in QUERIES:
        engine(query, *args)
    assert engine.runs == runs

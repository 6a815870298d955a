"""What the engine runs, when, and what it refuses."""

import pytest

from isthmus.engine import CycleError, Engine, Reader


def total(q: Reader) -> int:
    return sum(q.input("number", name) or 0 for name in q.input("names") or ())


def parity(q: Reader) -> bool:
    return bool(q(total) % 2)


def word(q: Reader) -> str:
    return "odd" if q(parity) else "even"


def engine_with(**numbers: int) -> Engine:
    engine = Engine()
    engine.commit({("number", name): number for name, number in numbers.items()})
    engine.commit({("names",): tuple(sorted(numbers))})
    return engine


def test_answers_are_remembered() -> None:
    engine = engine_with(a=1, b=2)
    assert engine(word) == "odd"
    assert engine.runs == 3
    assert engine(word) == "odd"
    assert engine.runs == 3


def test_equal_answer_stops_the_work() -> None:
    engine = engine_with(a=1, b=2)
    engine(word)
    engine.commit({("number", "a"): 3})
    assert engine(word) == "odd"
    assert engine.runs == 5  # total and parity, not word
    assert engine.changed_at(word) == 2


def test_read_that_is_made_no_more_is_forgotten() -> None:
    engine = engine_with(a=1, b=2)
    engine(total)
    engine.commit({("names",): ("a",)})
    assert engine(total) == 1
    runs = engine.runs
    engine.commit({("number", "b"): 9})
    assert engine(total) == 1
    assert engine.runs == runs


def test_query_that_asks_for_itself_is_a_bug() -> None:
    def one(q: Reader) -> int:
        return q(other)

    def other(q: Reader) -> int:
        return q(one)

    with pytest.raises(CycleError, match="one"):
        Engine()(one)


def test_failed_query_runs_again_and_recovers() -> None:
    def fragile(q: Reader) -> int:
        if q.input("broken"):
            raise RuntimeError("broken")
        return 1

    def above(q: Reader) -> int:
        return q(fragile) + 1

    engine = Engine()
    assert engine(above) == 2
    engine.commit({("broken",): True})
    for _ in range(2):
        with pytest.raises(RuntimeError):
            engine(above)
    engine.commit({("broken",): None})
    assert engine(above) == 2


def test_commit_from_inside_a_query_is_refused() -> None:
    engine = Engine()

    def sneaky(q: Reader) -> int:
        return engine.commit({("a",): 1})

    with pytest.raises(AssertionError, match="inside a query"):
        engine(sneaky)
    assert not hasattr(engine._reader, "commit")


def test_collection_forgets_what_no_root_reads() -> None:
    engine = engine_with(a=1, b=2)
    engine(word)
    engine.commit({("number", "b"): None, ("names",): ("a",)})
    engine(word)
    assert engine.collect([(parity, ())]) == 2  # word, and the input that has no value any more
    runs = engine.runs
    assert engine(parity) is True
    assert engine.runs == runs
    assert engine(word) == "odd"
    engine.commit({("number", "a"): 2})
    assert engine(word) == "even"


def _even(q: Reader, name: str) -> bool:
    return bool((q.input("number", name) or 0) % 2 == 0)


def _evens(q: Reader) -> int:
    return sum(q(_even, name) for name in q.input("names") or ())


def test_what_is_looked_at_again_does_not_grow_with_what_was_read() -> None:
    checked: list[int] = []
    for many in (10, 1_000):
        engine = Engine()
        names = tuple(f"n{number}" for number in range(many))
        engine.commit({("names",): names, **{("number", name): 2 for name in names}})
        assert engine(_evens) == many
        before = engine.checks
        engine.commit({("number", "n3"): 4})
        assert engine(_evens) == many
        checked.append(engine.checks - before)
    assert checked == [2, 2]

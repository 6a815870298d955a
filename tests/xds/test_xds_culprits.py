"""Who is to blame for a table that Envoy refuses: found, set aside alone, and back when it is mended."""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_xds_fleet import answer, opened, quiet
from xds_mesh import VM

from isthmus.api.codec import decode
from isthmus.api.meta import Key, Object
from isthmus.engine import Engine, Reader
from isthmus.envoy.resource import (
    CLUSTER,
    LISTENER,
    ROUTES,
    Manifest,
    ProxyId,
    Resource,
    content_version,
)
from isthmus.registry.feed import Feed
from isthmus.server.status import judged
from isthmus.store.base import Create, Delete, Mutate
from isthmus.store.sqlite import SqliteStore
from isthmus.xds.culprits import SEPARABLE, SILENCE_S, guilty
from isthmus.xds.fleet import Fleet
from isthmus.xds.standing import Stream
from isthmus.xds.verdicts import Verdict
from isthmus.xds.vetting import PATIENCE_S, Vetting
from isthmus.xds.wire import Request

NOW = "2026-01-01T00:00:00Z"


def rule(name: str, answer: str, kind: str = "VirtualService") -> Object:
    """A rule whose table holds `name=answer`."""
    spec = {"hosts": [name], "http": [{"directResponse": {"status": 200, "body": {"string": answer}}}]}
    if kind == "DestinationRule":
        spec = {"host": answer}
    document = {
        "apiVersion": "networking.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "shop"},
        "spec": spec,
    }
    obj, problems = decode(document)
    assert obj is not None, problems
    return obj


def key(name: str, kind: str = "VirtualService") -> Key:
    return Key(kind, "shop", name)


def words(q: Reader, kind: str) -> dict[Key, str]:
    """What every rule says."""
    found = {}
    for each in q.input("keys", kind, "shop") or ():
        spec = q.input("fact", kind, "shop", each.name).spec
        said = spec.host if kind == "DestinationRule" else spec.http[0].direct_response.body.string
        found[each] = f"{each.name}={said}"
    return found


def manifest(q: Reader, type_url: str, proxy: ProxyId) -> Manifest:
    """One table of all rules, and one of those whose answer begins with `both`."""
    if type_url != ROUTES:
        return {}
    if q.input("broken"):
        raise RuntimeError("a bug")
    said = words(q, "VirtualService") | words(q, "DestinationRule")
    tables = {"80": said, "81": {k: text for k, text in said.items() if "=both" in text}}
    return {
        name: Resource(ROUTES, name, content_version(body), body, tuple(sorted(held)))
        for name, held in tables.items()
        if held
        for body in [" ".join(sorted(held.values())).encode()]
    }


@dataclass
class World:
    """A store, feed and fleet with one proxy; the test is the canary, which refuses what `bad` says."""

    store: SqliteStore
    engine: Engine
    feed: Feed
    fleet: Fleet
    vetting: Vetting
    stream: Stream
    clock: list[float]
    bad: Callable[[str], bool] = lambda table: "bad" in table
    shown: int = 0
    known: dict[Key, Verdict] = field(default_factory=dict)

    async def write(self, *objects: Object) -> None:
        """Stores the rules; the canary speaks until nothing waits for it."""
        await self.save(*objects)
        self.speak()

    async def save(self, *objects: Object) -> None:
        """Stores the rules, and commits them together."""

        def put(now: Object | None, wanted: Object) -> Object:
            return wanted if now is None else replace(now, spec=wanted.spec)

        for obj in objects:
            stands = await self.store.get(obj.key) is not None
            await self.store.apply([Mutate(obj.key, partial(put, wanted=obj)) if stands else Create(obj)])
        await self.commit()

    async def delete(self, name: str) -> None:
        await self.store.apply([Delete(key(name))])
        await self.commit()
        self.speak()

    async def commit(self) -> None:
        """What is stored goes into the engine."""
        await self.feed._list_all()
        self.feed._commit()

    def speak(self) -> None:
        """Until everybody has what he should."""
        while answer(self.fleet, self.stream) or self.speak_once():
            pass

    def speak_once(self) -> bool:
        """The canary's word on what waits for it."""
        found = self.vetting.show(ROUTES, 100, lambda _: ())
        self.shown += len(found)
        for one in found:
            if self.bad(one.body.decode()):
                self.vetting.refuse(one, "no good")
            else:
                self.vetting.accept([one])
        return bool(found)

    @property
    def tables(self) -> dict[str, str]:
        """What the proxy holds, by name."""
        held = self.stream.session.watches[ROUTES].held
        made = self.engine(manifest, ROUTES, VM)
        return {name: made[name].body.decode() if name in made else "?" for name in held if held[name]} | {
            name: "(old)" for name, version in held.items() if name in made and made[name].version != version
        }

    def said(self) -> dict[str, str]:
        """The reasons of all rules, and what was said of those that are set aside."""
        self.known.update(self.fleet.judge())
        return {k.name: v.programmed.reason for k, v in self.known.items() if k in self.feed.programmed}

    async def tell(self) -> None:
        """Writes the verdicts into the status of the objects."""
        self.said()
        await self.store.apply(
            [Mutate(k, partial(judged, verdict=v, now=NOW)) for k, v in self.known.items()]
        )
        await self.commit()

    def message(self, name: str) -> str:
        self.said()
        return str(self.known[key(name)].programmed.message)


@asynccontextmanager
async def world(path: Path, *present: Object) -> AsyncIterator[World]:
    store = await SqliteStore.open(path / "store.db")
    try:
        if present:
            await store.apply([Create(obj) for obj in present])
        clock, engine = [1000.0], Engine()
        vetting = Vetting(lambda: clock[0])
        vetting.open()

        def committed(touched: Collection[Key]) -> None:
            fleet.committed(touched)

        feed = Feed(store, engine, on_commit=committed, separable=SEPARABLE)
        fleet = Fleet(
            engine,
            manifest=manifest,
            problems=lambda q: {},
            objects=feed.programmed,
            registered={VM: "shop-sa"}.get,
            outdated=lambda proxy, signed_at: False,
            now=lambda: clock[0],
            vetting=vetting,
            stage=feed,
        )
        await feed.start()
        stream = opened(fleet)
        made = World(store, engine, feed, fleet, vetting, stream, clock)
        quiet(fleet, stream, CLUSTER, LISTENER, ROUTES)
        fleet.receive(stream, Request(ROUTES, subscribe=("80", "81")))
        made.speak()
        yield made
    finally:
        await store.close()


async def test_one_of_many_is_set_aside_and_its_neighbours_go_on(tmp_path: Path) -> None:
    several = [rule(f"r{number}", "one") for number in range(20)]
    async with world(tmp_path, *several) as made:
        before = made.shown
        await made.write(rule("r3", "bad"))
        assert made.shown - before <= 2  # the table with it, and without: what changed last is tried first
        assert "r3=one" in made.tables["80"]
        assert {name: reason for name, reason in made.said().items() if reason != "Programmed"} == {
            "r3": "Rejected"
        }
        assert made.message("r3") == (
            "the canary refused RouteConfiguration '80' because of this object alone "
            "(what stood before stays): no good"
        )
        await made.write(rule("r4", "two"), rule("new", "three"))
        assert {"r3=one", "r4=two", "new=three"} <= set(made.tables["80"].split())
        assert made.said()["r4"] == "Programmed"
        assert made.said()["r3"] == "Rejected"
        await made.write(rule("r3", "good"))
        assert "r3=good" in made.tables["80"]
        assert set(made.said().values()) == {"Programmed"}


async def test_a_new_one_is_left_out(tmp_path: Path) -> None:
    async with world(tmp_path, rule("other", "one")) as made:
        await made.write(rule("new", "bad"))
        assert made.tables == {"80": "other=one"}
        assert "because of this object alone (it is left out): no good" in made.message("new")
        assert made.said() == {"other": "Programmed", "new": "Rejected"}
        assert made.engine.input("keys", "VirtualService", "shop") == (key("other"),)
        await made.delete("new")
        assert made.fleet._culprits is not None
        assert made.fleet._culprits.aside == {}, "it is gone, though nothing of it was in force"
        await made.write(rule("new", "good"))
        assert made.tables == {"80": "new=good other=one"}
        assert made.said() == {"other": "Programmed", "new": "Programmed"}


async def test_the_first_table_of_all_is_made_without_those_that_spoil_it(tmp_path: Path) -> None:
    several = [rule(f"r{number}", "bad" if number in {2, 7, 8} else "good") for number in range(12)]
    async with world(tmp_path, *several) as made:
        assert len(made.tables["80"].split()) == 9
        assert {name for name, reason in made.said().items() if reason == "Rejected"} == {"r2", "r7", "r8"}
        await made.write(rule("r7", "good"))
        assert len(made.tables["80"].split()) == 10
        assert {name for name, reason in made.said().items() if reason == "Rejected"} == {"r2", "r8"}


async def test_two_bad_changes_in_a_row_leave_what_stood_before_both_or_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, rule("a", "one"), rule("b", "one")) as made:
        await made.write(rule("a", "bad1"))
        await made.write(rule("a", "bad2"))
        assert made.tables == {"80": "a=one b=one"}
        await made.save(rule("b", "bad1"))  # the next comes before the canary has spoken of it
        await made.write(rule("b", "bad2"))
        assert made.tables == {"80": "a=one"}
        assert made.said() == {"a": "Rejected", "b": "Rejected"}
        assert "(it is left out)" in made.message("b")
        await made.write(rule("b", "good"))
        assert made.tables == {"80": "a=one b=good"}


async def test_one_that_is_mended_while_it_is_looked_for_is_not_blamed(tmp_path: Path) -> None:
    async with world(tmp_path, rule("a", "one"), rule("b", "one")) as made:
        await made.save(rule("a", "bad"), rule("b", "two"))
        answer(made.fleet, made.stream)
        assert made.speak_once()  # refused; the canary has not seen the table without one of the changes
        await made.save(rule("a", "two"))
        made.speak()
        assert made.tables == {"80": "a=two b=two"}
        assert made.said() == {"a": "Programmed", "b": "Programmed"}


async def test_an_innocent_that_changes_meanwhile_is_not_blamed(tmp_path: Path) -> None:
    async with world(tmp_path, rule("a", "one"), rule("b", "one")) as made:
        await made.save(rule("b", "two"), rule("a", "bad"))
        answer(made.fleet, made.stream)
        assert made.speak_once()
        await made.save(rule("b", "three"))
        made.speak()
        assert made.tables == {"80": "a=one b=three"}
        assert made.said() == {"a": "Rejected", "b": "Programmed"}


async def test_one_that_spoils_two_tables_is_found_once(tmp_path: Path) -> None:
    async with world(tmp_path, rule("a", "both"), rule("b", "both"), rule("c", "one")) as made:
        await made.write(rule("c", "two"), rule("a", "both-bad"))
        assert made.tables == {"80": "a=both b=both c=two", "81": "a=both b=both"}
        assert made.said() == {"a": "Rejected", "b": "Programmed", "c": "Programmed"}


async def test_those_that_are_too_much_together_are_set_aside_together(tmp_path: Path) -> None:
    several = [rule(f"r{number}", "long") for number in range(3)]
    async with world(tmp_path, *several) as made:
        made.bad = lambda table: table.count("long") > 4
        await made.write(rule("x", "long"), rule("y", "long"), rule("z", "short"))
        assert not made.bad(made.tables["80"])
        assert "r0=long r1=long r2=long" in made.tables["80"]
        assert {reason for name, reason in made.said().items() if name.startswith("r")} == {"Programmed"}
        assert "Rejected" in made.said().values()


async def test_what_no_rule_is_to_blame_for_keeps_the_last_good_version(tmp_path: Path) -> None:
    dr = "DestinationRule"
    async with world(tmp_path, rule("a", "one"), rule("d", "one.test", dr)) as made:
        assert set(made.said().values()) == {"Programmed"}
        await made.write(rule("d", "bad.test", dr))
        assert made.tables["80"] == "(old)"
        assert made.said() == {"a": "Programmed", "d": "Rejected"}
        assert made.engine.input("fact", dr, "shop", "d").spec.host == "bad.test"


async def test_a_canary_that_ends_or_falls_silent_leaves_it_refused(tmp_path: Path) -> None:
    async with world(tmp_path, rule("a", "one"), rule("b", "one")) as made:
        await made.save(rule("a", "bad"), rule("b", "two"))
        answer(made.fleet, made.stream)
        assert made.speak_once()
        made.clock[0] += PATIENCE_S + 0.1
        answer(made.fleet, made.stream)
        assert made.said()["a"] == "Pending"
        assert 0 < (made.fleet.wait_s(made.stream) or 0) <= SILENCE_S - PATIENCE_S
        made.clock[0] += SILENCE_S
        answer(made.fleet, made.stream)
        assert made.tables["80"] == "(old)"
        assert made.said()["a"] == "Rejected"
        await made.save(rule("a", "bad again"), rule("b", "three"))
        answer(made.fleet, made.stream)
        assert made.speak_once()
        made.vetting.close()
        answer(made.fleet, made.stream)
        assert made.tables["80"] == "(old)"
        assert made.said()["a"] == "Rejected"
        made.vetting.open()
        await made.write(rule("a", "good"))
        assert made.tables == {"80": "a=good b=three"}


def ended(suspects: list[Key], taken: Callable[[frozenset[Key]], bool]) -> tuple[tuple[Key, ...], int]:
    """Whom a search finds when the rest is `taken` without those it leaves out, and in how many steps."""
    search, steps = guilty(suspects), 1
    out = next(search)
    while True:
        try:
            out = search.send(taken(out))
        except StopIteration as end:
            return end.value, steps
        steps += 1


async def test_a_bug_of_ours_leaves_it_refused(tmp_path: Path) -> None:
    async with world(tmp_path, rule("a", "one"), rule("b", "one")) as made:
        await made.save(rule("a", "bad"), rule("b", "two"))
        answer(made.fleet, made.stream)
        made.engine.commit({("broken",): True})
        assert made.speak_once()
        made.engine.commit({("broken",): None})
        made.speak()
        assert made.tables["80"] == "(old)"
        assert made.said() == {"a": "Rejected", "b": "Rejected"}
        await made.write(rule("a", "good"))
        assert made.tables == {"80": "a=good b=two"}


async def test_what_is_in_force_outlives_the_control_plane(tmp_path: Path) -> None:
    async with world(tmp_path, rule("a", "one"), rule("b", "one")) as made:
        await made.write(rule("a", "bad"))
        await made.tell()
        stored = await made.store.get(key("a"))
        assert stored is not None
        http = stored.status["inForce"]["spec"]["http"]
        assert http == [{"directResponse": {"status": 200, "body": {"string": "one"}}}]
        assert made.tables == {"80": "a=one b=one"}
    async with world(tmp_path) as made:
        assert made.tables == {"80": "a=one b=one"}
        assert made.said() == {"a": "Rejected", "b": "Programmed"}
        await made.write(rule("b", "two"))
        assert made.tables == {"80": "a=one b=two"}
        await made.write(rule("a", "good"))
        await made.tell()
        stored = await made.store.get(key("a"))
        assert stored is not None
        assert "inForce" not in stored.status
        assert made.tables == {"80": "a=good b=two"}


@pytest.mark.parametrize(
    "status",
    [
        {"inForce": {"spec": {"hosts": ["a"], "http": [{"route": []}]}}},
        {"inForce": {"spec": {"nonsense": 1}}},
        {"inForce": "x"},
        {"inForce": {"spec": None}},
    ],
)
async def test_what_is_no_rule_is_not_in_force(tmp_path: Path, status: dict[str, Any]) -> None:
    refused = {"type": "Programmed", "status": "False", "observedGeneration": 1, "reason": "Rejected"}
    bad = replace(rule("a", "bad"), status={**status, "conditions": [refused]})
    async with world(tmp_path, bad, rule("b", "one")) as made:
        assert made.tables == {"80": "b=one"}
        assert "(it is left out)" in made.message("a")


@given(st.integers(1, 40), st.data())
def test_just_the_guilty_are_found_in_few_steps(count: int, data: st.DataObject) -> None:
    suspects = [key(f"r{number}") for number in range(count)]
    bad = set(data.draw(st.lists(st.sampled_from(suspects), min_size=1, unique=True)))
    found, steps = ended(suspects, lambda out: bad <= out)
    assert set(found) == bad
    assert steps <= 2 * count.bit_length() * (len(bad) + 1) + 1


@given(st.integers(1, 30), st.data())
def test_what_is_too_much_only_together_ends_in_something_that_is_taken(
    count: int, data: st.DataObject
) -> None:
    most = data.draw(st.integers(0, count - 1))
    found, _ = ended([key(f"r{number}") for number in range(count)], lambda out: count - len(out) <= most)
    assert count - len(found) <= most


def test_nobody_is_found_when_it_does_not_help() -> None:
    assert ended([key("a"), key("b"), key("c")], lambda _: False) == ((), 3)

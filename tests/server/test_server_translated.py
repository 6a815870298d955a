"""The condition Translated comes with the write that deserves it, and goes with the reason."""

from pathlib import Path
from typing import Any

from documents import document, namespace
from isthmus.api.codec import decode
from isthmus.api.meta import Key, Object
from isthmus.server.admission import Admission, Draft
from isthmus.server.translated import retell, with_condition
from isthmus.store.base import Create
from isthmus.store.sqlite import SqliteStore

NOW = "2026-01-01T00:00:00Z"
LATER = "2026-01-01T00:01:00Z"
KEY = Key("EnvoyFilter", "bookinfo", "a")


def read(doc: dict[str, Any]) -> Object:
    """The object of a document."""
    obj, problems = decode(doc)
    assert obj is not None, problems
    return obj


def envoy_filter() -> Object:
    """An object of a kind that is never applied."""
    return read(document("networking.istio.io/v1alpha3", "EnvoyFilter", "a", "bookinfo", {}))


def conditions(obj: Object | None) -> list[tuple[str, str, str]]:
    """Type, status and time of each condition."""
    assert obj is not None
    rows = obj.status.get("conditions", [])
    return [(row["type"], row["status"], row["lastTransitionTime"]) for row in rows]


def test_the_condition_keeps_its_time_and_leaves_with_its_reason() -> None:
    obj = with_condition(envoy_filter(), NOW)
    assert conditions(obj) == [("Translated", "False", NOW)]
    assert with_condition(obj, LATER) is obj
    plain = read(namespace())
    done = Object(plain.key, plain.meta, plain.spec, obj.status)
    assert with_condition(done, LATER).status == {}
    assert with_condition(plain, NOW) is plain


async def test_a_write_brings_warning_and_condition(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "db")
    admission = Admission(store, now=lambda: NOW)
    drafts = [Draft(read(namespace("bookinfo")), "apply"), Draft(envoy_filter(), "apply")]
    _, outcome = await admission.write(drafts)
    assert conditions(outcome.object) == [("Translated", "False", NOW)]
    assert any("not applied yet" in warning for warning in outcome.warnings)
    _, again = await admission.write(drafts)
    assert (again.action, conditions(again.object)) == ("unchanged", [("Translated", "False", NOW)])
    await store.close()


async def test_the_start_of_the_server_brings_all_up_to_date(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "db")
    await store.apply([Create(read(namespace("bookinfo"))), Create(envoy_filter())])
    await retell(store, lambda: NOW)
    assert conditions(await store.get(KEY)) == [("Translated", "False", NOW)]
    before = await store.get(KEY)
    await retell(store, lambda: LATER)
    assert await store.get(KEY) == before
    assert conditions(await store.get(Key("Namespace", "", "bookinfo"))) == []
    await store.close()


def test_other_conditions_stay() -> None:
    obj = envoy_filter()
    other = {"type": "Healthy", "status": "True", "lastTransitionTime": NOW}
    told = with_condition(Object(obj.key, obj.meta, obj.spec, {"conditions": [other], "x": 1}), LATER)
    assert conditions(told) == [("Healthy", "True", NOW), ("Translated", "False", LATER)]
    assert told.status["x"] == 1

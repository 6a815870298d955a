"""Objects with several mistakes, of form and of meaning -> all of them in one answer, and nothing else."""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from isthmus.api.codec import decode
from isthmus.api.fields import path
from isthmus.api.inspection import inspected
from isthmus.api.validate import validate

CASES = Path(__file__).with_name("cases")
Json = dict[str, Any]
Location = tuple[str | int, ...]

GOOD: Json = {"route": [{"destination": {"host": "a"}}]}
ROUTES: Sequence[tuple[Json, tuple[str, ...]]] = [
    (GOOD, ()),
    (GOOD | {"timeout": "1s", "match": [{"uri": {"prefix": "/x"}, "port": 80}]}, ()),
    (GOOD | {"timeout": "soon"}, ("timeout",)),
    (GOOD | {"timeuot": "1s"}, ("timeuot",)),
    (GOOD | {"retries": {"attempts": "3"}}, ("retries.attempts",)),
    (GOOD | {"retries": {"attempts": -3}}, ("retries.attempts",)),
    (GOOD | {"match": [{"uri": {"regex": "("}}]}, ("match[0].uri.regex",)),
    (
        GOOD | {"match": [{"uri": "/x"}, {"headers": {"x-a": {"prefix": ""}}}]},
        ("match[0].uri", "match[1].headers[x-a].prefix"),
    ),
    ({"route": [{"destination": {"host": "-a-"}}]}, ("route[0].destination.host",)),
    ({"route": [{"destination": {"host": 5}}]}, ("route[0].destination.host",)),
    ({"route": [{"weight": 5}]}, ("route[0].destination",)),
    ({"route": "a"}, ("route",)),
    ({"route": [{"destination": {"host": "a"}}, {"destination": {"host": "b"}}]}, ("route",)),
    (
        {"route": [{"destination": {"host": "a"}, "weight": "1"}, {"destination": {"host": "b"}}]},
        ("route[0].weight",),
    ),
    ({"timeout": "2s"}, ("route",)),
    ({"redirect": {"uri": 5}}, ("redirect.uri",)),
    ({"redirect": {"uri": "/x", "redirectCode": 200}}, ("redirect.redirectCode",)),
    (GOOD | {"redirect": {"uri": "/x", "redirectCode": "301"}}, ("", "redirect.redirectCode")),
    (
        GOOD | {"fault": {"abort": {"httpStatus": 99, "percentage": {"value": "5"}}}},
        ("fault.abort.httpStatus", "fault.abort.percentage.value"),
    ),
]
"""HTTP routes, each with the fields that are wrong."""
HOSTS = [("a.example.com", False), ("bad host", True), (5, True), (None, True)]

ENDPOINTS: Sequence[tuple[Json, tuple[str, ...]]] = [
    ({"address": "10.0.0.1", "ports": {"http": 8080}}, ()),
    ({"address": "10.0.0.2", "labels": {"a": "b"}, "weight": 3}, ()),
    ({"address": "300.0.0.1"}, ("address",)),
    ({"address": 5}, ("address",)),
    ({}, ("address",)),
    ({"address": "10.0.0.1", "ports": {"http": 70000}}, ("ports.http",)),
    ({"address": "10.0.0.1", "ports": {"http": "8080"}, "weight": -5}, ("ports.http", "weight")),
    ({"address": "10.0.0.1", "labels": {"a": "-"}, "adress": 5}, ("labels.a", "adress")),
]
RULES: Sequence[tuple[Json, tuple[str, ...]]] = [
    ({"from": [{"source": {"principals": ["a"]}}]}, ()),
    ({"from": [{"source": {"principals": "a"}}]}, ("from[0].source.principals",)),
    ({"from": [{"source": {}}]}, ("from[0].source",)),
    ({"from": []}, ("from",)),
    (
        {"to": [{"operation": {"ports": ["http"], "paths": ["/{x}"]}}]},
        ("to[0].operation.ports[0]", "to[0].operation.paths[0]"),
    ),
    (
        {"to": [{"operation": {"ports": [80], "hosts": [""]}}]},
        ("to[0].operation.ports[0]", "to[0].operation.hosts[0]"),
    ),
    ({"when": [{"key": "source.ip", "values": ["1.2.3"]}]}, ("when[0].values[0]",)),
    (
        {"when": [{"key": 5, "values": ["1.2.3"]}, {"key": "x", "values": ["a"]}]},
        ("when[0].key", "when[1].key"),
    ),
]


def document(kind: str, spec: Json, group: str = "networking") -> Json:
    metadata = {"name": "a", "namespace": "kitchen"}
    return {"apiVersion": f"{group}.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def told(document: Any) -> list[str]:
    return sorted({problem.field for problem in inspected(document) if problem.severity == "error"})


def expected(at: str, rows: Sequence[tuple[Any, tuple[str, ...]]]) -> Iterator[str]:
    for index, (_, wrong) in enumerate(rows):
        yield from (f"{at}[{index}].{field}".removesuffix(".") for field in wrong)


@given(
    st.lists(st.sampled_from(ROUTES), min_size=1, max_size=6),
    st.lists(st.sampled_from(HOSTS), min_size=1, max_size=2),
)
def test_virtual_services(rows: list[tuple[Json, tuple[str, ...]]], hosts: list[tuple[Any, bool]]) -> None:
    names = [f"h{index}.{host}" if host == "a.example.com" else host for index, (host, _) in enumerate(hosts)]
    wrong = [f"spec.hosts[{index}]" for index, (_, is_wrong) in enumerate(hosts) if is_wrong]
    made = document(
        "VirtualService", {"hosts": names, "http": [route for route, _ in rows], "exportTo": ["-"]}
    )
    assert told(made) == sorted({*wrong, *expected("spec.http", rows), "spec.exportTo[0]"})


@given(
    st.lists(st.sampled_from(ENDPOINTS), max_size=5),
    st.sampled_from((("STATIC", ()), ("STATICC", ("spec.resolution",)), (5, ("spec.resolution",)))),
    st.sampled_from(((80, ()), ("80", ("spec.ports[0].number",)))),
)
def test_service_entries(
    rows: list[tuple[Json, tuple[str, ...]]],
    resolution: tuple[Any, tuple[str]],
    port: tuple[Any, tuple[str]],
) -> None:
    spec = {
        "hosts": ["a.example.com"],
        "resolution": resolution[0],
        "ports": [{"number": port[0], "name": "http"}],
    }
    spec["endpoints"] = [endpoint for endpoint, _ in rows]
    wrong = sorted({*expected("spec.endpoints", rows), *resolution[1], *port[1]})
    if resolution[1]:
        # whether an address may be a name is not known
        wrong = [field for field in wrong if field not in maybe_names(rows)]
    assert told(document("ServiceEntry", spec)) == wrong


def maybe_names(rows: Sequence[tuple[Json, tuple[str, ...]]]) -> set[str]:
    texts = {
        index: row["address"] for index, (row, _) in enumerate(rows) if isinstance(row.get("address"), str)
    }
    return {f"spec.endpoints[{index}].address" for index in texts}


@given(
    st.lists(st.sampled_from(RULES), min_size=1, max_size=6), st.sampled_from(("ALLOW", "DENY", "ALOW", 5))
)
def test_authorization_policies(rows: list[tuple[Json, tuple[str, ...]]], action: Any) -> None:
    made = document(
        "AuthorizationPolicy", {"action": action, "rules": [rule for rule, _ in rows]}, "security"
    )
    wrong = ["spec.action"] if action not in {"ALLOW", "DENY"} else []
    assert told(made) == sorted({*wrong, *expected("spec.rules", rows)})


def valid_documents() -> list[Json]:
    """The committed cases that nobody refuses."""
    yaml = YAML(typ="safe", pure=True)
    return [
        {
            "apiVersion": whole["apiVersion"],
            "kind": whole["kind"],
            "metadata": {"name": "a", "namespace": "kitchen"},
        }
        | {"spec": case["spec"]}
        for file in sorted(CASES.glob("*.yaml"))
        for whole in [yaml.load(file)]
        for case in [whole | case for case in whole["cases"]]
        if "refused" not in case and "metadata" not in case and case["spec"]
    ]


VALID = valid_documents()


def places(value: Any, at: Location = ()) -> Iterator[Location]:
    """Where something stands, from the outside in, but for empty lists: a full one may be a mistake."""
    children: Mapping[Any, Any] = value if isinstance(value, dict) else {}
    if isinstance(value, list):
        children = dict(enumerate(value))
    for part, child in children.items():
        if child != []:
            yield (*at, part)
        yield from places(child, (*at, part))


@given(st.data())
def test_what_cannot_be_read_has_no_consequences(data: st.DataObject) -> None:
    """In an object that is right, all mistakes are those that were made."""
    whole = copy.deepcopy(data.draw(st.sampled_from(VALID)))
    chosen: list[Location] = []
    for place in data.draw(
        st.lists(st.sampled_from([*places(whole["spec"], ("spec",))]), min_size=1, max_size=4)
    ):
        if not any(place[: len(other)] == other or other[: len(place)] == place for other in chosen):
            chosen.append(place)
    for place in chosen:
        around = whole
        for part in place[:-1]:
            around = around[part]  # type: ignore[index]
        around[place[-1]] = [[{}]]  # type: ignore[index]
    obj, problems = decode(whole)
    assert obj is None
    assert told(whole) == sorted({problem.field for problem in problems})


def test_what_can_be_read_is_judged_once() -> None:
    for whole in VALID:
        obj, _ = decode(whole)
        assert obj is not None
        assert inspected(whole) == validate(obj)


def test_what_depends_on_an_unreadable_place_is_not_told() -> None:
    # endpoints may be forbidden, and the port's name may be `http`
    spec = {
        "hosts": ["a.example.com"],
        "resolution": "STATIK",
        "endpoints": [{"address": "10.0.0.1", "ports": {"http": 1}}],
    }
    assert told(document("ServiceEntry", spec | {"ports": [{"number": 80, "name": 5}]})) == [
        "spec.ports[0].name",
        "spec.resolution",
    ]


@pytest.mark.parametrize("spec", [5, None, [], {"http": 5}, {"http": [5]}, {"hosts": {}, "http": {}}])
def test_whole_lists_and_specs_may_be_unreadable(spec: Any) -> None:
    made = document("VirtualService", spec) | {
        "metadata": {"name": "A_", "namespace": "kitchen", "labels": 5}
    }
    fields = told(made)
    assert {"metadata.name", "metadata.labels"} <= {*fields}
    assert not [field for field in fields if field.count("[") > 1]


def test_keys_that_cannot_be_read() -> None:
    spec = {
        "selector": {"matchLabels": {"a": "*"}},
        "portLevelMtls": {"http": {"mode": "STRICT"}, "80": {"mode": "X"}},
    }
    assert told(document("PeerAuthentication", spec, "security")) == [
        "spec.portLevelMtls.http",
        "spec.portLevelMtls[80].mode",
        "spec.selector.matchLabels.a",
    ]


@pytest.mark.parametrize(
    "broken",
    [
        [],
        "x",
        {},
        {"kind": "VirtualService"},
        {"apiVersion": "v1", "kind": "Sevice"},
        {"apiVersion": 5, "kind": []},
    ],
)
def test_what_is_no_object_of_ours(broken: Any) -> None:
    assert inspected(broken) == decode(broken)[1]


def test_very_many_mistakes_are_told_without_the_rest() -> None:
    made = document("VirtualService", {"hosts": ["bad host"], "http": [5] * 5000})
    assert len(json.dumps(told(made))) < 100_000
    assert "spec.http[0]" in told(made)


def test_paths_are_those_of_the_document() -> None:
    assert path("", ("spec", "http", 0, "match", 1)) == "spec.http[0].match[1]"


def test_a_very_large_object_is_not_read_again_and_again() -> None:
    routes = [{"match": [{"port": 80}], "route": [{"destination": {"host": "-"}}]}] * 20_000
    made = document("VirtualService", {"hosts": ["a"], "http": routes, "exportTo": 5})
    assert told(made) == ["spec.exportTo"]
    made["spec"]["http"] = routes[:1]
    assert told(made) == ["spec.exportTo", "spec.http[0].route[0].destination.host"]

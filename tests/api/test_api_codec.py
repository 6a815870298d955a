"""Documents to objects and back; every mistake with its path."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from documents import document, virtual_service, workload_entry
from isthmus.api.codec import decode, decode_plain, encode, facts
from isthmus.api.kinds import KINDS, kind_by_plural, kind_by_word
from isthmus.api.meta import Key, Object
from isthmus.api.networking.virtual_service import VirtualServiceSpec


def problems(doc: Any) -> dict[str, str]:
    """Text by field of what decode finds."""
    obj, found = decode(doc)
    assert (obj is None) == bool(found)
    return {problem.field: str(problem).partition(": ")[2] for problem in found}


def decoded(doc: Any) -> Object:
    """The object, which must be readable."""
    obj, found = decode(doc)
    assert obj is not None, found
    return obj


def test_a_document_comes_back_as_it_was_written() -> None:
    doc = virtual_service(
        "reviews",
        {
            "name": "end-user",
            "match": [{"headers": {"end-user": {"exact": "jason"}}, "ignoreUriCase": False}],
            "route": [
                {"destination": {"host": "reviews", "subset": "v2", "port": {"number": 9080}}, "weight": 0}
            ],
            "timeout": "0.5s",
            "fault": {
                "delay": {"fixedDelay": "7s", "percentage": {"value": 0.1}},
                "abort": {"httpStatus": 500},
            },
        },
        exportTo=["*"],
    )
    obj = decoded(doc)
    assert encode(obj) == doc
    spec = obj.spec
    assert isinstance(spec, VirtualServiceSpec)
    assert spec.http[0].route[0].destination.port is not None
    assert spec.http[0].match[0].headers["end-user"].exact == "jason"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("metadata", None),
        ("metadata", {"name": ""}),
        ("metadata", {"name": "a", "resourceVersion": "x"}),
        ("metadata", {"name": "a", "nosuch": 1}),
        ("metadata", {"name": "a", "labels": {"a": None}}),
        ("spec", None),
        ("spec", {"nosuch": 1}),
        ("spec", {"nosuch": None}),
        ("spec", {"address": None}),
        ("spec", {"address": 1}),
        ("spec", {"weight": float("nan")}),
        ("spec", {"address": "\ud800"}),
        ("status", []),
        ("status", None),
        ("nosuch", 1),
    ],
)
def test_only_documents_without_mistake_or_null_are_plain(field: str, value: Any) -> None:
    doc, kind = workload_entry("a"), KINDS["WorkloadEntry"]
    assert decode_plain(doc, kind, default_namespace="b") == decode(doc, default_namespace="b")[0]
    assert decode_plain({**doc, field: value}, kind, default_namespace="b") is None


def test_every_mistake_is_told_with_its_path() -> None:
    found = problems(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "VirtualService",
            "metadata": {"name": "a", "labels": {"v": 1}, "nmae": "b"},
            "spec": {
                "host": ["a"],
                "http": [
                    {
                        "route": [
                            {"destination": {"host": "a"}},
                            {"destination": {"hots": "b"}, "weight": "80"},
                        ]
                    },
                    {"match": [{"headers": {"x-a": {"exat": "1"}, "x-b": None}}], "timeout": "1 second"},
                ],
            },
        }
    )
    assert found == {
        "metadata.labels.v": (
            'Invalid value: 1: metadata.labels.v in body must be of type string: "integer" (put it in quotes)'
        ),
        "metadata.nmae": "unknown field (did you mean name?)",
        "spec.host": "unknown field (did you mean hosts?)",
        "spec.http[0].route[1].destination.host": "Required value",
        "spec.http[0].route[1].destination.hots": "unknown field (did you mean host?)",
        "spec.http[0].route[1].weight": (
            'Invalid value: "80": spec.http[0].route[1].weight in body must be of type integer: "string"'
        ),
        "spec.http[1].match[0].headers[x-a].exat": "unknown field (did you mean exact?)",
        "spec.http[1].match[0].headers[x-b]": (
            'Invalid value: null: spec.http[1].match[0].headers[x-b] in body must be of type object: "null"'
        ),
        "spec.http[1].timeout": (
            'Invalid value: "1 second": is not a duration: '
            "must be a valid duration greater than 1ms, such as 500ms, 1.5s or 2m30s"
        ),
    }


@pytest.mark.parametrize(
    ("doc", "field", "text"),
    [
        ([], "", "should be an object"),
        ({"kind": "Service"}, "apiVersion", "Required value"),
        ({"apiVersion": 1, "kind": "Service"}, "apiVersion", "should be a string"),
        ({"apiVersion": "v1", "kind": "Servce"}, "kind", "did you mean Service?"),
        ({"apiVersion": "v1", "kind": "VirtualService"}, "apiVersion", "use networking.istio.io/v1"),
        ({"apiVersion": "v1", "kind": "Namespace", "metadata": {}}, "metadata.name", "Required value"),
        ({"apiVersion": "v1", "kind": "Namespace", "metadata": 1}, "metadata", "must be of type object"),
        (
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "namespace": "b"}},
            "metadata.namespace",
            "",
        ),
        (
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "resourceVersion": "x"}},
            "metadata.resourceVersion",
            "",
        ),
        (
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}, "spce": {}},
            "spce",
            "did you mean spec?",
        ),
        (
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}, "spec": {}},
            "spec",
            "unknown",
        ),
        ({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}, "status": []}, "status", ""),
        (
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}, "status": [1]},
            "status",
            "of type object",
        ),
    ],
)
def test_a_document_that_is_no_object_says_why(doc: Any, field: str, text: str) -> None:
    if doc == {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}, "status": []}:
        assert problems(doc) == {}  # as empty as no status at all
        return
    obj, found = decode(doc)
    assert obj is None
    assert any(problem.field == field and text in str(problem) for problem in found), found


def test_null_means_absent_for_fields_but_not_for_values() -> None:
    doc = workload_entry("a")
    doc["spec"] |= {"labels": None, "weight": None}
    assert encode(decoded(doc))["spec"] == {"address": "10.0.0.1"}
    doc["spec"]["labels"] = {"app": None}
    assert problems(doc) == {
        "spec.labels.app": 'Invalid value: null: spec.labels.app in body must be of type string: "null"'
    }


def test_numbers_that_json_cannot_hold_are_refused() -> None:
    assert (
        "cannot be written as JSON"
        in problems(workload_entry("a") | {"spec": {"weight": float("nan")}})["spec"]
    )


def test_target_port_is_a_number_or_a_name() -> None:
    doc = document("v1", "Service", "a", "n", {"ports": [{"port": 80, "targetPort": 8080, "name": "a"}]})
    assert encode(decoded(doc)) == doc
    doc["spec"]["ports"][0]["targetPort"] = "http"
    assert encode(decoded(doc)) == doc
    doc["spec"]["ports"][0]["targetPort"] = True
    assert problems(doc) == {
        "spec.ports[0].targetPort": "Invalid value: true: should be a port number or a port name"
    }


def test_port_keys_are_numbers_inside_and_strings_outside() -> None:
    doc = document(
        "security.istio.io/v1", "PeerAuthentication", "a", "n", {"portLevelMtls": {"80": {"mode": "STRICT"}}}
    )
    obj = decoded(doc)
    assert list(obj.spec.model_dump()["port_level_mtls"]) == [80]
    assert encode(obj) == doc
    doc["spec"]["portLevelMtls"] = {"http": {}}
    assert problems(doc) == {
        "spec.portLevelMtls.http": "Invalid value: type conversion error from 'http' to a port number"
    }


def test_versions_of_a_kind_are_one_object() -> None:
    doc = virtual_service("a") | {"apiVersion": "networking.istio.io/v1alpha3"}
    assert encode(decoded(doc))["apiVersion"] == "networking.istio.io/v1"
    assert encode(decoded(doc), "networking.istio.io/v1beta1")["apiVersion"] == "networking.istio.io/v1beta1"


def test_a_kind_without_spec_has_its_fields_beside_the_metadata() -> None:
    doc = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "a", "namespace": "n"},
        "secrets": [{"name": "s"}],
    }
    assert encode(decoded(doc)) == doc


def test_the_engine_sees_nothing_of_versions_and_status() -> None:
    doc = workload_entry(
        "a", uid="u", resourceVersion="7", generation=3, creationTimestamp="2026-01-01T00:00:00Z"
    )
    one, other = decoded(doc), decoded(doc | {"status": {"conditions": []}})
    assert one.meta.resource_version == 7
    assert facts(one) == facts(other)
    assert facts(one).key == Key("WorkloadEntry", "bookinfo", "a")


def test_kinds_are_found_by_what_people_call_them() -> None:
    for kind in KINDS.values():
        for word in (kind.kind, kind.plural, kind.singular, kind.plural.upper(), *kind.short_names):
            assert kind_by_word(word) is kind
        assert kind_by_word(f"{kind.plural}.{kind.group}".rstrip(".")) is kind
        assert kind_by_plural(kind.group, kind.plural) is kind
    assert kind_by_word("deployment") is None
    assert kind_by_word("vs.security.istio.io") is None


def test_every_field_of_every_kind_is_described() -> None:
    schemas = [kind.spec_model.model_json_schema() for kind in KINDS.values()]
    for schema in schemas:
        for model in [schema, *schema.get("$defs", {}).values()]:
            for name, field in model.get("properties", {}).items():
                assert field.get("description"), f"{model['title']}.{name}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=12,
)
WORDS = [
    "hosts",
    "http",
    "route",
    "destination",
    "host",
    "match",
    "headers",
    "exact",
    "weight",
    "timeout",
    "metadata",
]
NESTED = st.recursive(
    JSON,
    lambda inner: st.dictionaries(st.sampled_from(WORDS), inner, max_size=4) | st.lists(inner, max_size=2),
    max_leaves=20,
)


@given(spec=NESTED, metadata=NESTED)
def test_whatever_is_given_decode_answers(spec: Any, metadata: Any) -> None:
    obj, found = decode(
        {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metadata, "spec": spec}
    )
    assert (obj is None) == bool(found)


LABELS = st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=5), max_size=3)
STRING_MATCHES = st.fixed_dictionaries(
    {}, optional={"exact": st.text(max_size=5), "prefix": st.text(max_size=5)}
)
DESTINATIONS = st.fixed_dictionaries(
    {"host": st.text(max_size=9)},
    optional={
        "subset": st.text(max_size=3),
        "port": st.fixed_dictionaries({"number": st.integers(1, 65535)}),
    },
)
ROUTES = st.fixed_dictionaries(
    {},
    optional={
        "match": st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "uri": STRING_MATCHES,
                    "headers": st.dictionaries(st.text(max_size=5), STRING_MATCHES, max_size=2),
                },
            ),
            max_size=2,
        ),
        "route": st.lists(
            st.fixed_dictionaries({"destination": DESTINATIONS}, optional={"weight": st.integers(-5, 100)}),
            max_size=2,
        ),
        "timeout": st.sampled_from(["1s", "250ms", "1m30s"]),
        "fault": st.fixed_dictionaries(
            {}, optional={"delay": st.fixed_dictionaries({"fixedDelay": st.just("1s")})}
        ),
    },
)


@given(
    spec=st.fixed_dictionaries(
        {"hosts": st.lists(st.text(max_size=9), max_size=2)}, optional={"http": st.lists(ROUTES, max_size=3)}
    ),
    labels=LABELS,
    status=st.dictionaries(st.text(min_size=1, max_size=4), JSON, max_size=2),
)
def test_round_trip(spec: dict[str, Any], labels: dict[str, str], status: dict[str, Any]) -> None:
    doc = document("networking.istio.io/v1", "VirtualService", "a", "n", spec)
    doc["metadata"] |= {"labels": labels} if labels else {}
    doc |= {"status": status} if status else {}
    obj = decoded(doc)
    # as text: NaN in a status equals itself, 1 and true differ
    assert json.dumps(encode(obj), sort_keys=True) == json.dumps(doc, sort_keys=True)
    again = decoded(json.loads(json.dumps(encode(obj))))
    assert again.spec == obj.spec
    assert again.meta == obj.meta

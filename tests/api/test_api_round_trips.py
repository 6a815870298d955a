"""What is written comes back as it was: through objects, versions and YAML, for whatever the models allow.

Documents are made from the models' own schemas, so that a new field is tried without a word here.
"""

import json
from typing import Any

import pytest
import yaml as pyyaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from isthmus.api.codec import decode, decode_plain, encode
from isthmus.api.documents import read_documents
from isthmus.api.kinds import KINDS, Kind
from isthmus.api.meta import Object
from isthmus.cli.documents import as_yaml

DEEPEST = 7
TRICKY = [
    "001:db8::",
    "2001:db8::1",
    "22:22",
    "1:30:00",
    "yes",
    "No",
    "on",
    "OFF",
    "y",
    "N",
    "true",
    "~",
    "null",
    "Null",
    "",
    "1e3",
    "1E+3",
    "0o14",
    "014",
    "0x1F",
    "0b11",
    "1_000",
    "+1",
    "-1",
    ".5",
    "5.",
    ".inf",
    "-.INF",
    ".NaN",
    "1.0",
    "007",
    "2020-01-01",
    "2020-01-01T00:00:00Z",
    "2020-1-1 0:0:0",
    "=",
    "<<",
    "-",
    "- a",
    "? a",
    "a: b",
    "a:",
    ": a",
    "a #b",
    "#",
    "!",
    "!!int 1",
    "&a",
    "*a",
    "%a",
    "@a",
    "`a",
    "|",
    ">",
    "{a}",
    "[a]",
    "a, b",
    "'",
    '"',
    "\\",
    "\\n",
    " a",
    "a ",
    "\ta",
    "a\tb",
    "a\n",
    "a\nb\n",
    "\na",
    "a\n\n",
    " a\nb",
    "a\r\nb",
    "a\rb",
    "\x85",
    "\u2028",
    "\ufeff",
    "\x00",
    "\x1b",
    "é",
    "имя",
    "Ａ",
    "\U0001f600",
    "---",
    "...",
    "--- a",
    "a" * 200,
]
TEXTS = st.sampled_from(TRICKY) | st.text(max_size=6)
SETTINGS = settings(max_examples=12, suppress_health_check=list(HealthCheck))
EVERY_KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.kind)


def values(schema: dict[str, Any], named: dict[str, Any], depth: int = 0) -> st.SearchStrategy[Any]:
    """What a JSON schema of pydantic's allows."""
    if "$ref" in schema:
        return values(named[schema["$ref"].rpartition("/")[2]], named, depth)
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if options := schema.get("anyOf") or schema.get("allOf"):
        return st.one_of(
            *(values(option, named, depth) for option in options if option.get("type") != "null")
        )
    match schema.get("type"):
        case "object":
            return objects(schema, named, depth)
        case "array":
            inside = values(schema.get("items", {}), named, depth + 1)
            return st.lists(
                inside, min_size=schema.get("minItems", 0), max_size=max(2, schema.get("minItems", 0))
            )
        case "string":
            return texts(schema)
        case "integer":
            low = schema.get("minimum", schema.get("exclusiveMinimum", -(2**31)))
            return st.integers(low, schema.get("maximum", 2**31 - 1))
        case "number":
            low, high = schema.get("minimum", -1e6), schema.get("maximum", 1e6)
            return st.floats(low, high, allow_nan=False) | st.integers(int(low), int(high))
        case "boolean":
            return st.booleans()
    return st.recursive(
        TEXTS | st.integers(-9, 9) | st.booleans(), lambda v: st.dictionaries(TEXTS, v), max_leaves=3
    )


def objects(schema: dict[str, Any], named: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    """What a schema of objects allows; deep down only what must be."""
    fields, required = schema.get("properties", {}), schema.get("required", [])
    inside = {name: values(below, named, depth + 1) for name, below in fields.items() if name in required}
    if not fields:
        more = schema.get("additionalProperties")
        keys = st.integers(1, 65535).map(str) if "propertyNames" in schema else TEXTS
        return st.dictionaries(
            keys, values(more if isinstance(more, dict) else {}, named, depth + 1), max_size=2
        )
    optional = {
        name: later(below, named, depth + 1)
        for name, below in fields.items()
        if name not in required and depth < DEEPEST
    }
    return st.fixed_dictionaries(inside, optional=optional)


def later(schema: dict[str, Any], named: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    """The same, made when it is asked for: models may hold themselves."""

    def made() -> st.SearchStrategy[Any]:
        return values(schema, named, depth)

    return st.deferred(made)


def texts(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    """What a schema of texts allows."""
    if schema.get("format") == "duration":
        return st.sampled_from(["1s", "0", "1.5h", "2m30s", "500ms", "1us"])
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True)
    low, high = schema.get("minLength", 0), schema.get("maxLength", 1 << 16)
    return TEXTS.filter(lambda text: low <= len(text) <= high)


def documents(kind: Kind) -> st.SearchStrategy[dict[str, Any]]:
    """Documents of a kind, in any of its versions."""
    schema = kind.spec_model.model_json_schema(by_alias=True)
    spec = values(schema, schema.get("$defs", {}))
    labels = st.dictionaries(TEXTS, TEXTS, max_size=2)
    metadata = st.fixed_dictionaries(
        {"name": TEXTS.filter(bool)},
        optional={"labels": labels, "annotations": labels, "namespace": st.just("n")},
    )
    if not kind.namespaced:
        metadata = metadata.map(lambda found: {k: v for k, v in found.items() if k != "namespace"})
    head = st.fixed_dictionaries(
        {"apiVersion": st.sampled_from(kind.api_versions), "kind": st.just(kind.kind), "metadata": metadata}
    )
    return st.tuples(head, spec).map(lambda both: both[0] | ({"spec": both[1]} if kind.has_spec else both[1]))


def decoded(document: dict[str, Any]) -> Object:
    """The object of a document that is one."""
    obj, problems = decode(document)
    assert obj is not None, [str(problem) for problem in problems]
    return obj


@pytest.mark.timeout(120)
@EVERY_KIND
def test_objects_versions_and_yaml(kind: Kind) -> None:
    tried = 0

    @SETTINGS
    @given(documents(kind))
    def comes_back(document: dict[str, Any]) -> None:
        nonlocal tried
        obj, _ = decode(document)
        assume(obj is not None)
        assert obj is not None
        tried += 1
        plain = decode_plain(document, kind, default_namespace="default")
        says_null = "null" in json.dumps([document["metadata"], document.get("spec")])
        assert plain == (obj if kind.has_spec and "spec" in document and not says_null else None)
        for api_version in kind.api_versions:
            written = encode(obj, api_version)
            assert decoded(written) == obj
            assert encode(decoded(written), api_version) == written
            text = as_yaml(written)
            ((read,), unreadable) = read_documents(text, "f")
            assert (read.data, unreadable) == (written, [])
            assert decoded(json.loads(json.dumps(written))) == obj

    comes_back()
    assert tried >= 5, "the documents are hardly ever valid"


@pytest.mark.timeout(120)
@settings(max_examples=100)
@given(
    st.dictionaries(TEXTS, TEXTS | st.lists(TEXTS, max_size=2) | st.dictionaries(TEXTS, TEXTS, max_size=2))
)
def test_what_we_print_others_read_as_the_same(data: dict[str, Any]) -> None:
    text = as_yaml(data)
    assert YAML(typ="safe", pure=True).load(text) == data
    # YAML 1.1, as kubectl and most tools read it; it knows no control characters but as escapes
    assert pyyaml.safe_load(text) == data


@pytest.mark.parametrize("text", TRICKY)
def test_tricky_texts_stay_texts(text: str) -> None:
    printed = as_yaml({"a": text, text: "b"})
    assert pyyaml.safe_load(printed) == YAML(typ="safe", pure=True).load(printed) == {"a": text, text: "b"}
    assert read_documents(printed, "f")[0][0].data == {"a": text, text: "b"}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("001:db8::1", "001:db8::1"),
        ("22:22", "22:22"),
        ("yes", "yes"),
        ("off", "off"),
        ("1e3", 1000.0),
        ("0o14", 12),
        ("014", 14),
        ("0x1F", 31),
        ("~", None),
        ("", None),
        ("null", None),
        ("2020-01-01", "2020-01-01"),
        ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z"),
        ("true", True),
        ("1_000", 1000),
        ("1.10", 1.1),
    ],
)
def test_what_people_write_means_what_yaml_1_2_says(written: str, meant: object) -> None:
    ((found,), unreadable) = read_documents(f"kind: {written}\n", "f")
    assert unreadable == []
    assert (found.data["kind"], type(found.data["kind"])) == (meant, type(meant))

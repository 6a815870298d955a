"""What an object sets that does nothing yet is told, and docs/support.md tells the same."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field

from documents import document, virtual_service
from isthmus.api import support, support_page
from isthmus.api.codec import decode
from isthmus.api.fields import fields
from isthmus.api.kinds import KINDS, Kind
from isthmus.api.meta import Kept, Key, Later, Model, Object, ObjectMeta, Refused
from isthmus.api.validate import validate

PAGE = Path(__file__).parents[2] / "docs" / "support.md"


class Inner(Model):
    """A shape inside a shape."""

    done: str = ""
    """Counts."""
    soon: Annotated[str, Later("nothing")] = ""
    """Does not count yet."""
    never: Annotated[str, Refused("no")] = ""
    """Is not taken."""


class Outer(Model):
    """A shape with marks of all sorts."""

    whole: Annotated[Inner | None, Later()] = None
    """Does not count yet."""
    rows: tuple[Inner, ...] = ()
    """Counts in part."""
    by_name: dict[str, Inner] = Field(default_factory=dict)
    """Counts in part."""
    mode: Annotated[str, Later("as A", values=("B",))] = "A"
    """Counts but for B."""
    names: Annotated[tuple[str, ...], Later("not there", unless=("mesh",))] = ()
    """Counts for mesh only."""
    beside: Annotated[str, Kept()] = ""
    """Means nothing here."""


def told(monkeypatch: pytest.MonkeyPatch, **spec: Any) -> list[str]:
    """The problems of an object of a kind with the shape above."""
    kind = KINDS["WorkloadGroup"]
    monkeypatch.setattr(support, "KINDS", {"WorkloadGroup": kind})
    obj = Object(Key("WorkloadGroup", "n", "a"), ObjectMeta("a", "n"), Outer(**spec))
    found = support.untranslated(obj)
    assert all(problem.severity == "warning" for problem in found)
    return [str(problem) for problem in found]


NOT_YET = "is stored, but not applied yet"


@pytest.mark.parametrize(
    ("spec", "problems"),
    [
        ({}, []),
        ({"whole": None, "mode": "A", "names": ()}, []),
        ({"whole": Inner()}, [f"spec.whole: {NOT_YET}"]),
        ({"rows": (Inner(done="x"), Inner(soon="x"))}, [f"spec.rows[1].soon: {NOT_YET}: nothing"]),
        ({"by_name": {"a b": Inner(soon="x")}}, [f"spec.byName[a b].soon: {NOT_YET}: nothing"]),
        ({"mode": "B"}, [f"spec.mode: {NOT_YET}: as A"]),
        ({"mode": "C"}, []),
        ({"names": ("mesh",)}, []),
        ({"names": ("mesh", "edge")}, [f"spec.names: {NOT_YET}: not there"]),
    ],
)
def test_what_is_set_and_does_nothing_is_told(
    monkeypatch: pytest.MonkeyPatch, spec: dict[str, Any], problems: list[str]
) -> None:
    assert told(monkeypatch, **spec) == problems


def test_a_kind_that_does_nothing_is_told_as_a_whole() -> None:
    filters: dict[str, Any] = {"configPatches": []}
    obj, _ = decode(document("networking.istio.io/v1alpha3", "EnvoyFilter", "a", "n", filters))
    assert obj is not None
    assert [problem.field for problem in support.untranslated(obj)] == ["spec"]


def test_an_ordinary_object_has_nothing_to_tell() -> None:
    obj, _ = decode(virtual_service("reviews"))
    assert obj is not None
    assert support.untranslated(obj) == []


def test_every_field_is_documented() -> None:
    def undocumented(model: type[Model], seen: set[type[Model]]) -> list[str]:
        if model in seen:
            return []
        seen.add(model)
        found = [
            f"{model.__name__}.{name}" for name, info in model.model_fields.items() if not info.description
        ]
        for field in fields(model).values():
            found += undocumented(field.model, seen) if field.model else []
        return found

    seen: set[type[Model]] = set()
    assert [name for kind in KINDS.values() for name in undocumented(kind.spec_model, seen)] == []


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == support_page.page(), (
        "run: python -m isthmus.api.support_page > docs/support.md"
    )


def test_the_page_has_every_field_and_its_state() -> None:
    kind = replace(KINDS["WorkloadGroup"], spec_model=Outer)
    rows = support_page.rows(kind)
    assert [(row.field, row.state, row.text, row.same_as) for row in rows] == [
        ("spec.whole", "warning", "", ""),
        ("spec.whole.done", "warning", "", ""),
        ("spec.whole.soon", "warning", "", ""),
        ("spec.whole.never", "warning", "", ""),
        ("spec.rows", "supported", "", ""),
        ("spec.rows[].done", "supported", "", ""),
        ("spec.rows[].soon", "warning", "nothing", ""),
        ("spec.rows[].never", "refused", "no", ""),
        ("spec.byName", "supported", "", "spec.rows[]"),
        ("spec.mode", "warning", "with B only; as A", ""),
        ("spec.names", "warning", "with anything but mesh; not there", ""),
        ("spec.beside", "kept", "for other tools", ""),
    ]
    later = support_page.rows(replace(kind, later="not at all"))
    assert {row.state for row in later} == {"warning"}


def test_settings_that_are_not_known_are_told() -> None:
    doc = document("isthmus.dev/v1alpha1", "MeshConfig", "default", "isthmus-system", {})
    doc["spec"] = {"connectTimeout": "1s", "enableTracing": True, "defaultConfig": {"holdApplication": True}}
    obj, problems = decode(doc)
    assert obj is not None, problems
    assert [problem.field for problem in support.untranslated(obj)] == [
        "spec.defaultConfig.holdApplication",
        "spec.enableTracing",
    ]


FAULT: dict[str, Any] = {"delay": {"exponentialDelay": "1s"}, "abort": {"http2Error": "NO_ERROR"}}
INGRESS_TLS: dict[str, Any] = {
    "httpsRedirect": True,
    "credentialName": "a",
    "credentialNames": ["a"],
    "tlsCertificates": [{"serverCertificate": "a", "privateKey": "b"}],
    "subjectAltNames": ["a"],
}
PORT: dict[str, Any] = {"number": 443, "protocol": "HTTPS", "name": "a", "targetPort": 1}
REFERENCE = {"group": "networking.istio.io", "kind": "Gateway", "name": "a", "namespace": "b"}
REFUSED_BY_KIND: dict[str, dict[str, Any]] = {
    "AuthorizationPolicy": {"targetRef": REFERENCE},
    "RequestAuthentication": {"targetRef": REFERENCE},
    "VirtualService": {"hosts": ["a"], "http": [{"fault": FAULT, "route": [{"destination": {"host": "a"}}]}]},
    "Gateway": {"servers": [{"port": PORT, "hosts": ["a.b"], "tls": {"mode": "PASSTHROUGH"}}]},
    "Sidecar": {
        "ingress": [
            {"port": PORT, "defaultEndpoint": "127.0.0.1:1", "tls": {"mode": "SIMPLE", **INGRESS_TLS}}
        ]
    },
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda k: k.kind)
def test_what_the_page_calls_refused_is_refused(kind: Kind) -> None:
    listed = {row.field.replace("[]", "[0]") for row in support_page.rows(kind) if row.state == "refused"}
    if not listed:
        return
    obj, problems = decode(document(kind.api_versions[0], kind.kind, "a", "n", REFUSED_BY_KIND[kind.kind]))
    assert obj is not None, problems
    refused = {problem.field for problem in validate(obj) if problem.severity == "error"}
    assert listed - refused == set()

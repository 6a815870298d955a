"""A JSON document in Kubernetes' shape <-> `Object`, with every mistake in it told at once.

document --decode--> Object, or problems with field paths
Object   --encode--> document        Object --facts--> what the engine sees
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_core import to_json

from isthmus.api.fields import fields, json_type, model_at, nearest, path, without_nulls
from isthmus.api.kinds import KINDS, Kind, kind_by_type
from isthmus.api.meta import Fact, Key, Model, Object, ObjectMeta, Preserving, Problem
from isthmus.api.mistakes import MOST_PROBLEMS, REQUIRED, first, null, said, seen, wrong_type

M = TypeVar("M", bound=Model)
Location = tuple[str | int, ...]

_JSON = json.JSONEncoder(allow_nan=False)
_FRAME = ("apiVersion", "kind", "metadata", "status")
"""What every document has, whatever else stands beside it."""
_WHOLE = frozenset({*_FRAME, "spec"})


class OwnerReference(Model):
    """An object that this one belongs to: it is deleted with it."""

    api_version: str
    """API version of the owner."""
    kind: str
    """Kind of the owner."""
    name: str
    """Name of the owner."""
    uid: str
    """UID of the owner."""
    controller: bool | None = None
    """Whether the owner manages this object."""
    block_owner_deletion: bool | None = None
    """Kept for round trips with Kubernetes."""


class Metadata(Model):
    """Kubernetes ObjectMeta as documents spell it."""

    name: str = ""
    """Name, unique among the objects of the kind in the namespace."""
    generate_name: str = ""
    """Beginning of a name that the server completes, when `name` is left out."""
    namespace: str = ""
    """Namespace of the object."""
    labels: Mapping[str, str] = Field(default_factory=dict)
    """Words to select the object by."""
    annotations: Mapping[str, str] = Field(default_factory=dict)
    """Anything else that is noted about the object."""
    owner_references: tuple[OwnerReference, ...] = ()
    """Objects that this one belongs to."""
    uid: str = ""
    """Set by the server."""
    resource_version: str = ""
    """Set by the server; in an update it says which state the update is about."""
    generation: int = 0
    """Set by the server: counts the changes of the spec."""
    creation_timestamp: str = ""
    """Set by the server."""
    deletion_timestamp: str = ""
    """Set by the server on an object that is deleted and waits for its finalizers."""
    deletion_grace_period_seconds: Any = None
    """Set by the server with `deletionTimestamp`."""
    finalizers: tuple[str, ...] = ()
    """Words that must all be taken away before a deleted object goes."""
    managed_fields: tuple[dict[str, Any], ...] = ()
    """Kept by the server: who wrote which fields."""
    self_link: Any = None
    """Read and dropped."""


@dataclass(frozen=True, slots=True)
class Misread:
    """A place of a document that cannot be read as what its kind has there."""

    location: Location
    problem: Problem
    what: Literal["value", "key", "surplus"] = "value"
    """Which is wrong: the value, or its absence; the key of a map's entry; that anything is there at all."""


def decode(document: Any, *, default_namespace: str = "default") -> tuple[Object | None, list[Problem]]:
    """The object that a document spells, or None and every problem of its form."""
    obj, misreads = read(document, default_namespace=default_namespace)
    return obj, first(misread.problem for misread in misreads) if misreads else []


def read(document: Any, *, default_namespace: str = "default") -> tuple[Object | None, list[Misread]]:
    """The object that a document spells, or None and every place that cannot be read."""
    if not isinstance(document, Mapping):
        text = f"should be an object with apiVersion and kind, is {seen(document)}"
        return None, [Misread((), Problem("", text))]
    kind, misreads = _kind(document)
    if kind is None:
        return None, misreads
    misreads += _unknown_fields(document, kind)
    metadata, of_metadata = _parse(Metadata, document.get("metadata"), "metadata")
    misreads += of_metadata
    spec, of_spec = _spec(document, kind)
    misreads += of_spec
    status = document.get("status") or {}
    if not isinstance(status, Mapping):
        misreads.append(_misread("status", wrong_type("status", "object", status)))
    meta, of_meta = _meta(metadata, kind, default_namespace) if metadata is not None else (None, [])
    misreads += of_meta
    if misreads or meta is None or spec is None:
        return None, misreads
    return Object(Key(kind.kind, meta.namespace, meta.name), meta, spec, status), []


def decode_plain(document: Mapping[str, Any], kind: Kind, *, default_namespace: str) -> Object | None:
    """The object that a JSON document of the kind spells, when it is as most are: without mistake or null.

    None says nothing yet: `decode` tells what is wrong, or finds that a null is fine where it stands.
    """
    status = document.get("status", {})
    if not kind.has_spec or not isinstance(status, Mapping) or not document.keys() <= _WHOLE:
        return None
    metadata = _plain(Metadata, document.get("metadata"))
    spec = _plain(kind.spec_model, document.get("spec"))
    if metadata is None or spec is None:
        return None
    meta, _ = _meta(metadata, kind, default_namespace)
    return None if meta is None else Object(Key(kind.kind, meta.namespace, meta.name), meta, spec, status)


def encode(obj: Object, api_version: str | None = None) -> dict[str, Any]:
    """The document of an object, in the preferred version unless another is asked for."""
    kind = KINDS[obj.key.kind]
    spec = encode_spec(obj.spec)
    document: dict[str, Any] = {
        "apiVersion": api_version or kind.api_versions[0],
        "kind": kind.kind,
        "metadata": encode_metadata(obj.meta),
    }
    if kind.has_spec:
        document["spec"] = spec
    else:
        document |= spec
    if obj.status:
        document["status"] = dict(obj.status)
    return document


def encode_spec(spec: Model) -> dict[str, Any]:
    """The JSON of a spec: exactly the fields that were written, in the order of the model."""
    written: dict[str, Any] = spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return written


def encode_metadata(meta: ObjectMeta) -> dict[str, Any]:
    """The JSON of an object's metadata, without what is not set."""
    pairs: list[tuple[str, Any]] = [
        ("name", meta.name),
        ("generateName", meta.generate_name),
        ("namespace", meta.namespace),
        ("uid", meta.uid),
        ("resourceVersion", str(meta.resource_version) if meta.resource_version else ""),
        ("generation", meta.generation),
        ("creationTimestamp", meta.creation_timestamp),
        ("deletionTimestamp", meta.deletion_timestamp),
        ("labels", dict(meta.labels)),
        ("annotations", dict(meta.annotations)),
        ("ownerReferences", [dict(reference) for reference in meta.owner_references]),
        ("finalizers", list(meta.finalizers)),
        ("managedFields", [dict(entry) for entry in meta.managed_fields]),
    ]
    found = {name: value for name, value in pairs if value}
    return found | {"deletionGracePeriodSeconds": 0} if meta.deletion_timestamp else found


def facts(obj: Object) -> Fact:
    """What the engine sees of an object."""
    return Fact(obj.key, obj.meta.labels, obj.meta.annotations, obj.meta.creation_timestamp, obj.spec)


def _misread(field: str, text: str, hint: str = "") -> Misread:
    return Misread(tuple(filter(None, field.split("."))), Problem(field, text, hint))


def _kind(document: Mapping[str, Any]) -> tuple[Kind | None, list[Misread]]:
    misreads = []
    for field in ("apiVersion", "kind"):
        value = document.get(field)
        if value is None or value == "":
            misreads.append(_misread(field, REQUIRED))
        elif not isinstance(value, str):
            misreads.append(_misread(field, f"should be a string, is {seen(value)}"))
    if misreads:
        return None, misreads
    api_version, name = document["apiVersion"], document["kind"]
    kind = kind_by_type(api_version, name)
    if kind is not None:
        return kind, []
    if name in KINDS:
        served = ", ".join(KINDS[name].api_versions)
        return None, [_misread("apiVersion", f"{name} is not served as {api_version}", f"use {served}")]
    hint = nearest(name, KINDS) or f"kinds are {', '.join(KINDS)}"
    return None, [_misread("kind", f"{name} of {api_version} is not a kind that is served here", hint)]


def _spec(document: Mapping[str, Any], kind: Kind) -> tuple[Model | None, list[Misread]]:
    if not kind.has_spec:
        body = {name: value for name, value in document.items() if name not in _FRAME}
        if not issubclass(kind.spec_model, Preserving):
            known = fields(kind.spec_model)
            body = {name: value for name, value in body.items() if name in known}
        return _parse(kind.spec_model, body, "")
    if kind.needs_spec and document.get("spec") is None:
        return None, [_misread("spec", null("spec", "object") if "spec" in document else REQUIRED)]
    return _parse(kind.spec_model, document.get("spec"), "spec")


def _unknown_fields(document: Mapping[str, Any], kind: Kind) -> list[Misread]:
    if not kind.has_spec and issubclass(kind.spec_model, Preserving):
        return []
    known = set(_FRAME)
    known |= {"spec"} if kind.has_spec else set(fields(kind.spec_model))
    return [
        Misread((str(name),), Problem(str(name), "unknown field", nearest(str(name), known)), "surplus")
        for name in document
        if name not in known
    ]


def _parse(model: type[M], value: Any, prefix: str) -> tuple[M | None, list[Misread]]:
    value = {} if value is None else value
    try:
        text = _JSON.encode(without_nulls(value, model))
    except (TypeError, ValueError, RecursionError) as error:
        return None, [_misread(prefix, f"cannot be written as JSON: {error}")]
    try:
        return model.model_validate_json(text, strict=True, by_alias=True, by_name=False), []
    except ValidationError as error:
        # no more of them than are told
        return None, list(islice(_misreads(model, error, prefix, value), MOST_PROBLEMS + 1))


def _plain(model: type[M], value: Any) -> M | None:
    try:
        text = to_json(value, inf_nan_mode="null")
        if b"null" in text:  # a string that says so only costs time
            return None
        return model.model_validate_json(text, strict=True, by_alias=True, by_name=False)
    except (ValueError, RecursionError):
        return None


def _misreads(model: type[Model], error: ValidationError, prefix: str, value: Any) -> Iterable[Misread]:
    for mistake in error.errors(include_url=False):
        location = mistake["loc"]
        what: Literal["value", "key", "surplus"] = "value"
        if location and location[-1] == "[key]":
            location, what = location[:-1], "key"
        field = path(prefix, location)
        if mistake["type"] == "extra_forbidden":
            parent = model_at(model, location[:-1])
            hint = nearest(str(location[-1]), fields(parent)) if parent else ""
            what, problem = "surplus", Problem(field, "unknown field", hint)
        elif mistake["type"] == "missing" and _is_null(value, location):
            problem = Problem(field, null(field, json_type(model, location)))
        else:
            context = {**mistake.get("ctx", {}), "message": mistake["msg"]}
            problem = Problem(field, *said(mistake["type"], field, mistake["input"], context))
        yield Misread((prefix, *location) if prefix else location, problem, what)


def _is_null(value: Any, location: Sequence[str | int]) -> bool:
    for part in location:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return False
    return value is None


def _meta(metadata: Metadata, kind: Kind, default_namespace: str) -> tuple[ObjectMeta | None, list[Misread]]:
    misreads = []
    if not metadata.name:
        misreads.append(_misread("metadata.name", REQUIRED))
    if metadata.namespace and not kind.namespaced:
        problem = Problem("metadata.namespace", f"a {kind.kind} stands in no namespace", "leave it out")
        misreads.append(Misread(("metadata", "namespace"), problem, "surplus"))
    version = metadata.resource_version
    if version and not (version.isascii() and version.isdigit() and len(version) < 19):
        text = f"Invalid value: {seen(version)}: is no version of ours"
        problem = Problem("metadata.resourceVersion", text)
        misreads.append(Misread(("metadata", "resourceVersion"), problem, "surplus"))
    if misreads:
        return None, misreads
    return ObjectMeta(
        name=metadata.name,
        namespace=(metadata.namespace or default_namespace) if kind.namespaced else "",
        uid=metadata.uid,
        resource_version=int(version or 0),
        generation=metadata.generation,
        creation_timestamp=metadata.creation_timestamp,
        labels=metadata.labels,
        annotations=metadata.annotations,
        owner_references=tuple(
            reference.model_dump(by_alias=True, exclude_unset=True) for reference in metadata.owner_references
        ),
        generate_name=metadata.generate_name,
        finalizers=tuple(dict.fromkeys(metadata.finalizers)),
        deletion_timestamp=metadata.deletion_timestamp,
        managed_fields=metadata.managed_fields,
    ), []

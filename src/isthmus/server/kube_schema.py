"""The kinds' models -> OpenAPI v3 documents, one for each group and version.

    Kind ─▶ schema of the object, of its spec and of everything below, with the fields' documentation
         └▶ paths: what may be asked of it                                          kube_paths

Schemas come from pydantic; what only JSON Schema can say is put as OpenAPI 3.0 has it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from isthmus.api.codec import Metadata
from isthmus.api.kinds import KINDS, Kind
from isthmus.server.kube_paths import (
    DELETE_OPTIONS,
    META,
    REF,
    TYPE_META,
    Schema,
    group_version_kind,
    paths,
    texts,
    type_name,
)
from isthmus.server.merge_shapes import Shape, shape_of

_JSON = "application/json"
_OUTCOME: Schema = {
    "type": "object",
    "description": "What became of a request.",
    "required": ["apiVersion", "kind"],
    "properties": {
        **TYPE_META,
        "metadata": {"type": "object", "description": "Empty."},
        "status": {"type": "string", "description": "Success or Failure."},
        "message": {"type": "string", "description": "A sentence for people."},
        "reason": {"type": "string", "description": "One word for machines."},
        "code": {"type": "integer", "format": "int32", "description": "The answer's HTTP status."},
        "details": {
            "type": "object",
            "description": "What the request was about, and the fields that are wrong.",
            "x-kubernetes-preserve-unknown-fields": True,
        },
    },
}
REFUSED: Schema = {
    "description": "Refused, and why.",
    "content": {_JSON: {"schema": {"$ref": f"{REF}{META}Status"}}},
}
_NEEDED = {
    "ExecHealthCheckConfig": ("command",),
    "IstioEgressListener": ("hosts",),
    "IstioIngressListener": ("port",),
    "Server": ("hosts", "port"),
    "ServerPort": ("name", "number", "protocol"),
    "ServiceEntrySpec": ("hosts",),
    "TLSMatchAttributes": ("sniHosts",),
    "TLSRoute": ("match",),
}
"""Fields that rules ask for and not the models: what is wrong is told in the words of the rules."""


def _time(text: str) -> Schema:
    return {"type": "string", "format": "date-time", "description": text}


_STATUS: Schema = {
    "type": "object",
    "description": "What the control plane says about the object.",
    "x-kubernetes-preserve-unknown-fields": True,
    "properties": {
        "conditions": {
            "type": "array",
            "description": "What is so and what is not, with reasons.",
            "items": {
                "type": "object",
                "properties": {
                    "type": {"type": "string", "description": "Name of the condition."},
                    "status": {"type": "string", "description": "True, False or Unknown."},
                    "reason": {"type": "string", "description": "One word for machines."},
                    "message": {"type": "string", "description": "A sentence for people."},
                    "lastProbeTime": _time("When it was last looked at."),
                    "lastTransitionTime": _time("When the status last changed."),
                    "observedGeneration": {
                        "type": "integer",
                        "format": "int64",
                        "description": "The state of the spec that this is about.",
                    },
                },
            },
        }
    },
}


_LIST_META: Schema = {
    "type": "object",
    "description": "What there is to say about the list.",
    "properties": {
        **texts(
            {
                "resourceVersion": "The state of the store that the list shows; a watch goes on from it.",
                "continue": "Where to go on, when there is more.",
            }
        ),
        "remainingItemCount": {
            "type": "integer",
            "format": "int64",
            "description": "How many more there are.",
        },
    },
}
_MANAGED_FIELDS: Schema = {
    "type": "object",
    "description": "The fields that one writer owns.",
    "properties": {
        **texts(
            {
                "manager": "Name of the writer.",
                "operation": "How it writes: Apply or Update.",
                "apiVersion": "Version of the kind that it writes.",
                "fieldsType": "Always FieldsV1.",
                "subresource": "Empty, or status: the part of the object that it writes.",
            }
        ),
        "time": _time("When it last changed something."),
        "fieldsV1": {
            "type": "object",
            "description": "The fields: `f:` and a name, `k:` and an element's keys, `v:` and a value.",
            "x-kubernetes-preserve-unknown-fields": True,
        },
    },
}


def openapi(group: str, version: str) -> Schema | None:
    """The document of a group and version, None when it is not served."""
    kinds = [kind for kind in KINDS.values() if kind.group == group and version in kind.versions]
    if not kinds:
        return None
    asked: Schema = {}
    for kind in kinds:
        asked |= paths(kind, version)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Isthmus", "version": version},
        "paths": asked,
        "components": {"schemas": _schemas(kinds, version), "responses": {"Refused": REFUSED}},
    }


def _schemas(kinds: Iterable[Kind], version: str) -> Schema:
    models: list[type[BaseModel]] = [Metadata, *(kind.spec_model for kind in kinds)]
    _, made = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models)],
        by_alias=True,
        ref_template=REF + "{model}",
    )
    schemas = {name: _plain(schema) for name, schema in made["$defs"].items()}
    for name, needed in _NEEDED.items():
        if name in schemas:
            schemas[name]["required"] = list(needed)
    for kind in kinds:
        _tell_merging(kind, schemas)
    schemas["Metadata"]["properties"]["managedFields"]["items"] = {"$ref": f"{REF}{META}ManagedFieldsEntry"}
    schemas[f"{META}ManagedFieldsEntry"] = _MANAGED_FIELDS
    schemas[f"{META}ObjectMeta"] = schemas.pop("Metadata")
    for kind in kinds:
        schemas |= _object(kind, version, schemas)
    _say_once(schemas)
    schemas[f"{META}DeleteOptions"] = DELETE_OPTIONS
    schemas[f"{META}Status"] = _OUTCOME
    return schemas


def _object(kind: Kind, version: str, schemas: Mapping[str, Schema]) -> Schema:
    name, typed = type_name(kind, version), group_version_kind(kind, version)
    spec = schemas[kind.spec_model.__name__]
    properties: Schema = {
        "apiVersion": {"type": "string", "description": "Group and version of the kind."},
        "kind": {"type": "string", "description": f"Always {kind.kind}."},
        "metadata": {
            "allOf": [{"$ref": f"{REF}{META}ObjectMeta"}],
            "description": "Name, labels and what the server keeps about the object.",
            "default": {},
        },
    }
    required = ["spec"] if kind.needs_spec else []
    if kind.has_spec:
        properties["spec"] = {
            "allOf": [{"$ref": REF + kind.spec_model.__name__}],
            "description": spec.get("description", ""),
            "default": {},
        }
    else:
        properties |= spec.get("properties", {})
        required = [field for field in spec.get("required", ()) if field in properties]
    properties["status"] = _STATUS
    one = {
        "type": "object",
        "description": _sentence(kind, spec),
        "properties": properties,
        "x-kubernetes-group-version-kind": [typed],
    }
    if required:
        one["required"] = required
    many = {
        "type": "object",
        "description": f"A list of {kind.kind}.",
        "required": ["items"],
        "properties": {
            **TYPE_META,
            "metadata": _LIST_META,
            "items": {"type": "array", "items": {"$ref": REF + name}, "description": "The objects."},
        },
        "x-kubernetes-group-version-kind": [typed | {"kind": f"{kind.kind}List"}],
    }
    return {name: one, f"{name}List": many}


def _say_once(schemas: Mapping[str, Schema]) -> None:
    """Takes away the descriptions of types that a field of theirs says word by word: kubectl shows both."""
    for text, name in [found for schema in schemas.values() for found in _typed_fields(schema)]:
        if name in schemas and schemas[name].get("description") == text:
            del schemas[name]["description"]


def _typed_fields(node: Any) -> Iterator[tuple[str, str]]:
    """What is said about each field that has a type of its own, and the name of the type."""
    if isinstance(node, list):
        for item in node:
            yield from _typed_fields(item)
    elif isinstance(node, dict):
        if isinstance(text := node.get("description"), str) and (name := _named(node)):
            yield text, name
        for item in node.values():
            yield from _typed_fields(item)


def _tell_merging(kind: Kind, schemas: Mapping[str, Schema]) -> None:
    """Writes into the schemas how lists merge, where that is not the usual way."""
    shape = shape_of(kind.kind)
    spec = shape.fields.get("spec", Shape()) if kind.has_spec else shape
    _mark(schemas[kind.spec_model.__name__], spec, schemas)
    _mark(schemas["Metadata"], shape.fields["metadata"], schemas)


def _mark(schema: Schema, shape: Shape, schemas: Mapping[str, Schema]) -> None:
    for name, below in shape.fields.items():
        found = schema.get("properties", {}).get(name)
        if found is None:
            continue
        if below.merge == "by keys":
            found["x-kubernetes-list-type"] = "map"
            found["x-kubernetes-list-map-keys"] = list(below.keys)
            found["x-kubernetes-patch-strategy"] = "merge"
            found["x-kubernetes-patch-merge-key"] = below.keys[0]
            element = found.get("items", {}).get("$ref", "").removeprefix(REF)
            _mark(schemas.get(element, {}), Shape(fields=below.fields), schemas)
        elif below.merge == "by name":
            _mark(schemas.get(_named(found), {}), below, schemas)
        elif below.merge == "as set":
            found["x-kubernetes-list-type"] = "set"
            found["x-kubernetes-patch-strategy"] = "merge"
        elif found.get("type") == "array":
            found["x-kubernetes-list-type"] = "atomic"
        else:
            found["x-kubernetes-map-type"] = "atomic"


def _named(schema: Schema) -> str:
    """The schema that a property is of."""
    found = [schema, *schema.get("allOf", ())]
    return next((str(one["$ref"]).removeprefix(REF) for one in found if "$ref" in one), "")


def _sentence(kind: Kind, spec: Schema) -> str:
    text = str(spec.get("description", ""))
    if kind.has_spec and text.startswith("Spec of "):
        return text.removeprefix("Spec of ").replace("a ", "A ", 1).replace("an ", "An ", 1)
    return text


def _plain(schema: Any) -> Any:
    """JSON Schema 2020-12 as OpenAPI 3.0 spells it."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _plain(value) for name, value in schema.items() if name not in {"title", "examples"}}
    if isinstance(found.get("title"), dict):  # a field that is called so
        found["title"] = _plain(schema["title"])
    if "properties" in schema and isinstance(schema["properties"], dict):
        found["properties"] = {name: _plain(value) for name, value in schema["properties"].items()}
    if isinstance(found.get("anyOf"), list):
        found |= _some(found)
    if "const" in found:
        found["enum"] = [found.pop("const")]
    for name, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if name in found and not isinstance(found[name], bool):
            found[bound], found[name] = found[name], True
    bounds = (found.get("minimum"), found.get("maximum"))
    if found.get("type") == "integer" and bounds in _FORMATS:
        found["format"] = _FORMATS[bounds]
        del found["minimum"], found["maximum"]
    if "prefixItems" in found:
        found.pop("prefixItems")
        found.setdefault("items", {})
    if found.get("additionalProperties") is False:
        del found["additionalProperties"]  # kubectl leaves unknown fields to the server
    if found.get("additionalProperties") is True and "properties" in found:
        found["x-kubernetes-preserve-unknown-fields"] = found.pop("additionalProperties")
    if "$ref" in found and len(found) > 1:
        found["allOf"] = [{"$ref": found.pop("$ref")}]
        found.setdefault("default", {})
    return {name: value for name, value in found.items() if not (name == "default" and value is None)}


_FORMATS = {(-(2**31), 2**31 - 1): "int32", (-(2**63), 2**63 - 1): "int64"}
"""Words for the bounds of integers."""


def _some(found: Schema) -> Schema:
    members = [member for member in found.pop("anyOf") if member != {"type": "null"}]
    types = {member.get("type") for member in members}
    if len(members) == 1:
        return {**members[0], **found}
    if types == {"integer", "string"}:
        return {"x-kubernetes-int-or-string": True, **found}
    return {"anyOf": members, **found}

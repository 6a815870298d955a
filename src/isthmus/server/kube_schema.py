"""The kinds' models -> OpenAPI v3 documents, one for each group and version.

    Kind ─▶ schema of the object, of its spec and of everything below, with the fields' documentation
         └▶ paths: what may be asked of it, with the parameters by which clients see what is supported

Schemas come from pydantic; what only JSON Schema can say is put as OpenAPI 3.0 has it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from isthmus.api.codec import Metadata
from isthmus.api.kinds import KINDS, Kind
from isthmus.server.kube_bodies import JSON_PATCH, patch_types
from isthmus.server.merge_shapes import Shape, shape_of

Schema = dict[str, Any]
_REF = "#/components/schemas/"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_JSON = "application/json"
_OUTCOME: Schema = {
    "type": "object",
    "description": "What became of a request.",
    "required": ["apiVersion", "kind"],
    "properties": {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
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
_REFUSED: Schema = {
    "description": "Refused, and why.",
    "content": {_JSON: {"schema": {"$ref": f"{_REF}{_META}Status"}}},
}
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
                    "lastTransitionTime": {"type": "string", "description": "When the status last changed."},
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


def openapi(group: str, version: str) -> Schema | None:
    """The document of a group and version, None when it is not served."""
    kinds = [kind for kind in KINDS.values() if kind.group == group and version in kind.versions]
    if not kinds:
        return None
    paths: Schema = {}
    for kind in kinds:
        paths |= _paths(kind, version)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Isthmus", "version": version},
        "paths": paths,
        "components": {"schemas": _schemas(kinds, version), "responses": {"Refused": _REFUSED}},
    }


def _schemas(kinds: Iterable[Kind], version: str) -> Schema:
    models: list[type[BaseModel]] = [Metadata, *(kind.spec_model for kind in kinds)]
    _, made = models_json_schema(
        [(model, "validation") for model in dict.fromkeys(models)],
        by_alias=True,
        ref_template=_REF + "{model}",
    )
    schemas = {name: _plain(schema) for name, schema in made["$defs"].items()}
    for kind in kinds:
        _tell_merging(kind, schemas)
    schemas[f"{_META}ObjectMeta"] = schemas.pop("Metadata")
    for kind in kinds:
        schemas |= _object(kind, version, schemas)
    _say_once(schemas, schemas)
    schemas[f"{_META}DeleteOptions"] = _DELETE_OPTIONS
    schemas[f"{_META}Status"] = _OUTCOME
    return schemas


def _object(kind: Kind, version: str, schemas: Mapping[str, Schema]) -> Schema:
    name, typed = type_name(kind, version), _gvk(kind, version)
    spec = schemas[kind.spec_model.__name__]
    properties: Schema = {
        "apiVersion": {"type": "string", "description": "Group and version of the kind."},
        "kind": {"type": "string", "description": f"Always {kind.kind}."},
        "metadata": {
            "allOf": [{"$ref": f"{_REF}{_META}ObjectMeta"}],
            "description": "Name, labels and what the server keeps about the object.",
            "default": {},
        },
    }
    required: list[str] = []
    if kind.has_spec:
        properties["spec"] = {
            "allOf": [{"$ref": _REF + kind.spec_model.__name__}],
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
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "items": {"type": "array", "items": {"$ref": _REF + name}},
        },
        "x-kubernetes-group-version-kind": [typed | {"kind": f"{kind.kind}List"}],
    }
    return {name: one, f"{name}List": many}


def type_name(kind: Kind, version: str) -> str:
    """A kind's name among the schemas: `io.istio.networking.v1.VirtualService`."""
    domain = ".".join(reversed(kind.group.split("."))) if kind.group else "io.k8s.api.core"
    return f"{domain}.{version}.{kind.kind}"


def _say_once(node: Any, schemas: Mapping[str, Schema]) -> None:
    """Takes away descriptions of fields that say what their type says."""
    if isinstance(node, list):
        for item in node:
            _say_once(item, schemas)
    elif isinstance(node, dict):
        refs = [one.get("$ref", "") for one in node.get("allOf", ()) if isinstance(one, dict)]
        if len(refs) == 1 and isinstance(node.get("description"), str):
            said = schemas.get(refs[0].removeprefix(_REF), {}).get("description")
            if said == node["description"]:
                del node["description"]
        for item in node.values():
            _say_once(item, schemas)


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
            element = found.get("items", {}).get("$ref", "").removeprefix(_REF)
            _mark(schemas.get(element, {}), Shape(fields=below.fields), schemas)
        elif below.merge == "as set":
            found["x-kubernetes-list-type"] = "set"
            found["x-kubernetes-patch-strategy"] = "merge"
        elif found.get("type") == "array":
            found["x-kubernetes-list-type"] = "atomic"
        else:
            found["x-kubernetes-map-type"] = "atomic"


def _sentence(kind: Kind, spec: Schema) -> str:
    text = str(spec.get("description", ""))
    if kind.has_spec and text.startswith("Spec of "):
        return text.removeprefix("Spec of ").replace("a ", "A ", 1).replace("an ", "An ", 1)
    return text


def _gvk(kind: Kind, version: str) -> dict[str, str]:
    return {"group": kind.group, "kind": kind.kind, "version": version}


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


def _some(found: Schema) -> Schema:
    members = [member for member in found.pop("anyOf") if member != {"type": "null"}]
    types = {member.get("type") for member in members}
    if len(members) == 1:
        return {**members[0], **found}
    if types == {"integer", "string"}:
        return {"x-kubernetes-int-or-string": True, **found}
    return {"anyOf": members, **found}


def _paths(kind: Kind, version: str) -> Schema:
    base = f"/apis/{kind.group}/{version}" if kind.group else f"/api/{version}"
    inside = f"{base}/namespaces/{{namespace}}" if kind.namespaced else base
    many, one = f"{inside}/{kind.plural}", f"{inside}/{kind.plural}/{{name}}"
    where = [_in_path("namespace", "Namespace of the object.")] if kind.namespaced else []
    named = [*where, _in_path("name", f"Name of the {kind.kind}.")]
    operations, patches = _Operations(kind, version), patch_types(kind)
    paths = {
        many: {
            "parameters": where,
            "get": operations.made("list", query=_LIST),
            "post": operations.made("post", query=_WRITE, body=(_JSON,), codes=("201",)),
            "delete": operations.made("deletecollection", query=(*_LIST, *_DELETE)),
        },
        one: {
            "parameters": named,
            "get": operations.made("get"),
            "put": operations.made("put", query=_WRITE, body=(_JSON,)),
            "patch": operations.made("patch", query=(*_WRITE, _FORCE), body=patches, codes=("200", "201")),
            "delete": operations.made("delete", query=_DELETE),
        },
        f"{one}/status": {
            "parameters": named,
            "get": operations.made("get", part="Status"),
            "put": operations.made("put", query=_WRITE, body=(_JSON,), part="Status"),
            "patch": operations.made("patch", query=(*_WRITE, _FORCE), body=patches, part="Status"),
        },
    }
    if kind.namespaced:
        everywhere = operations.made("list", query=_LIST, part="ForAllNamespaces")
        paths[f"{base}/{kind.plural}"] = {"get": everywhere}
    return paths


class _Operations:
    """Makes the operations of one kind in one version."""

    def __init__(self, kind: Kind, version: str) -> None:
        self._kind = kind
        self._version = version

    def made(
        self,
        action: str,
        *,
        query: Iterable[Schema] = (),
        body: tuple[str, ...] = (),
        codes: tuple[str, ...] = ("200",),
        part: str = "",
    ) -> Schema:
        """One operation."""
        name = type_name(self._kind, self._version)
        ref = {"$ref": f"{_REF}{name}List" if action == "list" else _REF + name}
        if action in {"delete", "deletecollection"}:
            ref = {"$ref": f"{_REF}{_META}Status"}
        answer = {"description": "OK", "content": {_JSON: {"schema": ref}}}
        refused = {"$ref": "#/components/responses/Refused"}
        operation: Schema = {
            "operationId": f"{action}_{self._kind.group}_{self._version}_{self._kind.kind}{part}".replace(
                ".", "_"
            ),
            "tags": [f"{self._kind.group or 'core'}_{self._version}"],
            "parameters": [*query],
            # kubectl cannot read 4XX: a code is a number to it
            "responses": {**dict.fromkeys(codes, answer), "default": refused},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": _gvk(self._kind, self._version),
        }
        if body:
            content = {media: {"schema": _body(action, media, {"$ref": _REF + name})} for media in body}
            operation["requestBody"] = {"required": True, "content": content}
        if action in {"delete", "deletecollection"}:
            options = {"schema": {"$ref": f"{_REF}{_META}DeleteOptions"}}
            operation["requestBody"] = {"content": {_JSON: options}}
        return operation


def _body(action: str, media: str, whole: Schema) -> Schema:
    if action != "patch":
        return whole
    return {"type": "array", "items": {"type": "object"}} if media == JSON_PATCH else {"type": "object"}


def _in_path(name: str, text: str) -> Schema:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": text,
        "schema": {"type": "string", "uniqueItems": True},
    }


def _in_query(name: str, text: str, kind: str = "string") -> Schema:
    return {"name": name, "in": "query", "description": text, "schema": {"type": kind, "uniqueItems": True}}


_DRY_RUN = _in_query("dryRun", "All: answer as if it was done, and change nothing.")
_WRITE = (
    _DRY_RUN,
    _in_query("fieldManager", "Who writes: its fields are kept under this name."),
    _in_query("fieldValidation", "What happens to unknown fields: Ignore, Warn or Strict."),
)
_FORCE = _in_query("force", "Take over fields that others own; for apply patches only.", "boolean")
_DELETE = (
    _DRY_RUN,
    _in_query("propagationPolicy", "What happens to owned objects: Background, Foreground or Orphan."),
    _in_query("gracePeriodSeconds", "Read and not used.", "integer"),
)
_LIST = (
    _in_query("labelSelector", "Only objects with these labels."),
    _in_query("fieldSelector", "Only objects with these fields."),
    _in_query("limit", "At most so many objects; the answer says how to go on.", "integer"),
    _in_query("continue", "Goes on where an answer ended."),
    _in_query("resourceVersion", "State that is asked for."),
    _in_query("resourceVersionMatch", "Exact or NotOlderThan."),
    _in_query("watch", "Tell changes instead.", "boolean"),
    _in_query("allowWatchBookmarks", "Tell from time to time how far a watch is.", "boolean"),
    _in_query("sendInitialEvents", "Begin a watch with what stands.", "boolean"),
    _in_query("timeoutSeconds", "How long a watch lasts.", "integer"),
)
_DELETE_OPTIONS: Schema = {
    "type": "object",
    "description": "How to delete.",
    "properties": {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "dryRun": {"type": "array", "items": {"type": "string"}},
        "gracePeriodSeconds": {"type": "integer", "format": "int64"},
        "orphanDependents": {"type": "boolean"},
        "propagationPolicy": {"type": "string"},
        "preconditions": {
            "type": "object",
            "properties": {"uid": {"type": "string"}, "resourceVersion": {"type": "string"}},
        },
    },
}

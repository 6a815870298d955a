"""The kinds -> what may be asked of them, as the paths of an OpenAPI v3 document tell it.

Clients see from the parameters what is supported: kubectl leaves validation and dry runs to a server that
names `fieldValidation` and `dryRun`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from isthmus.api.kinds import Kind
from isthmus.server.kube_bodies import JSON_PATCH, patch_types

Schema = dict[str, Any]
REF = "#/components/schemas/"
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_JSON = "application/json"


def type_name(kind: Kind, version: str) -> str:
    """A kind's name among the schemas: `io.istio.networking.v1.VirtualService`."""
    domain = ".".join(reversed(kind.group.split("."))) if kind.group else "io.k8s.api.core"
    return f"{domain}.{version}.{kind.kind}"


def group_version_kind(kind: Kind, version: str) -> dict[str, str]:
    """What `x-kubernetes-group-version-kind` says of a kind."""
    return {"group": kind.group, "kind": kind.kind, "version": version}


def paths(kind: Kind, version: str) -> Schema:
    """What may be asked of the objects of a kind in a version."""
    base = f"/apis/{kind.group}/{version}" if kind.group else f"/api/{version}"
    inside = f"{base}/namespaces/{{namespace}}" if kind.namespaced else base
    many, one = f"{inside}/{kind.plural}", f"{inside}/{kind.plural}/{{name}}"
    where = [_in_path("namespace", "Namespace of the object.")] if kind.namespaced else []
    named = [*where, _in_path("name", f"Name of the {kind.kind}.")]
    operations, patches = _Operations(kind, version), patch_types(kind)
    found = {
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
        found[f"{base}/{kind.plural}"] = {"get": everywhere}
    return found


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
        ref = {"$ref": f"{REF}{name}List" if action == "list" else REF + name}
        if action in {"delete", "deletecollection"}:
            ref = {"$ref": f"{REF}{META}Status"}
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
            "x-kubernetes-group-version-kind": group_version_kind(self._kind, self._version),
        }
        if body:
            content = {media: {"schema": _body(action, media, {"$ref": REF + name})} for media in body}
            operation["requestBody"] = {"required": True, "content": content}
        if action in {"delete", "deletecollection"}:
            options = {"schema": {"$ref": f"{REF}{META}DeleteOptions"}}
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


def texts(text_by_name: Mapping[str, str]) -> Schema:
    """Properties that are texts, from what there is to say about each."""
    return {name: {"type": "string", "description": text} for name, text in text_by_name.items()}


TYPE_META = texts({"apiVersion": "Group and version of the kind.", "kind": "Name of the kind."})
DELETE_OPTIONS: Schema = {
    "type": "object",
    "description": "How to delete.",
    "properties": {
        **TYPE_META,
        "dryRun": {
            "type": "array",
            "items": {"type": "string"},
            "description": "All: answer as if it was done, and change nothing.",
        },
        "gracePeriodSeconds": {"type": "integer", "format": "int64", "description": "Read and not used."},
        "orphanDependents": {
            "type": "boolean",
            "description": "Older word for the propagation policies Orphan (true) and Background.",
        },
        "propagationPolicy": {
            "type": "string",
            "description": "What happens to owned objects: Background, Foreground or Orphan.",
        },
        "preconditions": {
            "type": "object",
            "description": "What must be so, else nothing is deleted.",
            "properties": texts(
                {"uid": "The very object that is meant.", "resourceVersion": "The state that is meant."}
            ),
        },
    },
}

"""The kinds -> the documents by which clients find out what is served and how."""

import hashlib
import re
from collections.abc import Iterable
from functools import cache
from typing import Any

from starlette.requests import Request

from isthmus import __version__
from isthmus.api.kinds import KINDS, Kind
from isthmus.api.text import dumped
from isthmus.server.kube_schema import openapi

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_STATUS_VERBS = ("get", "patch", "update")
KUBERNETES_VERSION = ("1", "34")
"""The Kubernetes API level that clients may expect."""
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"


def version() -> dict[str, Any]:
    """What `/version` says; `gitVersion` is a semantic version, kubectl reads it."""
    major, minor = KUBERNETES_VERSION
    return {
        "major": major,
        "minor": minor,
        "gitVersion": f"v{major}.{minor}.0+isthmus-{re.sub('[^0-9A-Za-z.-]', '-', __version__)}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "linux/amd64",
    }


def aggregated(request: Request) -> str | None:
    """The version of aggregated discovery that a client takes, None when it wants the plain one."""
    for part in request.headers.get("accept", "").split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        given = dict(parameter.partition("=")[::2] for parameter in parameters)
        if media != "application/json" or given.get("as", "APIGroupDiscoveryList") != "APIGroupDiscoveryList":
            continue
        if not given.get("as"):
            return None
        if given.get("g") == "apidiscovery.k8s.io" and given.get("v") in {"v2", "v2beta1"}:
            return given["v"]
    return None


def aggregated_type(api_version: str) -> str:
    """The media type of aggregated discovery."""
    return _AGGREGATED.format(api_version)


@cache
def aggregated_groups(api_version: str, *, core: bool) -> bytes:
    """What `/api` (core) or `/apis` says at once: all groups, versions and resources."""
    names = [""] if core else _group_names()
    items = []
    for name in names:
        metadata: dict[str, Any] = {"name": name} if name else {}
        metadata["creationTimestamp"] = None
        versions = [
            {
                "version": one,
                "resources": [_discovered(kind, one) for kind in _kinds(name, one)],
                "freshness": "Current",
            }
            for one in _versions(name)
        ]
        items.append({"metadata": metadata, "versions": versions})
    document = {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{api_version}",
        "metadata": {},
        "items": items,
    }
    return dumped(document)


def core_versions() -> dict[str, Any]:
    """What `/api` says."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def groups() -> dict[str, Any]:
    """What `/apis` says."""
    found = [_group(name) for name in _group_names()]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}


def group(name: str) -> dict[str, Any] | None:
    """What `/apis/GROUP` says, None when there is no such group."""
    if name not in _group_names():
        return None
    return {"kind": "APIGroup", "apiVersion": "v1"} | _group(name)


def resources(group_name: str, version_name: str) -> dict[str, Any] | None:
    """What `/api/v1` and `/apis/GROUP/VERSION` say, None when that is not served."""
    kinds = _kinds(group_name, version_name)
    if not kinds:
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group_name}/{version_name}" if group_name else version_name,
        "resources": [row for kind in kinds for row in _rows(kind)],
    }


@cache
def schema(path: str) -> bytes | None:
    """The OpenAPI document under `/openapi/v3/`: `api/v1`, `apis/GROUP/VERSION`; None when there is none."""
    match path.split("/"):
        case ["api", version_name]:
            found = openapi("", version_name)
        case ["apis", group_name, version_name] if group_name:
            found = openapi(group_name, version_name)
        case _:
            found = None
    return None if found is None else dumped(found)


@cache
def schema_index() -> dict[str, Any]:
    """What `/openapi/v3` says: where the documents are; a changed document has another address."""
    paths = ["api/v1", *(f"apis/{name}/{one}" for name in _group_names() for one in _versions(name))]
    found = {}
    for path in paths:
        digest = hashlib.sha256(schema(path) or b"").hexdigest()[:32].upper()
        found[path] = {"serverRelativeURL": f"/openapi/v3/{path}?hash={digest}"}
    return {"paths": found}


OLD_SCHEMA_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


def old_schema(accept: str) -> tuple[bytes, str]:
    """What `/openapi/v2` says, and its media type: a document of no schemas, for these are in version 3.

    kubectl asks for it before it writes a `List`, and leaves to us what it has no schema for (decision 028).
    """
    title, shown = "Isthmus", version()["gitVersion"]
    if "protobuf" not in accept:
        document = {"swagger": "2.0", "info": {"title": title, "version": shown}, "paths": {}}
        return dumped(document), "application/json"
    info = _field(1, title.encode()) + _field(2, shown.encode())
    return _field(1, b"2.0") + _field(2, info), OLD_SCHEMA_TYPE


def _field(number: int, content: bytes) -> bytes:
    """A protobuf field of bytes; short ones only."""
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def _group_names() -> list[str]:
    return list(dict.fromkeys(kind.group for kind in KINDS.values() if kind.group))


def _versions(name: str) -> list[str]:
    """The versions of a group, those of most kinds first."""
    kinds = [kind for kind in KINDS.values() if kind.group == name]
    found = dict.fromkeys(version for kind in kinds for version in kind.versions)
    return sorted(found, key=_age)


def _age(name: str) -> tuple[int, int, int]:
    """Kubernetes' order: stable, then beta, then alpha, the newest of each first."""
    match = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", name)
    assert match is not None, f"{name} is no version"
    stage = {None: 0, "beta": 1, "alpha": 2}[match[2]]
    return stage, -int(match[1]), -int(match[3] or 0)


def _kinds(group_name: str, version_name: str) -> list[Kind]:
    return [kind for kind in KINDS.values() if kind.group == group_name and version_name in kind.versions]


def _group(name: str) -> dict[str, Any]:
    versions = [{"groupVersion": f"{name}/{one}", "version": one} for one in _versions(name)]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def _rows(kind: Kind) -> Iterable[dict[str, Any]]:
    yield {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(VERBS),
        "shortNames": list(kind.short_names),
        "categories": list(kind.categories),
    }
    yield {
        "name": f"{kind.plural}/status",
        "singularName": "",
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(_STATUS_VERBS),
    }


def _discovered(kind: Kind, version_name: str) -> dict[str, Any]:
    typed = {"group": kind.group, "version": version_name, "kind": kind.kind}
    status = {"subresource": "status", "responseKind": typed, "verbs": list(_STATUS_VERBS)}
    found = {
        "resource": kind.plural,
        "responseKind": typed,
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(VERBS),
        "shortNames": list(kind.short_names),
        "categories": list(kind.categories),
        "subresources": [status],
    }
    return {name: value for name, value in found.items() if value != []}

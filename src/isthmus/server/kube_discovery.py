"""The kinds -> the documents by which clients find out what is served and how."""

from typing import Any

from isthmus import __version__
from isthmus.api.kinds import KINDS, Kind

VERBS = ("create", "delete", "get", "list", "patch", "update", "watch")
KUBERNETES_VERSION = ("1", "30")
"""The Kubernetes API level that clients may expect."""


def version() -> dict[str, Any]:
    """What `/version` says."""
    major, minor = KUBERNETES_VERSION
    return {
        "major": major,
        "minor": minor,
        "gitVersion": f"v{major}.{minor}.0+isthmus-{__version__}",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "linux/amd64",
    }


def core_versions() -> dict[str, Any]:
    """What `/api` says."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def groups() -> dict[str, Any]:
    """What `/apis` says."""
    names = dict.fromkeys(kind.group for kind in KINDS.values() if kind.group)
    return {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [found for name in names if (found := _group(name))],
    }


def group(name: str) -> dict[str, Any] | None:
    """What `/apis/GROUP` says, None when there is no such group."""
    found = _group(name)
    return {"kind": "APIGroup", "apiVersion": "v1", **found} if found else None


def resources(group_name: str, version_name: str) -> dict[str, Any] | None:
    """What `/api/v1` and `/apis/GROUP/VERSION` say, None when that is not served."""
    kinds = [kind for kind in KINDS.values() if kind.group == group_name and version_name in kind.versions]
    if not kinds:
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group_name}/{version_name}" if group_name else version_name,
        "resources": [row for kind in kinds for row in _rows(kind)],
    }


def _group(name: str) -> dict[str, Any] | None:
    kinds = [kind for kind in KINDS.values() if kind.group == name]
    if not name or not kinds:
        return None
    versions = [
        {"groupVersion": f"{name}/{version}", "version": version}
        for version in dict.fromkeys(version for kind in kinds for version in kind.versions)
    ]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def _rows(kind: Kind) -> list[dict[str, Any]]:
    row = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(VERBS),
        "shortNames": list(kind.short_names),
    }
    status = {
        "name": f"{kind.plural}/status",
        "singularName": "",
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": ["get", "patch", "update"],
    }
    return [row, status]

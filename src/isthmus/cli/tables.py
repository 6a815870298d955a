"""Documents of one kind -> a table for people."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from isthmus.api.kinds import Kind

Document = Mapping[str, Any]
Column = tuple[str, Callable[[Document], str]]


def _spec(document: Document) -> Document:
    spec: Document = document.get("spec") or {}
    return spec


def _joined(values: Sequence[Any]) -> str:
    return ",".join(map(str, values))


_COLUMNS: Mapping[str, Sequence[Column]] = {
    "Service": (
        ("CLUSTER-IP", lambda doc: _spec(doc).get("clusterIP", "")),
        ("PORTS", lambda doc: _joined([port["port"] for port in _spec(doc).get("ports", ())])),
    ),
    "ServiceEntry": (
        ("HOSTS", lambda doc: _joined(_spec(doc).get("hosts", ()))),
        ("LOCATION", lambda doc: _spec(doc).get("location", "MESH_EXTERNAL")),
        ("RESOLUTION", lambda doc: _spec(doc).get("resolution", "NONE")),
    ),
    "WorkloadEntry": (
        ("ADDRESS", lambda doc: _spec(doc).get("address", "")),
        ("HEALTHY", lambda doc: condition(doc, "Healthy").get("status", "")),
    ),
    "WorkloadGroup": (
        ("SERVICE-ACCOUNT", lambda doc: _spec(doc).get("template", {}).get("serviceAccount", "")),
    ),
    "VirtualService": (("HOSTS", lambda doc: _joined(_spec(doc).get("hosts", ()))),),
    "DestinationRule": (("HOST", lambda doc: _spec(doc).get("host", "")),),
    "PeerAuthentication": (("MODE", lambda doc: (_spec(doc).get("mtls") or {}).get("mode", "")),),
    "JoinToken": (
        ("GROUP", lambda doc: _spec(doc).get("group", "")),
        ("EXPIRES", lambda doc: _spec(doc).get("expiresAt", "")),
    ),
}


def condition(document: Document, name: str) -> Mapping[str, Any]:
    """A condition of an object, empty when it has none of that name."""
    conditions = (document.get("status") or {}).get("conditions") or ()
    return next((found for found in conditions if found.get("type") == name), {})


def age(created: str, now: datetime) -> str:
    """How long ago, in the coarsest unit that still says something."""
    try:
        seconds = int((now - datetime.fromisoformat(created)).total_seconds())
    except ValueError:
        return ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{max(seconds, 0)}s"


def table(kind: Kind, documents: Sequence[Document], *, namespaces: bool, now: datetime | None = None) -> str:
    """The documents as lines with a head; `namespaces` adds that column."""
    moment = now or datetime.now(UTC)
    columns: list[Column] = [("NAME", lambda doc: doc["metadata"]["name"]), *_COLUMNS.get(kind.kind, ())]
    if namespaces and kind.namespaced:
        columns.insert(0, ("NAMESPACE", lambda doc: doc["metadata"].get("namespace", "")))
    if kind.programmed:
        columns += [
            ("PROGRAMMED", lambda doc: condition(doc, "Programmed").get("status", "")),
            ("REASON", lambda doc: condition(doc, "Programmed").get("reason", "")),
        ]
    columns.append(("AGE", lambda doc: age(doc["metadata"].get("creationTimestamp", ""), moment)))
    rows = [[name for name, _ in columns], *([read(doc) or "-" for _, read in columns] for doc in documents)]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )

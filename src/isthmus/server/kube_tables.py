"""Objects -> rows of a table, as `kubectl get` prints them.

Columns are the kind's own; a kind that proxies are configured from also says how far that is.
https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from isthmus.api.codec import encode
from isthmus.api.columns import Column
from isthmus.api.kinds import Kind
from isthmus.api.meta import Object
from isthmus.api.text import dumped
from isthmus.server.json_path import found
from isthmus.server.kube_cells import COMPUTED

Document = Mapping[str, Any]
_PROGRAMMED = Column(
    "Programmed",
    ".status.conditions[?(@.type=='Programmed')].status",
    description="Whether all proxies have it.",
)
_NAME = {
    "name": "Name",
    "type": "string",
    "format": "name",
    "description": "Name of the object.",
    "priority": 0,
}


def metadata_document(obj: Object) -> dict[str, Any]:
    """An object without spec and status."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": encode(obj)["metadata"],
    }


def table(
    kind: Kind,
    rows: Iterable[Mapping[str, Any]],
    metadata: Mapping[str, Any],
    *,
    head: bool = True,
) -> dict[str, Any]:
    """A table; without `head` the reader knows its columns from an earlier one."""
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": dict(metadata),
        "columnDefinitions": definitions(kind) if head else None,
        "rows": list(rows),
    }


def row(obj: Object, kind: Kind, api_version: str, now: datetime, *, include: str = "") -> dict[str, Any]:
    """One object as a row; `include` is what comes with it: its metadata, all of it (Object), None."""
    document = encode(obj, api_version)
    one: dict[str, Any] = {"cells": cells(document, kind, now)}
    if include == "None":
        one["object"] = None
    elif include == "Object":
        one["object"] = document
    else:
        one["object"] = {
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": document["metadata"],
        }
    return one


def definitions(kind: Kind) -> list[dict[str, Any]]:
    """The columns as a table's head has them."""
    rest = [
        {
            "name": column.name,
            "type": column.type,
            "format": "",
            "description": column.description,
            "priority": column.priority,
        }
        for column in columns(kind)
    ]
    # an event's name says nothing: it shows with -o wide
    return [_NAME | {"priority": int(kind.kind == "Event")}, *rest]


def columns(kind: Kind) -> tuple[Column, ...]:
    """The columns after the name."""
    if not kind.programmed:
        return kind.columns
    before = [column for column in kind.columns if not _is_last(column)]
    return (*before, _PROGRAMMED, *(column for column in kind.columns if _is_last(column)))


def cells(document: Document, kind: Kind, now: datetime) -> list[Any]:
    """The values of one row."""
    computed = COMPUTED.get(kind.kind, {})
    values: list[Any] = [document["metadata"].get("name", "")]
    for column in columns(kind):
        if (compute := computed.get(column.name)) is not None:
            values.append(compute(document))
        else:
            values.append(_cell(column, found(column.json_path, document), now))
    return values


def human_duration(seconds: float) -> str:
    """A time span as kubectl shows it: in the coarsest units that still say something."""
    if seconds < -1:
        return "<invalid>"
    whole = max(int(seconds), 0)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 2 * 365:
        return f"{days}d"
    if days < 8 * 365:
        return f"{days // 365}y{days % 365}d" if days % 365 else f"{days // 365}y"
    return f"{days // 365}y"


def _is_last(column: Column) -> bool:
    return column.type == "date" or column.priority > 0


def _cell(column: Column, values: list[Any], now: datetime) -> Any:
    if not values or values[0] is None:
        return None
    if column.type == "date":
        return _age(str(values[0]), now)
    if column.type in {"integer", "number", "boolean"}:
        return values[0] if isinstance(values[0], int | float) else None
    return ",".join(map(_shown, values))


def _age(text: str, now: datetime) -> str:
    try:
        return human_duration((now - datetime.fromisoformat(text)).total_seconds())
    except (ValueError, TypeError):
        return "<unknown>"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and all(isinstance(item, str) for item in value.values()):
        return ",".join(f"{name}={item}" for name, item in value.items())
    return dumped(value).decode()


def utc_now() -> datetime:
    """The moment for ages."""
    return datetime.now(UTC)

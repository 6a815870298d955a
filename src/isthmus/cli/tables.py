"""The server's tables -> lines for people, as kubectl prints them, with the reason of what is programmed."""

from collections.abc import Mapping, Sequence
from typing import Any

Document = Mapping[str, Any]
_PROGRAMMED, _REASON = "Programmed", "REASON"


def condition(document: Document, name: str) -> Mapping[str, Any]:
    """A condition of an object, empty when it has none of that name."""
    conditions = (document.get("status") or {}).get("conditions") or ()
    return next((found for found in conditions if found.get("type") == name), {})


def rows(table: Document, *, namespaces: bool, wide: bool, prefix: str = "") -> list[list[str]]:
    """The head and the lines of a table; `prefix` stands before names where kinds are mixed."""
    shown = [
        index for index, column in enumerate(table["columnDefinitions"]) if wide or not column.get("priority")
    ]
    names = [column["name"] for column in table["columnDefinitions"]]
    found = [[cell for index in shown for cell in _head(names[index])]]
    for row in table["rows"]:
        found.append([cell for index in shown for cell in _cell(row, names[index], index, prefix)])
    if namespaces:
        spaces = [row["object"]["metadata"].get("namespace", "") for row in table["rows"]]
        found = [[first, *line] for first, line in zip(["NAMESPACE", *spaces], found, strict=True)]
    return found


def aligned(lines: Sequence[Sequence[str]], widths: Sequence[int] = ()) -> str:
    """The lines with their columns below each other."""
    needed = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    wide = [max(pair) for pair in zip(needed, widths or needed, strict=True)]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, wide, strict=True)).rstrip()
        for line in lines
    )


def _head(name: str) -> list[str]:
    return [name.upper(), _REASON] if name == _PROGRAMMED else [name.upper()]


def _cell(row: Document, name: str, index: int, prefix: str) -> list[str]:
    value = row["cells"][index]
    text = (prefix if index == 0 else "") + ("" if value is None else str(value))
    if name != _PROGRAMMED:
        return [text]
    return [text, condition(row["object"], _PROGRAMMED).get("reason", "")]

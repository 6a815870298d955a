"""The server's tables as lines for people."""

from typing import Any

from isthmus.cli.tables import aligned, rows

CONDITION = {"type": "Programmed", "status": "False", "reason": "Rejected"}
TABLE: dict[str, Any] = {
    "columnDefinitions": [
        {"name": "Name", "priority": 0},
        {"name": "Programmed", "priority": 0},
        {"name": "Address", "priority": 1},
    ],
    "rows": [
        {
            "cells": ["a", "False", "10.0.0.1"],
            "object": {"metadata": {"namespace": "n"}, "status": {"conditions": [CONDITION]}},
        },
        {"cells": ["longer", None, ""], "object": {"metadata": {"namespace": "n"}}},
    ],
}


def test_columns() -> None:
    assert aligned(rows(TABLE, namespaces=False, wide=False)).splitlines() == [
        "NAME     PROGRAMMED   REASON",
        "a        False        Rejected",
        "longer",
    ]
    assert rows(TABLE, namespaces=True, wide=True, prefix="vs/")[:2] == [
        ["NAMESPACE", "NAME", "PROGRAMMED", "REASON", "ADDRESS"],
        ["n", "vs/a", "False", "Rejected", "10.0.0.1"],
    ]

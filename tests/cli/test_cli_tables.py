"""Documents to tables."""

from datetime import UTC, datetime, timedelta

import pytest

from isthmus.api.kinds import KINDS
from isthmus.cli.tables import age, table

NOW = datetime(2026, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (5, "5s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (172800, "2d")],
)
def test_ages(seconds: int, text: str) -> None:
    assert age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == text
    assert age("", NOW) == ""


def test_a_table_shows_how_far_an_object_came() -> None:
    document = {
        "metadata": {"name": "reviews", "namespace": "bookinfo", "creationTimestamp": "2026-01-09T23:59:00Z"},
        "spec": {"hosts": ["reviews", "r.example.com"]},
        "status": {"conditions": [{"type": "Programmed", "status": "False", "reason": "Rejected"}]},
    }
    assert table(KINDS["VirtualService"], [document], namespaces=True, now=NOW).splitlines() == [
        "NAMESPACE   NAME      HOSTS                   PROGRAMMED   REASON     AGE",
        "bookinfo    reviews   reviews,r.example.com   False        Rejected   60s",
    ]


def test_every_kind_has_a_table() -> None:
    for kind in KINDS.values():
        lines = table(kind, [{"metadata": {"name": "a"}}], namespaces=False, now=NOW).splitlines()
        assert lines[0].startswith("NAME")
        assert lines[1].startswith("a ")

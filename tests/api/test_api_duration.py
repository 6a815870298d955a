"""Durations as Go reads them."""

import pytest

from isthmus.api.duration import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("2m30s", 150),
        ("1h", 3600),
        ("250ms", 0.25),
        ("1us", 1e-6),
        ("1µs", 1e-6),
        ("0", 0),
        ("0s", 0),
        ("-1s", -1),
        ("+1m", 60),
        ("1m1m", 120),
        ("1.s", 1),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "1", "s", "1 s", "1x", "1d", ".s", "--1s", "1s ", "1e3s", "٣s", "9999999h"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration|longer than"):
        parse_duration(text)

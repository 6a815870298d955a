"""Text such as `1.5s` or `2m30s` -> seconds, and back.

Istio reads durations with Go's `time.ParseDuration` (https://pkg.go.dev/time#ParseDuration): a number with a
unit, several of them in a row, an optional sign; `0` alone needs no unit.
"""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

_SECONDS_BY_UNIT = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h)"
_WHOLE = re.compile(rf"([-+]?)((?:{_PART})+)")
_PARTS = re.compile(r"([0-9.]+)([a-zµμ]+)")
_LONGEST_S = (2**63 - 1) / 1e9


def parse_duration(text: str) -> float:
    """The seconds that `text` spells; ValueError with an example for anything that is not a duration."""
    if text in {"0", "+0", "-0"}:
        return 0.0
    match = _WHOLE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{text!r} is not a duration: write a number and a unit, such as 500ms, 1.5s or 2m30s"
        )
    sign, parts = match.groups()
    seconds = sum(float(number) * _SECONDS_BY_UNIT[unit] for number, unit in _PARTS.findall(parts))
    if seconds > _LONGEST_S:
        raise ValueError(f"{text!r} is longer than the longest duration, 2562047h")
    return -seconds if sign == "-" else seconds


def _checked(text: str) -> str:
    try:
        parse_duration(text)
    except ValueError as error:
        raise ValueError(
            "is not a duration: must be a valid duration greater than 1ms, such as 500ms, 1.5s or 2m30s"
        ) from error
    return text


Duration = Annotated[str, AfterValidator(_checked), Field(json_schema_extra={"format": "duration"})]
"""A duration as people write it; `parse_duration` of it never fails."""

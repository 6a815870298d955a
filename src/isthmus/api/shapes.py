"""The small value types that several kinds share: ports, percentages, selectors, string matches."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

from isthmus.api.meta import Model

PortNumber = Annotated[int, Field(ge=1, le=65535)]
"""A TCP or UDP port."""

UInt32 = Annotated[int, Field(ge=0, le=2**32 - 1)]
Int32 = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]


def _port_key(value: Any) -> Any:
    # a JSON object's keys are strings; the port that they spell is what readers want
    if isinstance(value, str):
        if not (value.isascii() and value.isdigit()):
            raise ValueError(f"{value!r} is not a port number")
        return int(value)
    return value


PortKey = Annotated[int, BeforeValidator(_port_key), Field(ge=1, le=65535)]
"""A port as the key of a map: a string in JSON, a number here."""


def _int_or_string(value: Any) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("should be a port number or a port name")
    return value


IntOrString = Annotated[
    int | str,
    PlainValidator(_int_or_string),
    PlainSerializer(lambda value: value),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
]
"""Kubernetes' int-or-string: a port number, or the name of a port."""


class Percent(Model):
    """Istio's `Percent`: 0.0 to 100.0, not a fraction."""

    value: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Share of requests in percent, from 0 to 100."""


class PortSelector(Model):
    """The number of a port of the destination host."""

    number: PortNumber
    """Valid port number."""


class StringMatch(Model):
    """How to match a string; exactly one of the fields is set."""

    exact: str | None = None
    """The whole string, as it is."""
    prefix: str | None = None
    """How the string begins."""
    regex: str | None = None
    """RE2 regular expression that matches the whole string (https://github.com/google/re2/wiki/Syntax)."""


class WorkloadSelector(Model):
    """Istio's networking `WorkloadSelector`: the workloads that have all these labels."""

    labels: Mapping[str, str] = Field(default_factory=dict)
    """Labels that a workload must have, all of them, in the object's own namespace."""

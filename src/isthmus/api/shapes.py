"""The small value types that several kinds share: ports, percentages, selectors, string matches."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

from isthmus.api.meta import Model, Refused


def _port(number: int) -> int:
    if not 1 <= number <= 65535:
        raise ValueError(f'Invalid value: "integer": port must be between 1-65535, is {number}')
    return number


PortNumber = Annotated[
    int, AfterValidator(_port), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": 65535})
]
"""A TCP or UDP port."""

UInt32 = Annotated[int, Field(ge=0, le=2**32 - 1)]
UInt64 = Annotated[int, Field(ge=0, le=2**64 - 1)]
Int32 = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]
FilledString = Annotated[str, Field(min_length=1)]
"""Text that may not be empty."""


def _port_key(value: Any) -> Any:
    # a JSON object's keys are strings; the port that they spell is what readers want
    if isinstance(value, str):
        if not (value.isascii() and value.removeprefix("-").isdigit()):
            raise ValueError(f"Invalid value: type conversion error from {value!r} to a port number")
        return int(value)
    return value


PortKey = Annotated[int, BeforeValidator(_port_key), AfterValidator(_port)]
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

    value: float = 0.0
    """Share of requests in percent, from 0 to 100; below 0.0001 only 0 itself."""


class PortSelector(Model):
    """The number of a port of the destination host."""

    number: UInt32 = 0
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

    labels: Annotated[
        Mapping[str, Annotated[str, Field(max_length=63)]], Field(max_length=256, default_factory=dict)
    ]
    """Labels that a workload must have, all of them, in the object's own namespace."""


class LabelSelector(Model):
    """Istio's type `WorkloadSelector`: the workloads that have all these labels."""

    match_labels: Annotated[
        Mapping[str, Annotated[str, Field(max_length=63)]], Field(max_length=4096, default_factory=dict)
    ]
    """Labels that a workload must have, all of them, in the object's own namespace."""


class PolicyTargetReference(Model):
    """A resource of the same namespace that a policy is attached to."""

    group: Annotated[
        str,
        Field(
            max_length=253, pattern=r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
        ),
    ] = ""
    """API group of the resource; empty for the core kinds."""
    kind: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$")]
    """Kind of the resource: Service, ServiceEntry, Gateway or GatewayClass."""
    name: Annotated[str, Field(min_length=1, max_length=253)]
    """Name of the resource."""
    namespace: Annotated[str, Refused("a policy holds in its own namespace")] = ""
    """Namespace of the resource."""

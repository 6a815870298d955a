"""Protobuf messages -> Any, durations, addresses and framed resources; the same message, the same bytes."""

from collections.abc import Iterable
from typing import Any

from envoy.config.core.v3 import address_pb2 as address_v3
from envoy.config.core.v3 import config_source_pb2 as config_source_v3
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from isthmus.api.meta import Key
from isthmus.envoy.resource import Resource, content_version

_FETCH_TIMEOUT_S = 5.0
"""Long enough for a slow control plane, short enough that a lost answer does not hold a listener back."""


def packed(message: Message) -> AnyMessage:
    """The message inside an Any."""
    anything = AnyMessage()
    anything.Pack(message, deterministic=True)
    return anything


def resource(type_url: str, name: str, message: Message, sources: Iterable[Key] = ()) -> Resource:
    """The message as a resource, versioned by its content."""
    body = message.SerializeToString(deterministic=True)
    return Resource(type_url, name, content_version(body), body, tuple(sorted(set(sources))))


def duration(seconds: float) -> Duration:
    """Seconds as a protobuf duration."""
    nanoseconds = round(seconds * 1e9)
    return Duration(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9)


def time_limits(seconds: float = 0.0) -> dict[str, Any]:
    """How long a request may take, as the fields of a route's action; 0 = without end.

    The deadline that a gRPC caller sends along holds as well: whichever is sooner. That takes a field that
    Envoy calls deprecated: with the one that replaces it, `timeout` counts no more.
    """
    limit = duration(seconds)
    return {"timeout": limit, "max_grpc_timeout": limit}


def address(host: str, port: int) -> address_v3.Address:
    """A TCP address, or the path of a Unix socket (`unix:///path`, `unix://@abstract`)."""
    if host.startswith("unix://"):
        return address_v3.Address(pipe=address_v3.Pipe(path=host.removeprefix("unix://")))
    return address_v3.Address(socket_address=address_v3.SocketAddress(address=host, port_value=port))


def cidr(text: str) -> address_v3.CidrRange:
    """An address, or a range of addresses."""
    prefix, _, length = text.partition("/")
    whole = 128 if ":" in prefix else 32
    return address_v3.CidrRange(address_prefix=prefix, prefix_len={"value": int(length) if length else whole})


def from_ads() -> config_source_v3.ConfigSource:
    """`Ask the control plane`, on the stream that is open anyway."""
    return config_source_v3.ConfigSource(
        ads={},
        resource_api_version=config_source_v3.V3,
        initial_fetch_timeout=duration(_FETCH_TIMEOUT_S),
    )

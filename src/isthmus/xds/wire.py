"""Bytes of the delta xDS protocol <-> the few values the machine works on.

Requests are parsed by the protobuf class. Responses are laid out by hand: a resource is framed once and its
bytes are shared by every stream that sends it, which is a hundred times cheaper than building messages.

    DeltaDiscoveryResponse = resources=2 {version=1, resource=2 {type_url=1, value=2}, name=3}, type_url=4,
                             nonce=5, removed_resources=6
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError

from isthmus.envoy.resource import Resource

_VERSION, _RESOURCE, _NAME = b"\x0a", b"\x12", b"\x1a"  # in Resource
_ANY_TYPE, _ANY_VALUE = b"\x0a", b"\x12"  # in Any
_RESOURCES, _TYPE_URL, _NONCE, _REMOVED = b"\x12", b"\x22", b"\x2a", b"\x32"  # in DeltaDiscoveryResponse


MAX_REASON_BYTES = 2048
"""How much of a client's words on a refusal is kept: they go into statuses and logs."""


class Malformed(ValueError):
    """The bytes are not a DeltaDiscoveryRequest."""


@dataclass(frozen=True, slots=True)
class Request:
    """One message of a client: it may subscribe and answer a response at the same time."""

    type_url: str
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    initial_versions: Mapping[str, str] = field(default_factory=dict)
    nonce: str = ""
    """Of the response that this answers; empty when it answers none."""
    error: str | None = None
    """The client's words when it refuses the response, else None."""
    node_id: str = ""
    generator: str = ""
    """`node.metadata.GENERATOR`: which kind of configuration the client wants, in Istio's words."""


def parse(data: bytes) -> Request:
    """The request in `data`; Malformed when it is none."""
    message = discovery_pb2.DeltaDiscoveryRequest()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise Malformed(f"{len(data)} bytes are not a DeltaDiscoveryRequest: {error}") from None
    refused = message.HasField("error_detail")
    return Request(
        type_url=message.type_url,
        subscribe=tuple(message.resource_names_subscribe),
        unsubscribe=tuple(message.resource_names_unsubscribe),
        initial_versions=dict(message.initial_resource_versions),
        nonce=message.response_nonce,
        error=(one_line(message.error_detail.message) or "refused without a reason") if refused else None,
        node_id=message.node.id,
    )


def one_line(text: str) -> str:
    """The text on one line, without what a terminal would obey, and not too long."""
    start = text.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
    return "".join(char if char.isprintable() else " " for char in start).strip()


def response(type_url: str, frames: Iterable[bytes], removed: Iterable[str], nonce: str) -> bytes:
    """A DeltaDiscoveryResponse that holds the framed resources and the names of the removed ones."""
    tail = _text(_TYPE_URL, type_url) + _text(_NONCE, nonce)
    return b"".join([*frames, tail, *(_text(_REMOVED, name) for name in removed)])


def frame(resource: Resource) -> bytes:
    """The resource as one entry of a DeltaDiscoveryResponse."""
    packed = _text(_ANY_TYPE, resource.type_url) + _part(_ANY_VALUE, resource.body)
    entry = _text(_VERSION, resource.version) + _part(_RESOURCE, packed) + _text(_NAME, resource.name)
    return _part(_RESOURCES, entry)


class Frames:
    """Framed resources, shared by all streams. What no stream sent between two `age()` calls is dropped."""

    def __init__(self) -> None:
        self._young: dict[tuple[str, str, str], bytes] = {}
        self._old: dict[tuple[str, str, str], bytes] = {}

    def __call__(self, resource: Resource) -> bytes:
        key = (resource.type_url, resource.name, resource.version)
        framed = self._young.get(key)
        if framed is None:
            framed = self._young[key] = self._old.get(key) or frame(resource)
        return framed

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def age(self) -> None:
        """Forgets the frames that nobody used since the last call."""
        self._old, self._young = self._young, {}


def _text(tag: bytes, text: str) -> bytes:
    return _part(tag, text.encode())


def _part(tag: bytes, payload: bytes) -> bytes:
    return tag + _varint(len(payload)) + payload


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)

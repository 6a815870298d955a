"""State-of-the-world xDS (`StreamAggregatedResources`) <-> the delta machine: for gRPC's own client.

    DiscoveryRequest: all names, every time  -> Request: names that came and went, ACK or NACK
    DiscoveryResponse: all of a type         <- delta response: what came, changed and went

Clusters and listeners are always sent whole, since leaving one out takes it away; of the other types only
what changed. That endpoints or routes went cannot be said in this protocol, so nobody needs to answer for it.

Of each type one response is under way at a time: what a NACK is about must be known, since the next response
repeats everything that was ACKed. https://www.envoyproxy.io/docs/envoy/latest/api-docs/xds_protocol
"""

from collections import deque
from dataclasses import dataclass, field

from envoy.service.discovery.v3 import discovery_pb2 as discovery_v3
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError

from isthmus.envoy.resource import CLUSTER, LISTENER
from isthmus.xds.wire import Malformed, Request, one_line

_WHOLE = frozenset({CLUSTER, LISTENER})


@dataclass(slots=True)
class _Type:
    """One type on one stream: the names last asked for, what was ACKed, what waits to be sent."""

    names: frozenset[str] = frozenset()
    held: dict[str, Any] = field(default_factory=dict)
    waiting: deque[discovery_v3.DeltaDiscoveryResponse] = field(default_factory=deque)
    unanswered: discovery_v3.DeltaDiscoveryResponse | None = None


class StateOfTheWorld:
    """The translation of one stream."""

    def __init__(self) -> None:
        self._types: dict[str, _Type] = {}

    def request(self, data: bytes) -> Request:
        """What a client's message means to the delta machine; Malformed when it is none."""
        message = discovery_v3.DiscoveryRequest()
        try:
            message.ParseFromString(data)
        except DecodeError as error:
            raise Malformed(f"{len(data)} bytes are not a DiscoveryRequest: {error}") from None
        state = self._types.setdefault(message.type_url, _Type())
        names, before = frozenset(message.resource_names), state.names
        state.names = names
        for name in before - names:
            state.held.pop(name, None)
        refused = message.HasField("error_detail")
        sent = state.unanswered
        answered = sent is not None and sent.nonce == message.response_nonce
        if answered and sent is not None:
            state.unanswered = None
            _take(state, sent, refused=refused)
        return Request(
            type_url=message.type_url,
            subscribe=tuple(sorted(names - before)),
            unsubscribe=tuple(sorted(before - names)),
            nonce=message.response_nonce if answered else "",
            error=(one_line(message.error_detail.message) or "refused without a reason")
            if answered and refused
            else None,
            node_id=message.node.id,
            generator=_generator(message),
        )

    def responses(self, deltas: list[bytes]) -> tuple[list[bytes], list[Request]]:
        """What may be sent now, and the answers that the client cannot give."""
        for data in deltas:
            delta = discovery_v3.DeltaDiscoveryResponse.FromString(data)
            self._types.setdefault(delta.type_url, _Type()).waiting.append(delta)
        messages: list[bytes] = []
        owed: list[Request] = []
        for type_url, state in self._types.items():
            while state.waiting and state.unanswered is None:
                delta = state.waiting.popleft()
                if type_url not in _WHOLE and not delta.resources:
                    _take(state, delta, refused=False)
                    owed.append(Request(type_url, nonce=delta.nonce))
                    continue
                state.unanswered = delta
                messages.append(_response(state, delta))
        return messages, owed


def _take(state: _Type, delta: discovery_v3.DeltaDiscoveryResponse, *, refused: bool) -> None:
    for name in delta.removed_resources:
        state.held.pop(name, None)
    for found in delta.resources if not refused else ():
        state.held[found.name] = found.resource


def _response(state: _Type, delta: discovery_v3.DeltaDiscoveryResponse) -> bytes:
    content = {found.name: found.resource for found in delta.resources}
    if delta.type_url in _WHOLE:
        # a client that named nothing wants everything
        wanted = (name for name in state.held if not state.names or name in state.names)
        kept = {name: state.held[name] for name in wanted if name not in delta.removed_resources}
        content = {**kept, **content}
    message = discovery_v3.DiscoveryResponse(
        version_info=delta.nonce,
        resources=[content[name] for name in sorted(content)],
        type_url=delta.type_url,
        nonce=delta.nonce,
    )
    made: bytes = message.SerializeToString()
    return made


def _generator(message: discovery_v3.DiscoveryRequest) -> str:
    said = message.node.metadata.fields.get("GENERATOR")
    return said.string_value if said else ""

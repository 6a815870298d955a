"""Hand-made bytes equal those of the protobuf classes."""

from contextlib import suppress

import pytest
from envoy.service.discovery.v3 import discovery_pb2
from hypothesis import given
from hypothesis import strategies as st

from isthmus.envoy.resource import CLUSTER, Resource
from isthmus.xds.wire import Frames, Malformed, Request, frame, parse, response

resources = st.builds(
    Resource,
    type_url=st.just(CLUSTER),
    name=st.text(max_size=200),
    version=st.text(min_size=1, max_size=20),
    body=st.binary(max_size=400),
)


@given(st.lists(resources, max_size=4), st.lists(st.text(min_size=1), max_size=3), st.text(min_size=1))
def test_response_is_what_protobuf_would_write(
    pushed: list[Resource], removed: list[str], nonce: str
) -> None:
    message = discovery_pb2.DeltaDiscoveryResponse.FromString(
        response(CLUSTER, map(frame, pushed), removed, nonce)
    )
    expected = discovery_pb2.DeltaDiscoveryResponse(type_url=CLUSTER, nonce=nonce, removed_resources=removed)
    for resource in pushed:
        entry = expected.resources.add(name=resource.name, version=resource.version)
        entry.resource.type_url, entry.resource.value = resource.type_url, resource.body
    assert message == expected


def test_request() -> None:
    message = discovery_pb2.DeltaDiscoveryRequest(
        type_url=CLUSTER,
        resource_names_subscribe=["a"],
        resource_names_unsubscribe=["b"],
        initial_resource_versions={"a": "1"},
        response_nonce="7",
    )
    message.node.id = "node"
    asked = Request(CLUSTER, ("a",), ("b",), {"a": "1"}, "7", None, "node")
    assert parse(message.SerializeToString()) == asked
    message.error_detail.code = 13
    assert parse(message.SerializeToString()).error == "refused without a reason"
    message.error_detail.message = "bad"
    assert parse(message.SerializeToString()).error == "bad"


@given(st.binary(max_size=60))
def test_any_bytes_are_a_request_or_malformed(data: bytes) -> None:
    with suppress(Malformed):
        assert isinstance(parse(data), Request)


def test_frames_are_shared_until_nobody_uses_them() -> None:
    frames = Frames()
    one, other = (Resource(CLUSTER, name, "1", b"body") for name in "ab")
    framed = frames(one)
    frames(other)
    assert frames(Resource(CLUSTER, "a", "1", b"body")) is framed
    frames.age()
    assert frames(one) is framed
    frames.age()
    assert len(frames) == 1
    with pytest.raises(AttributeError):
        one.name = "c"  # type: ignore[misc]


def test_a_refusals_words_are_one_plain_short_line() -> None:
    message = discovery_pb2.DeltaDiscoveryRequest()
    message.error_detail.message = "bad\n\x1b[31mport\x00 " + "ö" * 5000
    error = parse(message.SerializeToString()).error
    assert error is not None
    assert error.startswith("bad  [31mport  ö")
    assert len(error.encode()) <= 2048

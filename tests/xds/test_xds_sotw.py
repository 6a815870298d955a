"""State of the world on the delta machine: names, whole responses, one answer at a time."""

import pytest
from envoy.service.discovery.v3 import discovery_pb2 as discovery_v3
from google.protobuf.any_pb2 import Any

from isthmus.envoy.resource import CLUSTER, ENDPOINTS, LISTENER
from isthmus.xds.sotw import StateOfTheWorld
from isthmus.xds.wire import Malformed, Request


def asked(type_url: str, *names: str, nonce: str = "", error: str = "", generator: str = "") -> bytes:
    message = discovery_v3.DiscoveryRequest(type_url=type_url, resource_names=names, response_nonce=nonce)
    if error:
        message.error_detail.message = error
    if generator:
        message.node.metadata["GENERATOR"] = generator
    made: bytes = message.SerializeToString()
    return made


def delta(type_url: str, nonce: str, *names: str, removed: tuple[str, ...] = ()) -> bytes:
    message = discovery_v3.DeltaDiscoveryResponse(type_url=type_url, nonce=nonce, removed_resources=removed)
    for name in names:
        body = Any(type_url=type_url, value=f"{name}@{nonce}".encode())
        message.resources.add(name=name, version=nonce, resource=body)
    made: bytes = message.SerializeToString()
    return made


def told(messages: list[bytes]) -> list[tuple[str, list[str]]]:
    """The nonce of each response and what it holds."""
    found = [discovery_v3.DiscoveryResponse.FromString(data) for data in messages]
    return [(each.nonce, [body.value.decode() for body in each.resources]) for each in found]


def test_names_are_compared_with_those_before() -> None:
    stream = StateOfTheWorld()
    assert stream.request(asked(ENDPOINTS, "a", "b")) == Request(ENDPOINTS, subscribe=("a", "b"))
    assert stream.request(asked(ENDPOINTS, "b", "c")) == Request(
        ENDPOINTS, subscribe=("c",), unsubscribe=("a",)
    )
    assert stream.request(asked(ENDPOINTS, "b", "c")) == Request(ENDPOINTS)


def test_the_generator_is_read_from_the_node() -> None:
    assert StateOfTheWorld().request(asked(LISTENER, generator="grpc")).generator == "grpc"


def test_clusters_and_listeners_are_sent_whole() -> None:
    stream = StateOfTheWorld()
    stream.request(asked(CLUSTER))
    assert told(stream.responses([delta(CLUSTER, "1", "a", "b")])[0]) == [("1", ["a@1", "b@1"])]
    assert stream.request(asked(CLUSTER, nonce="1")).nonce == "1"
    assert told(stream.responses([delta(CLUSTER, "2", "b", "c", removed=("a",))])[0]) == [
        ("2", ["b@2", "c@2"])
    ]
    stream.request(asked(CLUSTER, nonce="2"))
    assert told(stream.responses([delta(CLUSTER, "3", removed=("b", "c"))])[0]) == [("3", [])]


def test_of_other_types_only_what_changed() -> None:
    stream = StateOfTheWorld()
    stream.request(asked(ENDPOINTS, "a", "b"))
    assert told(stream.responses([delta(ENDPOINTS, "1", "a", "b")])[0]) == [("1", ["a@1", "b@1"])]
    stream.request(asked(ENDPOINTS, "a", "b", nonce="1"))
    assert told(stream.responses([delta(ENDPOINTS, "2", "b")])[0]) == [("2", ["b@2"])]


def test_what_cannot_be_said_is_answered_for_the_client() -> None:
    stream = StateOfTheWorld()
    stream.request(asked(ENDPOINTS, "gone"))
    assert stream.responses([delta(ENDPOINTS, "1", removed=("gone",))]) == (
        [],
        [Request(ENDPOINTS, nonce="1")],
    )


def test_a_response_waits_for_the_answer_to_the_one_before() -> None:
    stream = StateOfTheWorld()
    stream.request(asked(CLUSTER))
    first, _ = stream.responses([delta(CLUSTER, "1", "a"), delta(CLUSTER, "2", "b")])
    assert told(first) == [("1", ["a@1"])]
    assert stream.responses([]) == ([], [])
    stream.request(asked(CLUSTER, nonce="1"))
    assert told(stream.responses([])[0]) == [("2", ["a@1", "b@2"])]


def test_what_was_refused_is_not_repeated() -> None:
    stream = StateOfTheWorld()
    stream.request(asked(CLUSTER))
    stream.responses([delta(CLUSTER, "1", "a")])
    stream.request(asked(CLUSTER, nonce="1"))
    stream.responses([delta(CLUSTER, "2", "a", "b")])
    refusal = stream.request(asked(CLUSTER, nonce="2", error="bad"))
    assert (refusal.nonce, refusal.error) == ("2", "bad")
    assert told(stream.responses([delta(CLUSTER, "3", "c")])[0]) == [("3", ["a@1", "c@3"])]


def test_an_old_answer_counts_for_nothing() -> None:
    stream = StateOfTheWorld()
    stream.request(asked(CLUSTER))
    stream.responses([delta(CLUSTER, "1", "a")])
    stream.request(asked(CLUSTER, nonce="1"))
    stream.responses([delta(CLUSTER, "2", "b")])
    assert stream.request(asked(CLUSTER, nonce="1")).nonce == ""
    assert stream.request(asked(CLUSTER, nonce="1", error="late")).error is None


def test_names_given_up_are_forgotten() -> None:
    stream = StateOfTheWorld()
    stream.request(asked(LISTENER, "a", "b"))
    stream.responses([delta(LISTENER, "1", "a", "b")])
    stream.request(asked(LISTENER, "a", "b", nonce="1"))
    stream.request(asked(LISTENER, "b", nonce="1"))
    assert told(stream.responses([delta(LISTENER, "2", "b")])[0]) == [("2", ["b@2"])]


def test_nonsense_is_malformed() -> None:
    with pytest.raises(Malformed):
        StateOfTheWorld().request(b"\xff")

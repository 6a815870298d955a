"""The fleet without a network: what it shares, forgets, and tells about itself."""

from datetime import UTC, datetime

import pytest
from xds_mesh import NODE, VM, Mesh, plain

from isthmus.api.meta import Key
from isthmus.envoy.resource import CLUSTER, ENDPOINTS, LISTENER, ProxyId
from isthmus.xds.fleet import MAX_STREAMS, Fleet, Unregistered
from isthmus.xds.node import parse_node
from isthmus.xds.session import MAX_UNKNOWN_TYPES, TooMuch
from isthmus.xds.standing import Shown, Stream
from isthmus.xds.wire import Request

RULE = Key("VirtualService", "shop", "ratings")


def opened(fleet: Fleet, node: str = NODE) -> Stream:
    return opened_with(fleet, Shown("shop-sa", datetime.now(UTC)), node)


def opened_with(fleet: Fleet, shown: Shown, node: str = NODE) -> Stream:
    return fleet.open(parse_node(node), shown, lambda: None)


def quiet(fleet: Fleet, stream: Stream, *types: str) -> None:
    """The stream's client asks for the types and takes everything."""
    for type_url in types:
        fleet.receive(stream, Request(type_url))
    answer(fleet, stream)


def answer(fleet: Fleet, stream: Stream) -> int:
    """Takes what is written; how many messages that were."""
    count = 0
    while messages := fleet.advance(stream):
        count += len(messages)
        for type_url, watch in stream.session.watches.items():
            for nonce in list(watch.flights):
                fleet.receive(stream, Request(type_url, nonce=nonce))
    return count


def test_difference_is_computed_once_for_all_streams() -> None:
    mesh = Mesh()
    nodes = [NODE.replace("vm-10.0.0.1", f"vm{number}") for number in range(3)]
    for number in range(3):
        mesh.accounts[ProxyId("shop", f"vm{number}")] = "shop-sa"
    mesh.commit(*(plain(CLUSTER, f"c{number}", "1") for number in range(50)))
    streams = [opened(mesh.fleet, node) for node in nodes]
    for stream in streams:
        quiet(mesh.fleet, stream, CLUSTER, LISTENER)
    assert mesh.fleet.sent == {CLUSTER: 150, LISTENER: 0}
    runs = mesh.engine.runs
    mesh.commit(plain(CLUSTER, "c0", "2"), *(plain(CLUSTER, f"c{number}", "1") for number in range(1, 50)))
    assert [answer(mesh.fleet, stream) for stream in streams] == [1, 1, 1]
    assert mesh.fleet.sent[CLUSTER] == 153
    # once per type, and once per type and proxy where the shared answer changed: not per resource
    assert mesh.engine.runs - runs <= 4 + 3
    assert len(mesh.fleet._differences) == 1


def test_older_stream_of_a_proxy_is_not_waited_for() -> None:
    mesh = Mesh()
    mesh.commit(plain(CLUSTER, "a", "1", RULE), touched=(RULE,))
    opened(mesh.fleet)  # a connection that broke without a word
    quiet(mesh.fleet, opened(mesh.fleet), CLUSTER, LISTENER)
    assert mesh.programmed(RULE).startswith("True Programmed")
    assert len(mesh.fleet.connected()) == 2


def test_answer_stays_when_proxies_come_and_go() -> None:
    mesh = Mesh()
    mesh.commit(plain(CLUSTER, "a", "1", RULE), touched=(RULE,))
    stream = opened(mesh.fleet)
    assert mesh.programmed(RULE).startswith("Unknown Pending")
    quiet(mesh.fleet, stream, CLUSTER, LISTENER)
    assert mesh.programmed(RULE).startswith("True Programmed")
    mesh.fleet.close(stream)
    assert mesh.programmed(RULE).startswith("True Programmed")
    opened(mesh.fleet)
    assert mesh.fleet.judge() == {}
    assert mesh.programmed(RULE).startswith("True Programmed")


def test_object_that_is_gone_is_forgotten() -> None:
    mesh = Mesh()
    mesh.commit(touched=(RULE,))
    assert list(mesh.fleet.judge()) == [RULE]
    del mesh.objects[RULE]
    mesh.fleet.committed((RULE,))
    assert mesh.fleet.judge() == {}
    mesh.commit(touched=(RULE,))
    assert list(mesh.fleet.judge()) == [RULE]


def test_listener_hears_of_answers() -> None:
    mesh = Mesh()
    heard: list[int] = []
    mesh.fleet.on_answer(lambda: heard.append(1))
    mesh.commit(plain(CLUSTER, "a", "1"))
    stream = opened(mesh.fleet)
    before = len(heard)
    quiet(mesh.fleet, stream, CLUSTER, LISTENER)
    assert len(heard) > before
    before = len(heard)
    mesh.fleet.receive(stream, Request(ENDPOINTS, ("x",)))
    mesh.fleet.advance(stream)
    assert len(heard) == before + 1  # a response is open: the watermark moved back


def test_memories_of_workloads_that_left_are_dropped() -> None:
    mesh = Mesh()
    mesh.commit(plain(CLUSTER, "a", "1"))
    mesh.fleet.close(opened(mesh.fleet))
    assert list(mesh.fleet._memories) == [("proxy", VM)]
    mesh.accounts.clear()
    mesh.commit(plain(CLUSTER, "a", "1"))
    assert mesh.fleet._memories == {}
    with pytest.raises(Unregistered, match=r"shop/vm-10.0.0.1 is not registered"):
        opened(mesh.fleet)


def test_a_certificate_from_before_the_enrolment_has_no_stream() -> None:
    mesh = Mesh()
    stream = opened(mesh.fleet)
    mesh.fleet.advance(stream)
    mesh.enrolled = datetime.now(UTC)
    for again in (lambda: mesh.fleet.advance(stream), lambda: opened_with(mesh.fleet, stream.shown)):
        with pytest.raises(Unregistered, match=r"shop/vm-10.0.0.1 was enrolled after this certificate"):
            again()
    opened(mesh.fleet)


def test_answers_that_no_stream_reads_are_collected() -> None:
    mesh = Mesh()
    mesh.commit(plain(CLUSTER, "a", "1"))
    stream = opened(mesh.fleet)
    quiet(mesh.fleet, stream, CLUSTER, LISTENER)
    for number in range(3000):
        mesh.engine.commit({("unused", number): None})
    assert len(mesh.engine) > 3000
    mesh.commit(plain(CLUSTER, "a", "2"))
    assert len(mesh.engine) < 100
    assert answer(mesh.fleet, stream) == 1


def test_state_for_people() -> None:
    mesh = Mesh()
    mesh.commit(plain(CLUSTER, "a", "1"), plain(CLUSTER, "b", "1"))
    stream = opened(mesh.fleet)
    mesh.fleet.receive(stream, Request(CLUSTER))
    mesh.fleet.advance(stream)
    (state,) = mesh.fleet.connected()
    assert (state.node, state.namespace, state.workload, state.synced) == (
        NODE,
        VM.namespace,
        VM.workload,
        False,
    )
    clusters = state.types[CLUSTER]
    assert (clusters.subscribed, clusters.wanted, clusters.held, clusters.in_flight) == (True, 2, 2, 1)
    assert state.sent == {CLUSTER: 2}
    quiet(mesh.fleet, stream, LISTENER)
    assert mesh.fleet.connected()[0].synced


@pytest.mark.parametrize(
    "node_id",
    [
        "",
        "sidecar~1.2.3.4~vm.shop",
        "sidecar~1.2.3.4~vm.shop~other.svc.cluster.local",
        "x~1~vm.shop~shop.svc.d",
    ],
)
def test_node_ids_that_are_none(node_id: str) -> None:
    with pytest.raises(ValueError, match="is not sidecar~<ip>~"):
        parse_node(node_id)


def test_node_id_with_dots_and_colons() -> None:
    node = parse_node("agent~fd00::1~vm-10.0.0.1.shop~shop.svc.cluster.local")
    assert (node.role, node.address, node.proxy) == ("agent", "fd00::1", VM)


def refused(mesh: Mesh, stream: Stream) -> None:
    """The stream's client refuses all that it is sent."""
    mesh.fleet.receive(stream, Request(CLUSTER))
    mesh.fleet.advance(stream)
    for nonce in list(stream.session.watches[CLUSTER].flights):
        mesh.fleet.receive(stream, Request(CLUSTER, nonce=nonce, error="no"))


def test_late_close_of_a_superseded_stream_forgets_nothing() -> None:
    mesh = Mesh()
    mesh.commit(plain(CLUSTER, "a", "1"))
    first, second = opened(mesh.fleet), opened(mesh.fleet)
    refused(mesh, second)
    mesh.fleet.close(second)
    mesh.fleet.close(first)
    third = opened(mesh.fleet)
    assert third.session.memories()[CLUSTER] == second.session.memories()[CLUSTER]


def test_a_new_stream_knows_what_the_one_before_it_was_told() -> None:
    mesh = Mesh()
    mesh.commit(plain(CLUSTER, "a", "1"))
    first = opened(mesh.fleet)
    refused(mesh, first)
    moved = opened(mesh.fleet, NODE.replace("~10.0.0.1~", "~10.0.0.2~"))
    assert moved.session.memories()[CLUSTER] == first.session.memories()[CLUSTER]


def test_a_client_has_so_many_streams() -> None:
    mesh = Mesh()
    mesh.commit()
    streams = [opened(mesh.fleet) for _ in range(MAX_STREAMS)]
    with pytest.raises(TooMuch, match="has 4 streams open already"):
        opened(mesh.fleet)
    opened(mesh.fleet, NODE.replace("sidecar", "agent"))
    mesh.fleet.close(streams[0])
    opened(mesh.fleet)
    assert mesh.fleet.has(VM)


def test_types_that_nobody_serves_are_answered_up_to_a_number() -> None:
    mesh = Mesh()
    mesh.commit()
    stream = opened(mesh.fleet)
    for number in range(MAX_UNKNOWN_TYPES):
        mesh.fleet.receive(stream, Request(f"type/{number}"))
    mesh.fleet.receive(stream, Request("type/0"))
    with pytest.raises(TooMuch, match="more than 16 types"):
        mesh.fleet.receive(stream, Request("type/one-more"))


def test_after_a_start_those_that_had_a_proxy_are_waited_for_a_while() -> None:
    times = [100.0]
    mesh = Mesh(now=lambda: times[0])
    gone, back = ProxyId("shop", "vm-gone"), ProxyId("shop", "vm-back")
    left = ProxyId("shop", "vm-left")  # its WorkloadEntry was deleted meanwhile
    mesh.accounts |= {gone: "shop-sa", back: "shop-sa"}
    mesh.fleet.expect([gone, back, left], within_s=5.0)
    mesh.commit(plain(CLUSTER, "a", "1", RULE), touched=(RULE,))
    late = "(not back since the control plane started)"
    assert mesh.programmed(RULE) == (
        f"Unknown Pending: waiting for 2 of 2 proxies: vm-back.shop {late}, vm-gone.shop {late}"
    )
    stream = opened(mesh.fleet, NODE.replace("vm-10.0.0.1", "vm-back"))
    quiet(mesh.fleet, stream, CLUSTER, LISTENER)
    mesh.fleet.overdue()
    assert mesh.programmed(RULE) == f"Unknown Pending: waiting for 1 of 2 proxies: vm-gone.shop {late}"
    mesh.fleet.close(stream)  # who came back once is connected or not like everybody
    mesh.fleet.overdue()
    assert mesh.programmed(RULE) == f"Unknown Pending: waiting for 1 of 1 proxies: vm-gone.shop {late}"
    times[0] += 5.0
    assert mesh.programmed(RULE) == "True NoProxies: no proxy is connected; the next one gets it"


def test_after_a_start_nothing_waits_longer_than_for_the_last_to_come_back() -> None:
    mesh = Mesh(now=lambda: 100.0)
    mesh.fleet.expect([VM], within_s=5.0)
    mesh.commit(plain(CLUSTER, "a", "1", RULE), touched=(RULE,))
    assert mesh.programmed(RULE).startswith("Unknown Pending")
    quiet(mesh.fleet, opened(mesh.fleet), CLUSTER, LISTENER)
    assert mesh.programmed(RULE).startswith("True Programmed")


def test_what_falls_due_while_messages_are_written_is_not_slept_through() -> None:
    times = [100.0]
    mesh = Mesh(now=lambda: times[0])
    mesh.commit(plain(CLUSTER, "a", "1"), plain(ENDPOINTS, "a", "1", RULE), touched=(RULE,))
    stream = opened(mesh.fleet)
    quiet(mesh.fleet, stream, CLUSTER)
    assert mesh.programmed(RULE).startswith("Unknown Pending"), "its endpoints may still be asked for"
    times[0] += 4.999
    assert mesh.fleet.advance(stream) == []
    times[0] += 0.002  # the writing took until after that moment
    assert mesh.fleet.wait_s(stream) == 0.0
    mesh.fleet.advance(stream)
    assert mesh.programmed(RULE).startswith("True Programmed")
    assert mesh.fleet.wait_s(stream) is None

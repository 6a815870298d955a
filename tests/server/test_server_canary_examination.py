"""The dialogue with the canary, without one: what it is shown, and what its answers mean."""

from dataclasses import dataclass, field

import pytest
from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3
from envoy.config.listener.v3 import listener_pb2 as listener_v3
from envoy.config.route.v3 import route_pb2 as route_v3
from envoy.service.discovery.v3 import discovery_pb2 as discovery_v3

from isthmus.envoy.canary import PLACES
from isthmus.envoy.message import resource
from isthmus.envoy.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET, Resource
from isthmus.server.canary_examination import Examination, ThrowAway
from isthmus.xds.vetting import PATIENCE_S, Clearance, Vetting, Withheld
from isthmus.xds.wire import Request

OPEN_LATER = "error adding listener 'canary-0.': cannot bind '192.0.2.1:80': Cannot assign requested address"


def routes(name: str, domain: str = "*") -> Resource:
    return resource(
        ROUTES,
        name,
        route_v3.RouteConfiguration(name=name, vhds=None, ignore_port_in_host_matching=domain != "*"),
    )


def cluster(name: str) -> Resource:
    return resource(CLUSTER, name, cluster_v3.Cluster(name=name))


def listener(name: str, port: int) -> Resource:
    address = {"socket_address": {"address": "0.0.0.0", "port_value": port}}
    return resource(LISTENER, name, listener_v3.Listener(name=name, address=address))


@dataclass
class Dialogue:
    """An examination with a clock that the test turns, past its greetings."""

    now: float = 1000.0
    vetting: Vetting = field(init=False)
    examination: Examination = field(init=False)

    def __post_init__(self) -> None:
        self.vetting = Vetting(lambda: self.now)
        self.vetting.open()
        self.begin()

    def begin(self) -> None:
        self.examination = Examination(self.vetting, ThrowAway(b"chain", b"key"), lambda: self.now)
        for kind, names in ((CLUSTER, ()), (LISTENER, ()), *PLACES.items()):
            assert not self.examination.live
            self.examination.receive(Request(kind, names))
            for said in self.said():
                self.examination.receive(Request(kind, nonce=said.nonce))
        assert self.examination.live

    def ask(self, *resources: Resource) -> None:
        for each in resources:
            assert self.vetting.judge(each) is Clearance.PENDING

    def said(self) -> list[discovery_v3.DeltaDiscoveryResponse]:
        return [discovery_v3.DeltaDiscoveryResponse.FromString(each) for each in self.examination.step()]

    def answer(self, said: discovery_v3.DeltaDiscoveryResponse, error: str | None = None) -> None:
        self.examination.receive(Request(said.type_url, nonce=said.nonce, error=error))


def test_resources_are_shown_under_other_names_with_the_same_content() -> None:
    talk, one = Dialogue(), listener("l", 80)
    talk.ask(one)
    (said,) = talk.said()
    (shown,) = said.resources
    message = listener_v3.Listener.FromString(shown.resource.value)
    assert message.name == shown.name != "l"
    assert message.HasField("bind_to_port")
    assert not message.bind_to_port.value
    assert message.address.socket_address.port_value == 80
    assert shown.resource.value.startswith(one.body)
    talk.answer(said)
    assert talk.vetting.judge(one) is Clearance.PASSED
    talk.ask(listener("l", 81))
    (again,) = talk.said()
    assert list(again.removed_resources) == [shown.name]
    assert again.resources[0].name != shown.name


def test_the_bad_one_of_many_is_found_and_told_in_its_own_words() -> None:
    talk = Dialogue()
    many = [cluster(f"c{number}") for number in range(9)]
    talk.ask(*many)
    count = 0
    while said := talk.said():
        count += 1
        for each in said:
            versions = {shown.version: shown.name for shown in each.resources}
            bad = versions.get(many[4].version)
            talk.answer(each, f"Error adding {bad}: no good" if bad else None)
    assert count <= 9
    assert [talk.vetting.judge(each) for each in many if each is not many[4]] == [Clearance.PASSED] * 8
    assert talk.vetting.judge(many[4]) == Withheld("Error adding c4: no good")


def test_routes_have_places_of_their_own() -> None:
    talk = Dialogue()
    many = [routes(f"r{number}") for number in range(20)]
    talk.ask(*many)
    (first,) = talk.said()
    assert [shown.name for shown in first.resources] == list(PLACES[ROUTES])
    talk.answer(first)
    (second,) = talk.said()
    assert [shown.name for shown in second.resources] == list(PLACES[ROUTES][:4])
    assert not second.removed_resources


def test_listeners_of_one_address_are_not_shown_together() -> None:
    talk = Dialogue()
    talk.ask(listener("a", 80), listener("b", 80), listener("c", 81))
    (said,) = talk.said()
    assert len(said.resources) == 2
    talk.answer(said)
    (said,) = talk.said()
    assert len(said.resources) == 1


def test_what_is_true_of_this_machine_only_is_no_verdict() -> None:
    talk, one = Dialogue(), listener("a", 80)
    talk.ask(one)
    (said,) = talk.said()
    talk.answer(said, OPEN_LATER)
    assert talk.vetting.judge(one) is Clearance.PASSED
    assert talk.vetting.counts == {"unjudged": 1}


@pytest.mark.parametrize(
    ("kind", "name", "part"),
    [
        (ENDPOINTS, "canary-1.", b"canary-1."),
        (ROUTES, "9080", b"9080"),
        (SECRET, "default", b"key"),
        (SECRET, "kubernetes://x-cacert", b"chain"),
    ],
)
def test_whatever_it_asks_for_it_gets_at_once(kind: str, name: str, part: bytes) -> None:
    talk = Dialogue()
    talk.examination.receive(Request(kind, (name,)))
    (said,) = talk.said()
    assert said.resources[0].name == name
    assert part in said.resources[0].resource.value


def test_unknown_types_are_answered_as_missing() -> None:
    talk = Dialogue()
    talk.examination.receive(Request("type.googleapis.com/other", ("x",)))
    (said,) = talk.said()
    assert list(said.removed_resources) == ["x"]


def test_an_answer_that_does_not_come_blocks_only_for_a_while() -> None:
    talk = Dialogue()
    talk.ask(cluster("never"))
    (stuck,) = talk.said()
    talk.ask(cluster("next"))
    assert talk.said() == []
    assert talk.examination.wake_at() == 1000 + PATIENCE_S
    talk.now += PATIENCE_S
    (said,) = talk.said()
    assert list(said.removed_resources) == [stuck.resources[0].name]
    talk.answer(stuck)
    talk.answer(said)
    assert talk.vetting.judge(cluster("next")) is Clearance.PASSED


def test_what_it_dies_of_alone_is_refused_and_the_rest_shown_again() -> None:
    talk = Dialogue()
    killer, innocent = cluster("killer"), [routes("a"), routes("b")]
    talk.ask(killer, *innocent)
    talk.said()
    talk.examination.end("Envoy died of SIGSEGV when it was shown this")
    assert talk.vetting.judge(killer) == Withheld("Envoy died of SIGSEGV when it was shown this")
    talk.begin()
    assert [len(said.resources) for said in talk.said()] == [2]


def test_a_stream_that_breaks_refuses_nothing() -> None:
    talk = Dialogue()
    talk.ask(cluster("a"))
    talk.said()
    talk.examination.end()
    talk.begin()
    (said,) = talk.said()
    talk.answer(said)
    assert talk.vetting.counts == {"accepted": 1}

"""What is sent when somebody must see it first: it waits, goes, or stays behind."""

from dataclasses import dataclass, field

import pytest
from test_xds_fleet import answer, opened, quiet
from xds_mesh import NODE, Mesh, plain
from xds_play import Play, resource, started

from isthmus.api.meta import Key
from isthmus.envoy.resource import CLUSTER, ENDPOINTS, LISTENER, ROUTES, Resource
from isthmus.xds.vetting import PATIENCE_S, Clearance, Vetting, Withheld
from isthmus.xds.wire import Request

RULE = Key("VirtualService", "shop", "ratings")
PASSED, PENDING = Clearance.PASSED, Clearance.PENDING


@dataclass
class Watched:
    """A vetting with a clock that the test turns."""

    now: float = 1000.0
    vetting: Vetting = field(init=False)

    def __post_init__(self) -> None:
        self.vetting = Vetting(lambda: self.now)
        self.vetting.open()

    def shown(self, type_url: str = ROUTES) -> list[Resource]:
        return self.vetting.show(type_url, 100, lambda _: ())


def vetted(**manifests: str) -> tuple[Play, Vetting]:
    """A quiet Envoy, and a judge who has passed all that it holds."""
    play = started(**manifests)
    vetting = Vetting(lambda: play.now)
    vetting.open()
    for watch in play.session.watches.values():
        for held in watch.want.values():
            vetting.trust(held)
    play.judge = vetting.judge
    return play, vetting


def see(vetting: Vetting, type_url: str, refused: str = "") -> list[str]:
    """The canary is shown what waits; it refuses the resource of that name."""
    found = vetting.show(type_url, 100, lambda _: ())
    vetting.accept([one for one in found if one.name != refused])
    for one in found:
        if one.name == refused:
            vetting.refuse(one, "no good")
    return [one.name for one in found]


def test_new_version_waits_for_the_word_and_then_goes() -> None:
    play, vetting = vetted(CDS="a@1", EDS="a@1")
    play.want(CDS="a@2")
    assert play.sent() == []
    assert play.answered == play.revision - 1
    assert see(vetting, CLUSTER) == ["a"]
    assert play.sent() == ["CDS a@2"]
    play.ack("CDS")
    assert play.answered == play.revision


def test_endpoints_do_not_wait() -> None:
    play, vetting = vetted(CDS="a@1 b@1", EDS="a@1 b@1")
    play.want(CDS="a@1 b@2", EDS="a@2 b@2")
    assert play.sent() == ["EDS a@2"]  # those of a cluster that waits go after it
    see(vetting, CLUSTER)
    assert play.sent() == ["CDS b@2"]
    play.wait(0.3)
    assert play.sent() == ["EDS b@2"]


def test_routes_wait_for_a_cluster_that_waits() -> None:
    play, vetting = vetted(CDS="a@1", EDS="a@1", LDS="l@1", RDS="r@1")
    play.want(CDS="a@1 b@1", RDS="r@2")
    assert play.sent() == []
    assert see(vetting, ROUTES) == ["r"]  # all are asked about at once
    assert play.sent() == []
    see(vetting, CLUSTER)
    assert play.sent() == ["CDS b@1"]
    play.ack("CDS")
    assert play.sent() == ["RDS r@2"]


def test_refused_version_is_never_sent_and_the_old_clusters_stay() -> None:
    play, vetting = vetted(CDS="a@1", EDS="a@1", LDS="l@1", RDS="r@1")
    play.want(CDS="", EDS="", RDS="r@2")
    assert play.sent() == []
    see(vetting, ROUTES, "r")
    assert play.sent() == []
    play.wait(60)
    assert play.sent() == []
    assert play.refusals() == ["RDS r@2: no good"]
    (refusal,) = play.session.refusals()
    assert (refusal.by, refusal.kept) == ("the canary", True)
    assert play.answered == play.revision
    play.want(RDS="r@3")
    assert play.sent() == []
    see(vetting, ROUTES)
    assert play.sent() == ["RDS r@3"]
    play.ack("RDS")
    assert play.refusals() == []
    assert play.sent() == ["CDS -a"]


def test_refused_neighbour_holds_nobody_back() -> None:
    play, vetting = vetted(LDS="a@1 b@1")
    play.want(LDS="a@2 b@2 c@1")
    assert play.sent() == []
    see(vetting, LISTENER, "b")
    assert play.sent() == ["LDS a@2 c@1"]
    assert play.refusals() == ["LDS b@2: no good"]


def test_client_that_starts_gets_all_of_a_type_at_once() -> None:
    play, vetting = Play(), Vetting(lambda: 1000.0)
    vetting.open()
    play.judge = vetting.judge
    play.want(CDS="a@1 b@1")
    play.ask("CDS")
    assert play.sent() == []
    vetting.accept([resource(CLUSTER, "a", "1")])
    assert play.sent() == []
    vetting.refuse(resource(CLUSTER, "b", "1"), "no good")
    assert play.sent() == ["CDS a@1"]


def test_client_that_waits_for_a_refused_name_is_told_that_there_is_none() -> None:
    play, vetting = vetted(LDS="l@1")
    play.want(RDS="r@1")
    play.ask("RDS", "r")
    assert play.sent() == []
    see(vetting, ROUTES, "r")
    assert play.sent() == []
    assert play.sent() == ["RDS -r"]
    assert [refusal.kept for refusal in play.session.refusals()] == [False]


def test_new_client_gets_the_last_good_version() -> None:
    mesh = Mesh()
    mesh.vetting.open()
    good, worse, bad = (plain(LISTENER, "l", version, RULE) for version in ("1", "2", "3"))
    first = opened(mesh.fleet)
    mesh.commit(good, touched=(RULE,))
    mesh.vetting.trust(good)
    quiet(mesh.fleet, first, CLUSTER, LISTENER)
    assert mesh.fleet.sent[LISTENER] == 1
    for refused in (worse, bad):
        mesh.commit(refused, touched=(RULE,))
        assert answer(mesh.fleet, first) == 0
        mesh.vetting.refuse(refused, "no good")
        assert answer(mesh.fleet, first) == 0
    assert mesh.fleet.sent[LISTENER] == 1
    text = (
        "the canary refused Listener 'l' (made from VirtualService/shop/ratings; the last good version stays)"
    )
    assert mesh.programmed(RULE) == f"False Rejected: {text}: no good"
    second = opened(mesh.fleet)
    quiet(mesh.fleet, second, CLUSTER, LISTENER)
    assert second.session.watches[LISTENER].held == {"l": "1"}
    assert mesh.programmed(RULE).startswith("False Rejected: the canary refused")


def test_what_a_proxy_holds_since_before_is_not_shown() -> None:
    mesh = Mesh()
    mesh.vetting.open()
    mesh.commit(plain(CLUSTER, "a", "1"), plain(CLUSTER, "b", "1"))
    stream = opened(mesh.fleet)
    mesh.fleet.receive(stream, Request(CLUSTER, initial_versions={"a": "1", "b": "0"}))
    mesh.fleet.advance(stream)
    assert [one.name for one in mesh.vetting.show(CLUSTER, 9, lambda _: ())] == ["b"]
    assert mesh.vetting.judge(plain(CLUSTER, "a", "1")) is PASSED


def test_streams_are_woken_by_the_word_and_by_the_end_of_the_wait() -> None:
    mesh, woken = Mesh(), list[int]()
    mesh.vetting.open()
    mesh.commit(plain(CLUSTER, "a", "1"))
    stream = opened(mesh.fleet)
    stream.wake = lambda: woken.append(1)
    mesh.fleet.receive(stream, Request(CLUSTER))
    mesh.fleet.advance(stream)
    wait_s = mesh.fleet.wait_s(stream)
    assert wait_s is not None
    assert wait_s <= PATIENCE_S
    woken.clear()
    mesh.vetting.accept([plain(CLUSTER, "a", "1")])
    assert woken == [1]
    assert answer(mesh.fleet, stream) == 1


def test_our_own_check_is_a_refusal_until_it_finds_nothing() -> None:
    mesh = Mesh()
    stream = opened(mesh.fleet)
    mesh.commit(plain(LISTENER, "l", "1", RULE), touched=(RULE,))
    quiet(mesh.fleet, stream, CLUSTER, LISTENER)
    mesh.engine.commit({("unsound",): {(LISTENER, "l"): "waits for routes 80, which never come"}})
    mesh.commit(plain(LISTENER, "l", "2", RULE), touched=(RULE,))
    assert answer(mesh.fleet, stream) == 0  # what it has stays
    assert "isthmus itself refused Listener 'l'" in mesh.programmed(RULE)
    mesh.engine.commit({("unsound",): None})
    mesh.fleet.committed()
    assert answer(mesh.fleet, stream) == 1
    assert stream.session.watches[LISTENER].held == {"l": "2"}
    mesh.commit(plain(LISTENER, "l", "2", RULE), touched=(RULE,))
    assert answer(mesh.fleet, stream) == 0
    assert mesh.programmed(RULE).startswith("True Programmed")


def test_word_that_does_not_come_is_not_waited_for() -> None:
    watched, slow = Watched(), resource(ROUTES, "r", "1")
    assert watched.vetting.judge(slow) is PENDING
    assert watched.vetting.wake_at(1000) == 1000 + PATIENCE_S
    watched.now += PATIENCE_S
    assert watched.vetting.judge(slow) is PASSED
    assert watched.vetting.judge(slow) is PASSED
    assert watched.vetting.counts == {"late": 1}
    assert watched.vetting.wake_at(1000 + PATIENCE_S) is None
    watched.vetting.refuse(slow, "no good")  # too late for some, in time for others
    assert watched.vetting.judge(slow) == Withheld("no good")


def test_without_a_canary_everything_goes_and_is_counted() -> None:
    watched, one, two = Watched(), resource(ROUTES, "r", "1"), resource(ROUTES, "r", "2")
    assert watched.vetting.judge(one) is PENDING
    watched.vetting.close()
    assert [watched.vetting.judge(each) for each in (one, two, two)] == [PASSED] * 3
    assert watched.vetting.counts == {"unseen": 2}
    watched.vetting.open()
    assert watched.vetting.judge(two) is PENDING


def test_what_the_canary_did_not_get_to_is_shown_again() -> None:
    watched, one = Watched(), resource(ROUTES, "r", "1")
    watched.vetting.judge(one)
    assert watched.shown() == [one]
    assert watched.shown() == []
    watched.vetting.give_back([one])
    assert watched.shown() == [one]


def test_no_two_shown_at_once_have_the_same_place() -> None:
    watched = Watched()
    for name in "abc":
        watched.vetting.judge(resource(LISTENER, name, "1"))
    places = {"a": ["80"], "b": ["80", "81"], "c": ["81"]}
    found = watched.vetting.show(LISTENER, 9, lambda one: places[one.name])
    assert [one.name for one in found] == ["a", "c"]
    assert [one.name for one in watched.vetting.show(LISTENER, 9, lambda one: places[one.name])] == ["b"]


def test_what_nobody_asks_about_is_forgotten() -> None:
    watched, one, two = Watched(), resource(ROUTES, "r", "1"), resource(ROUTES, "r", "2")
    watched.vetting.trust(one)
    watched.vetting.follows(two, one)
    watched.vetting.judge(two)
    watched.vetting.refuse(two, "no good")
    for _ in range(3):
        watched.vetting.age()
        assert watched.vetting.judge(two) == Withheld("no good", one)
    assert watched.vetting.judge(one) is PENDING
    watched.vetting.age()
    watched.vetting.age()
    assert watched.vetting.judge(two) is PENDING


@pytest.mark.parametrize("type_url", [ENDPOINTS, "type.googleapis.com/other"])
def test_other_types_are_nobodys_business(type_url: str) -> None:
    assert Watched().vetting.judge(resource(type_url, "a", "1")) is PASSED


def test_node_is_named_as_long_as_only_it_refuses() -> None:
    mesh = Mesh()
    mesh.commit(plain(CLUSTER, "a", "1", RULE), touched=(RULE,))
    stream = opened(mesh.fleet)
    mesh.fleet.receive(stream, Request(CLUSTER))
    mesh.fleet.advance(stream)
    mesh.fleet.receive(stream, Request(CLUSTER, nonce="1", error="no"))
    mesh.fleet.advance(stream)
    assert mesh.programmed(RULE).startswith(f"False Rejected: {NODE} refused")

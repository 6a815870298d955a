"""Dialogues with one stream's machine."""

from xds_play import Play, started


def test_first_configuration_in_order() -> None:
    play = Play()
    play.want(CDS="a@1", EDS="a@1", LDS="80@1", RDS="80@1")
    play.ask("CDS")
    assert play.sent() == ["CDS a@1"]
    play.ask("LDS")
    assert play.sent() == []  # the cluster is not answered
    play.ask("EDS", "a")
    assert play.sent() == ["EDS a@1"]  # its warming needs the endpoints
    play.ack("EDS")
    assert play.sent() == []
    play.ack("CDS")
    assert play.sent() == ["LDS 80@1"]
    play.ack("LDS")
    assert play.answered == 0  # the listener's routes are not even asked for
    play.ask("RDS", "80")
    assert play.sent() == ["RDS 80@1"]
    assert play.answered == 0
    play.ack("RDS")
    assert play.answered == 1


def test_nothing_to_send_is_still_an_answer() -> None:
    play = Play()
    play.want()
    play.ask("CDS", "*")
    assert play.sent() == ["CDS"]
    play.ack("CDS")
    assert play.sent() == []


def test_reconnect_sends_nothing_that_the_client_has() -> None:
    play = Play()
    play.want(CDS="a@1", EDS="a@1", LDS="80@1", RDS="80@1")
    play.ask("CDS", "*", has="a@1")
    play.ask("EDS", "a", has="a@1")
    play.ask("LDS", "*", has="80@1")
    play.ask("RDS", "80", has="80@1")
    assert play.sent() == []
    assert play.answered == 1


def test_reconnect_sends_only_what_differs() -> None:
    play = Play()
    play.want(CDS="a@2 c@1", EDS="a@1 c@1", LDS="80@1")
    play.ask("CDS", "*", has="a@1 b@1 c@1")
    assert play.sent() == ["CDS a@2"]
    play.ask("EDS", "a", "b", "c", has="a@1 b@1 c@1")
    play.ask("LDS", "*", has="80@1")
    play.ack("CDS")
    assert play.sent() == []  # the client may still ask for types that use b
    play.wait(1)
    assert play.sent() == ["CDS -b"]
    play.ack("CDS")
    play.ask("EDS", drop="b")
    assert play.sent() == []
    assert play.answered == 1


def test_name_subscribed_again_is_answered_though_held() -> None:
    play = started(CDS="a@1", EDS="a@1")
    play.ask("EDS", "a")
    assert play.sent() == ["EDS a@1"]


def test_unknown_name_is_answered_at_once() -> None:
    play = started(CDS="a@1")
    play.ask("EDS", "nowhere")
    assert play.sent() == ["EDS -nowhere"]
    play.ack("EDS")
    play.want(EDS="nowhere@1")
    assert play.sent() == ["EDS nowhere@1"]


def test_on_demand_name_beside_the_wildcard() -> None:
    play = started(CDS="a@1")
    play.ask("CDS", "b")
    assert play.sent() == ["CDS -b"]
    play.ask("CDS", "a", drop="b")
    play.ack("CDS")
    assert play.sent() == ["CDS a@1 -b"] or play.sent() == []


def test_changed_cluster_is_followed_by_its_endpoints() -> None:
    play = started(CDS="a@1", EDS="a@1")
    play.want(CDS="a@2", EDS="a@2")
    assert play.sent() == ["CDS a@2", "EDS a@2"]


def test_endpoints_of_an_unsent_cluster_wait_for_it_and_others_do_not() -> None:
    play = started(CDS="a@1 b@1", EDS="a@1 b@1")
    play.want(CDS="a@2 b@1", EDS="a@2 b@1")
    assert play.sent() == ["CDS a@2", "EDS a@2"]
    play.ack("EDS")
    play.want(CDS="a@3 b@1", EDS="a@3 b@2")
    assert play.sent() == ["EDS b@2"]
    play.ack("EDS")
    play.ack("CDS")
    assert play.sent() == ["CDS a@3", "EDS a@3"]


def test_routes_wait_for_their_cluster_to_warm() -> None:
    play = started(CDS="a@1", EDS="a@1", LDS="80@1", RDS="80@1")
    play.want(CDS="a@1 b@1", EDS="a@1 b@1", RDS="80@2")
    assert play.sent() == ["CDS b@1"]
    play.ask("EDS", "b")
    assert play.sent() == ["EDS b@1"]
    play.ack("EDS")
    assert play.sent() == []
    play.ack("CDS")
    assert play.sent() == ["RDS 80@2"]


def test_cluster_that_never_warms_holds_back_nothing_for_ever() -> None:
    play = started(CDS="a@1", LDS="80@1", RDS="80@1")
    play.want(CDS="a@1 dns@1", RDS="80@2")
    assert play.sent() == ["CDS dns@1"]
    play.wait(4.9)
    assert play.sent() == []
    wake_at = play.session.wake_at(play.now)
    assert wake_at is not None
    play.now = wake_at
    assert play.sent() == ["RDS 80@2"]
    play.ack("RDS")
    assert play.answered == 1  # the cluster is still not answered


def test_next_change_of_a_type_waits_a_moment_only() -> None:
    play = started(CDS="a@1")
    play.want(CDS="a@1 dns@1")
    assert play.sent() == ["CDS dns@1"]
    play.want(CDS="a@2 dns@1")
    assert play.sent() == []
    play.wait(0.3)
    assert play.sent() == ["CDS a@2"]
    play.ack("CDS")
    assert play.answered == 2
    play.ack("CDS")
    assert play.answered == 3


def test_removals_come_last_and_in_reverse() -> None:
    play = started(CDS="a@1 b@1", EDS="a@1 b@1", LDS="80@1 90@1", RDS="80@1 90@1")
    play.want(CDS="b@1 c@1", EDS="b@1 c@1", LDS="80@1", RDS="80@2")
    assert play.sent() == ["CDS c@1"]
    play.ask("EDS", "c")
    assert play.sent() == ["EDS c@1"]
    play.ack("EDS")
    play.ack("CDS")
    assert play.sent() == ["RDS 80@2"]
    play.ack("RDS")
    assert play.sent() == ["LDS -90"]
    play.ask("RDS", drop="90")
    assert play.sent() == []
    play.ack("LDS")
    assert play.sent() == ["CDS -a"]
    play.ack("CDS")
    assert play.sent() == ["EDS -a"]  # the client did not unsubscribe: it is told
    play.ack("EDS")
    assert play.answered == play.revision


def test_lone_refusal_is_reported_and_not_sent_again() -> None:
    play = started(LDS="80@1", RDS="80@1")
    play.want(RDS="80@2")
    assert play.sent() == ["RDS 80@2"]
    play.nack("RDS", "bad regex")
    assert play.refusals() == ["RDS 80@2: bad regex"]
    assert [refusal.kept for refusal in play.session.refusals()] == [True]
    assert play.sent() == []
    play.want(LDS="80@2")
    assert play.sent() == ["LDS 80@2"]
    play.ack("LDS")
    assert play.answered == play.revision  # a refusal is an answer
    play.want(RDS="80@3")
    assert play.sent() == ["RDS 80@3"]
    assert play.refusals() == []


def test_return_to_the_last_good_version_sends_nothing() -> None:
    play = started(LDS="80@1", RDS="80@1")
    play.want(RDS="80@2")
    play.sent()
    play.nack("RDS")
    play.want(RDS="80@1")
    assert play.sent() == []
    assert play.refusals() == []


def test_refused_response_is_singled_out() -> None:
    play = started(LDS="80@1", RDS="80@1")
    play.want(LDS="80@1 81@1 82@1")
    assert play.sent() == ["LDS 81@1 82@1"]
    play.nack("LDS", "82 is bad")
    assert play.refusals() == []
    assert play.sent() == ["LDS 81@1", "LDS 82@1"]
    play.ack("LDS")
    play.nack("LDS", "82 is bad")
    assert play.refusals() == ["LDS 82@1: 82 is bad"]
    assert [refusal.kept for refusal in play.session.refusals()] == [False]
    assert play.sent() == []


def test_clusters_of_the_last_good_routes_stay_while_their_successor_is_refused() -> None:
    play = started(CDS="a@1 b@1", LDS="80@1", RDS="80@1")
    play.want(CDS="b@1", RDS="80@2")
    assert play.sent() == ["RDS 80@2"]
    play.nack("RDS")
    play.wait(60)
    assert play.sent() == []
    assert play.answered == play.revision
    play.want(RDS="80@3")
    assert play.sent() == ["RDS 80@3"]
    play.ack("RDS")
    assert play.sent() == ["CDS -a"]


def test_refusal_outlives_the_stream() -> None:
    play = started(LDS="80@1", RDS="80@1")
    play.want(RDS="80@2")
    play.sent()
    play.nack("RDS", "bad regex")
    again = Play(play.session.memories())
    again.want(LDS="80@1", RDS="80@2")
    again.ask("LDS", "*", has="80@1")
    again.ask("RDS", "80", has="80@1")
    assert again.sent() == []
    assert again.refusals() == ["RDS 80@2: bad regex"]


def test_restarted_client_judges_anew() -> None:
    play = started(LDS="80@1", RDS="80@1")
    play.want(RDS="80@2")
    play.sent()
    play.nack("RDS", "bad regex")
    again = Play(play.session.memories())
    again.want(RDS="80@2")
    again.ask("RDS", "80")
    assert again.sent() == ["RDS 80@2"]


def test_reconnect_takes_away_what_a_refused_response_may_have_left() -> None:
    play = started(LDS="80@1")
    play.want(LDS="80@1 81@1 82@1")
    play.sent()
    play.nack("LDS", "82 is bad")  # Envoy serves 81 but will not tell of it
    again = Play(play.session.memories())
    again.want(LDS="80@1")
    again.ask("LDS", "*", has="80@1")
    again.wait(1)
    assert again.sent() == ["LDS -81 -82"]


def test_refusal_of_an_overtaken_version_restores_what_was_before_it() -> None:
    play = started(CDS="a@0")
    play.want(CDS="a@1")
    assert play.sent() == ["CDS a@1"]
    play.wait(0.3)
    play.want(CDS="a@2")
    assert play.sent() == ["CDS a@2"]
    play.nack("CDS")
    play.nack("CDS")
    assert play.refusals() == ["CDS a@2: no"]
    play.want(CDS="a@0")
    assert play.sent() == []


def test_answer_to_an_unknown_nonce_is_ignored() -> None:
    play = started(CDS="a@1")
    play.want(CDS="a@2")
    play.sent()
    push = play.unanswered["CDS"][0]
    play.unanswered["CDS"].append(push)
    play.ack("CDS")
    play.ack("CDS")
    assert play.sent() == []


def test_constant_changes_of_endpoints_do_not_keep_an_object_waiting() -> None:
    play = started(CDS="a@1", EDS="a@1", LDS="80@1", RDS="80@1")
    play.want(RDS="80@2", EDS="a@0")
    object_revision = play.revision
    for version in range(10):
        play.want(EDS=f"a@v{version}")
        if play.sent():
            for short, pushes in play.unanswered.items():
                for _ in list(pushes):
                    play.ack(short)
    assert play.answered >= object_revision


def test_type_that_nobody_serves_is_answered_as_empty() -> None:
    play = started(CDS="a@1")
    from isthmus.xds.wire import Request

    play.session.receive(Request("type.googleapis.com/Runtime", ("layer",)), play.now)
    (push,) = play.session.step(play.now)
    assert (push.type_url, push.resources, push.removed) == ("type.googleapis.com/Runtime", (), ("layer",))

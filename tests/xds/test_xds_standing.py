"""What is told of a stream that does not come on."""

import logging

import pytest
from test_xds_fleet import opened, quiet
from xds_mesh import NODE, Mesh, plain

from isthmus.envoy.resource import CLUSTER, ENDPOINTS, LISTENER
from isthmus.xds.standing import STALLED_S, Stall
from isthmus.xds.wire import Request


def test_a_stall_is_told_once_until_the_stream_comes_on() -> None:
    stall = Stall()
    assert not stall.is_news(3, 5, 0.0)
    assert not stall.is_news(3, 6, STALLED_S - 1)
    assert stall.is_news(3, 7, STALLED_S)
    assert not stall.is_news(3, 7, 5 * STALLED_S)
    assert not stall.is_news(4, 7, 6 * STALLED_S), "it came on"
    assert not stall.is_news(4, 7, 7 * STALLED_S - 1)
    assert stall.is_news(4, 7, 7 * STALLED_S)


def test_a_stream_that_has_answered_everything_stands_still_in_peace() -> None:
    stall = Stall()
    assert not any(stall.is_news(5, 5, at * STALLED_S) for at in range(5))
    assert not stall.is_news(5, 6, 4 * STALLED_S + 1), "there is something to answer only now"


def test_the_log_says_what_a_late_proxy_has_not_answered(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    times = [100.0]
    mesh = Mesh(now=lambda: times[0])
    mesh.commit(plain(CLUSTER, "a", "1"), plain(ENDPOINTS, "a", "1"))
    stream = opened(mesh.fleet)
    quiet(mesh.fleet, stream, CLUSTER)
    mesh.commit(plain(CLUSTER, "a", "2"), plain(ENDPOINTS, "a", "1"), plain(LISTENER, "80", "1"))
    mesh.fleet.receive(stream, Request(LISTENER))
    mesh.fleet.advance(stream)
    for _ in range(30):
        mesh.fleet.overdue()
        times[0] += 1.0
    (line,) = [record.message for record in caplog.records if record.message.startswith("late ")]
    words = ("Cluster a unanswered for 15 s", "ClusterLoadAssignment a not asked for", "Listener 80 not sent")
    assert line == f"late node={NODE}: {'; '.join(words)}", "endpoints nobody asks for were waited for 5 s"

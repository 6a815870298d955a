"""Waits and moments."""

from itertools import islice

from isthmus.clock import backoff, rest_s, rfc3339


def test_backoff_doubles_to_its_cap() -> None:
    assert list(islice(backoff(1, 5, chance=lambda: 1.0), 5)) == [1, 2, 4, 5, 5]
    assert list(islice(backoff(1, 5, chance=lambda: 0.0), 3)) == [0.5, 1, 2]


def test_backoff_is_jittered() -> None:
    waits = {next(backoff(1, 5)) for _ in range(20)}
    assert len(waits) > 1
    assert all(0.5 <= wait <= 1 for wait in waits)


def test_moment_as_kubernetes_writes_it() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00Z"
    assert rfc3339(1_700_000_000.9) == "2023-11-14T22:13:20Z"
    assert rfc3339() > "2024"


def test_rest_leaves_the_others_their_share() -> None:
    assert rest_s(1.0, 0.25) == 3.0
    assert rest_s(0.01, 0.25) == 0.0, "what is quick need not rest"
    assert rest_s(0.01, 0.5, free_s=0.0) == 0.01

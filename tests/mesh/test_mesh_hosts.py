"""Host names, as rules and callers spell them."""

import pytest

from isthmus.mesh.hosts import covers, exported, full, most_specific, short_forms

DOMAIN = "cluster.local"


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("reviews", "reviews.shop.svc.cluster.local"),
        ("Reviews.", "reviews.shop.svc.cluster.local"),
        ("reviews.other", "reviews.other"),
        ("api.example.com", "api.example.com"),
        ("*", "*"),
        ("*.example.com", "*.example.com"),
    ],
)
def test_a_name_without_a_dot_is_a_service_of_the_rules_namespace(name: str, host: str) -> None:
    assert full(name, "shop", DOMAIN) == host


def test_the_most_specific_host_wins() -> None:
    said = {"*": 0, "*.com": 1, "*.example.com": 2, "api.example.com": 3}
    assert most_specific(said, "api.example.com") == 3
    assert most_specific(said, "www.example.com") == 2
    assert most_specific(said, "*.example.com") == 2
    assert most_specific(said, "a.b.example.com") == 2
    assert most_specific(said, "example.com") == 1
    assert most_specific(said, "example.org") == 0
    assert most_specific({}, "example.org") is None


def test_a_wildcard_covers_what_is_below_it() -> None:
    assert covers("*.example.com", "www.example.com")
    assert not covers("*.example.com", "example.com")
    assert covers("a", "a")


def test_short_forms() -> None:
    host = "ratings.shop.svc.cluster.local"
    assert short_forms(host, "other", DOMAIN) == ("ratings.shop.svc", "ratings.shop")
    assert short_forms(host, "shop", DOMAIN) == ("ratings.shop.svc", "ratings.shop", "ratings")
    assert short_forms("api.example.com", "shop", DOMAIN) == ()
    assert short_forms("*.shop.svc.cluster.local", "shop", DOMAIN) == ()
    assert short_forms("shop.svc.cluster.local", "shop", DOMAIN) == ()


def test_export_to() -> None:
    assert exported((), "a", "b")
    assert exported(("*",), "a", "b")
    assert exported((".",), "a", "a")
    assert not exported((".",), "a", "b")
    assert exported(("b",), "a", "b")
    assert not exported(("~",), "a", "a")

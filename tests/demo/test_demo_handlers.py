"""What travels with a request: tracing headers, and the user."""

from isthmus.demo.bookinfo.productpage import onward, user
from isthmus.demo.bookinfo.web import FORWARDED, Request, forwarded


def request(query: str = "", **headers: str) -> Request:
    return Request("GET", "/productpage", query, {key.replace("_", "-"): v for key, v in headers.items()})


def test_tracing_headers_go_on_and_others_stay() -> None:
    headers = {name: "x" for name in FORWARDED}
    assert forwarded({**headers, "host": "h", "content-length": "3"}) == headers


def test_the_user_comes_from_the_cookie_or_the_query() -> None:
    assert user(request(cookie="user=jason")) == "jason"
    assert user(request("u=normal", cookie="user=jason")) == "normal"
    assert user(request()) is None


def test_only_a_signed_in_user_travels_as_end_user() -> None:
    assert onward(request(cookie="user=jason"))["end-user"] == "jason"
    assert "end-user" not in onward(request(end_user="forged"))

"""A shopper's request becomes the page: details, reviews and stars from the services behind it.

Run as `python -m isthmus.demo.bookinfo.productpage [PORT]`. Environment, as Bookinfo's: DETAILS_HOSTNAME,
REVIEWS_HOSTNAME, RATINGS_HOSTNAME, their _SERVICE_PORT, SERVICES_DOMAIN.
"""

from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

from isthmus.demo.bookinfo import page
from isthmus.demo.bookinfo.web import Answer, Request, forwarded, get_json, json_answer, serve, upstream

TIMEOUT_S = 3.0
REVIEW_ATTEMPTS = 2
HTML = "text/html; charset=utf-8"
PRODUCT = {
    "id": 0,
    "title": "The Comedy of Errors",
    "descriptionHtml": '<a href="https://en.wikipedia.org/wiki/The_Comedy_of_Errors">Wikipedia Summary</a>: '
    "The Comedy of Errors is one of <b>William Shakespeare's</b> early plays. It is his shortest and one of "
    "his most farcical comedies, with a major part of the humour coming from slapstick and mistaken "
    "identity, in addition to puns and word play.",
}


def user(request: Request) -> str | None:
    """Who is signed in: the cookie that /login set, or ?u=NAME for scripts."""
    asked = parse_qs(request.query).get("u", [""])[0]
    try:
        cookie = SimpleCookie(request.headers.get("cookie", "")).get("user")
    except CookieError:
        cookie = None
    return asked or (cookie.value if cookie else None) or None


def call(service: str, product: int, headers: Mapping[str, str], *, attempts: int = 1) -> tuple[int, Any]:
    """Ask a service about a product: 200 and its document, or another status and what to say instead."""
    host, port = upstream(service)
    for _ in range(attempts):
        try:
            return 200, get_json(host, port, f"/{service}/{product}", headers, timeout_s=TIMEOUT_S)
        except (OSError, ValueError):
            continue
    return 500, {"error": f"Sorry, product {service} are currently unavailable for this book."}


def handle(request: Request) -> Answer:
    """The page, its sign-in, and the API beside it."""
    match request.path.strip("/").split("/"):
        case [""] | ["index.html"]:
            return Answer(200, page.index(PRODUCT), HTML)
        case ["health"]:
            return Answer(200, b"Product page is healthy", "text/plain")
        case ["login"] if request.method == "POST":
            name = parse_qs(request.body.decode(errors="replace")).get("username", [""])[0]
            return _signed(name, "" if name else "; Max-Age=0")
        case ["logout"]:
            return _signed("", "; Max-Age=0")
        case ["productpage"]:
            return productpage(request)
        case ["api", "v1", "products"]:
            return json_answer(200, [PRODUCT])
        case ["api", "v1", "products", number] if number.isdigit():
            return json_answer(*call("details", int(number), onward(request)))
        case ["api", "v1", "products", number, ("reviews" | "ratings") as service] if number.isdigit():
            attempts = REVIEW_ATTEMPTS if service == "reviews" else 1
            return json_answer(*call(service, int(number), onward(request), attempts=attempts))
        case _:
            return json_answer(404, {"error": f"no such path: {request.path}"})


def onward(request: Request) -> dict[str, str]:
    """The headers for calls made on behalf of this request; a signed-in user travels as end-user."""
    name = user(request)
    headers = {key: value for key, value in forwarded(request.headers).items() if key != "end-user"}
    return {**headers, "end-user": name} if name else headers


def productpage(request: Request) -> Answer:
    """The page as a browser gets it: it comes, with words in place of what a service does not give."""
    headers = onward(request)
    details = call("details", 0, headers)
    reviews = call("reviews", 0, headers, attempts=REVIEW_ATTEMPTS)
    return Answer(200, page.productpage(PRODUCT, details, reviews, user(request)), HTML)


def _signed(name: str, attributes: str) -> Answer:
    cookie = (
        SimpleCookie({"user": name})["user"].OutputString() + f"; Path=/; HttpOnly; SameSite=Lax{attributes}"
    )
    return Answer(302, b"", HTML, {"Location": "/productpage", "Set-Cookie": cookie})


if __name__ == "__main__":
    serve(handle)

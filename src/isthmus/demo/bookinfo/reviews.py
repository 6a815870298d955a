"""A product's number becomes its reviews, perhaps with stars. `python -m isthmus.demo.bookinfo.reviews`.

Environment, as Bookinfo's: ENABLE_RATINGS, STAR_COLOR, RATINGS_HOSTNAME, RATINGS_SERVICE_PORT,
SERVICES_DOMAIN.
"""

import os
import socket
from collections.abc import Mapping

from isthmus.demo.bookinfo.web import Answer, Request, forwarded, get_json, json_answer, serve, upstream

TEXTS = {
    "Reviewer1": "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!",
    "Reviewer2": "Absolutely fun and entertaining. The play lacks thematic depth when compared "
    "to other plays by Shakespeare.",
}


def star_color() -> str | None:
    """The colour of this version's stars, None for the version without ratings."""
    enabled = os.environ.get("ENABLE_RATINGS", "false").lower() == "true"
    return os.environ.get("STAR_COLOR", "black") if enabled else None


def ratings(product: str, headers: Mapping[str, str], color: str) -> Mapping[str, int] | None:
    """The stars by reviewer, None when ratings do not answer well in time."""
    host, port = upstream("ratings")
    # Bookinfo's own numbers: black stars are patient, red ones are not.
    timeout_s = 10.0 if color == "black" else 2.5
    try:
        document = get_json(host, port, f"/ratings/{product}", forwarded(headers), timeout_s=timeout_s)
        return {str(who): int(stars) for who, stars in document["ratings"].items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def reviews(product: str, stars: Mapping[str, int] | None, color: str | None) -> dict[str, object]:
    """Both reviews; each says its rating, or why there is none, or nothing when ratings are off."""
    found = []
    for reviewer, text in TEXTS.items():
        review: dict[str, object] = {"reviewer": reviewer, "text": text}
        if color is not None:
            known = stars is not None and reviewer in stars
            review["rating"] = (
                {"stars": stars[reviewer], "color": color}
                if known and stars is not None
                else {"error": "Ratings service is currently unavailable"}
            )
        found.append(review)
    return {
        "id": product,
        "podname": os.environ.get("POD_NAME") or socket.gethostname(),
        "clustername": os.environ.get("CLUSTER_NAME", "null"),
        "reviews": found,
    }


def handle(request: Request) -> Answer:
    """GET /reviews/N and /health."""
    if request.path == "/health":
        return json_answer(200, {"status": "Reviews is healthy"})
    first, _, product = request.path.strip("/").partition("/")
    if first != "reviews" or not product:
        return json_answer(404, {"error": f"no such path: {request.path}"})
    color = star_color()
    stars = ratings(product, request.headers, color) if color else None
    return json_answer(200, reviews(product, stars, color))


if __name__ == "__main__":
    serve(handle)

"""Bookinfo's services over real HTTP on loopback: the original's paths, JSON and words."""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from isthmus.demo.stage import stars
from quiet_ports import quiet_ports

SORRY = "Sorry, product {} are currently unavailable for this book."


@dataclass
class Shop:
    """Running services by name, each on a port of its own."""

    ports: dict[str, int]
    processes: "list[subprocess.Popen[str]]" = field(default_factory=list)

    def start(self, name: str, **environment: str) -> None:
        service, _, _ = name.partition("-")
        others = {
            f"{other.upper()}_{key}": value
            for other, port in self.ports.items()
            for key, value in (("HOSTNAME", "localhost"), ("SERVICE_PORT", str(port)))
        }
        process = subprocess.Popen(
            [sys.executable, "-m", f"isthmus.demo.bookinfo.{service}", str(self.ports[name])],
            stdout=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"], **others, **environment},
        )
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith("listening")

    def get(
        self, name: str, path: str, method: str = "GET", body: str = "", **headers: str
    ) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[name], timeout=60)
        connection.request(
            method, path, body or None, {key.replace("_", "-"): v for key, v in headers.items()}
        )
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        return response.status, text

    def json(self, name: str, path: str, **headers: str) -> Any:
        status, text = self.get(name, path, **headers)
        assert status == 200, text
        return json.loads(text)


@pytest.fixture
def shop() -> Iterator[Shop]:
    names = ("productpage", "details", "reviews", "ratings")
    made = Shop(dict(zip(names, quiet_ports(len(names)), strict=True)))
    yield made
    for process in made.processes:
        process.terminate()
        process.communicate()


def test_the_whole_shop(shop: Shop) -> None:
    for name in ("productpage", "details", "ratings"):
        shop.start(name)
    shop.start("reviews", ENABLE_RATINGS="true", STAR_COLOR="red", POD_NAME="reviews-v3-x")
    status, page = shop.get("productpage", "/productpage?u=normal")
    assert status == 200
    assert "<title>Simple Bookstore App</title>" in page
    for words in (
        "William Shakespeare",
        "PublisherA",
        "Book Details",
        "Book Reviews",
        "glyphicon glyphicon-star",
    ):
        assert words in page
    assert stars(page) == [5, 4]
    assert "color:red" in page
    assert "reviews-v3-x" in page
    assert shop.json("productpage", "/api/v1/products")[0]["title"] == "The Comedy of Errors"
    assert shop.json("productpage", "/api/v1/products/0")["ISBN-13"] == "123-1234567890"
    assert shop.json("productpage", "/api/v1/products/0/ratings") == {
        "id": 0,
        "ratings": {"Reviewer1": 5, "Reviewer2": 4},
    }
    shop.get("ratings", "/ratings/0", "POST", '{"Reviewer1": 1, "Reviewer2": 2}')
    assert stars(shop.get("productpage", "/productpage")[1]) == [1, 2]


def test_the_page_comes_without_what_is_down(shop: Shop) -> None:
    shop.start("productpage")
    status, page = shop.get("productpage", "/productpage")
    assert status == 200
    for service in ("details", "reviews"):
        assert f"Error fetching product {service}!" in page
        assert SORRY.format(service) in page
    assert "glyphicon glyphicon-star" not in page
    assert shop.get("productpage", "/api/v1/products/0/reviews")[0] == 500


def test_reviews_without_ratings_say_so(shop: Shop) -> None:
    shop.start("reviews", ENABLE_RATINGS="true")
    reviews = shop.json("reviews", "/reviews/0")["reviews"]
    assert [review["rating"] for review in reviews] == [
        {"error": "Ratings service is currently unavailable"}
    ] * 2


def test_reviews_v1_know_no_ratings(shop: Shop) -> None:
    shop.start("reviews", ENABLE_RATINGS="false")
    assert all("rating" not in review for review in shop.json("reviews", "/reviews/0")["reviews"])


def test_a_user_signs_in_and_out(shop: Shop) -> None:
    shop.start("productpage")
    connection = http.client.HTTPConnection("127.0.0.1", shop.ports["productpage"], timeout=60)
    connection.request("POST", "/login", "username=jason&passwd=x")
    response = connection.getresponse()
    response.read()
    connection.close()
    cookie = (response.getheader("Set-Cookie") or "").partition(";")[0]
    assert (response.status, response.getheader("Location"), cookie) == (302, "/productpage", "user=jason")
    assert "jason <a" in shop.get("productpage", "/productpage", cookie=cookie)[1]
    assert "jason" not in shop.get("productpage", "/productpage")[1]


def test_names_cannot_put_markup_into_the_page(shop: Shop) -> None:
    shop.start("productpage")
    page = shop.get("productpage", "/productpage?u=%3Cscript%3E")[1]
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_ratings_without_their_database_are_an_error(shop: Shop) -> None:
    shop.start("ratings", DB_TYPE="mysql", MYSQL_DB_HOST="127.0.0.1", MYSQL_DB_PORT="1")
    status, text = shop.get("ratings", "/ratings/0")
    assert (status, json.loads(text)) == (500, {"error": "could not connect to ratings database"})


@pytest.mark.parametrize(
    ("service", "path", "status"),
    [
        ("details", "/details/x", 400),
        ("ratings", "/ratings/x", 400),
        ("reviews", "/nothing", 404),
        ("details", "/health", 200),
        ("ratings", "/health", 200),
        ("reviews", "/health", 200),
        ("productpage", "/health", 200),
    ],
)
def test_odd_paths(shop: Shop, service: str, path: str, status: int) -> None:
    shop.start(service)
    assert shop.get(service, path)[0] == status

"""What the services said about a book becomes HTML, with the words and class names of the original page."""

from collections.abc import Mapping
from html import escape
from typing import Any

STYLE = """
:root { --ink: #1d2733; --soft: #65748a; --line: #e3e8ef; --blue: #34558b; }
* { box-sizing: border-box }
body { margin: 0; font: 16px/1.55 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--ink);
  background: #f6f8fb }
nav { background: var(--blue); color: #fff; padding: .8rem 2rem; display: flex; align-items: center }
nav a { color: #fff; text-decoration: none; font-weight: 600 } nav form { margin-left: auto }
nav input { border: 0; border-radius: 4px; padding: .35rem .6rem }
nav button, nav .user a { border: 1px solid #ffffff80; border-radius: 4px; background: none; color: #fff;
  padding: .3rem .7rem; font: inherit; cursor: pointer }
nav .user { margin-left: auto }
header, main { max-width: 62rem; margin: 0 auto; padding: 0 2rem }
h1 { font-size: 2.1rem; margin: 2rem 0 .4rem } header p { color: var(--soft); max-width: 46rem }
main { display: grid; grid-template-columns: 1fr 1.6fr; gap: 1.5rem; margin-top: 1.5rem }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 1.2rem 1.5rem }
h4 { margin: 0 0 .8rem; font-size: 1.1rem }
dl { display: grid; grid-template-columns: auto 1fr; gap: .3rem 1rem }
dt { color: var(--soft) } dd { margin: 0 } blockquote { margin: 0 0 1.4rem }
blockquote p { margin: 0 } small { color: var(--soft) } .error { color: #a3262a }
.glyphicon { font-style: normal; font-size: 1.35rem; line-height: 1 }
.glyphicon-star::before { content: "\\2605" } .glyphicon-star-empty::before { content: "\\2606" }
@media (max-width: 50rem) { main { grid-template-columns: 1fr } }
"""


def document(body: str) -> bytes:
    """A whole HTML document around a body."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Simple Bookstore App</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style></head>\n<body>{body}</body></html>\n"
    ).encode()


def index(product: Mapping[str, Any]) -> bytes:
    """The front page, which leads to the one product."""
    return document(
        '<nav><a href="/productpage">BookInfo Sample</a></nav><header><h1>Hello! This is a simple bookstore '
        f'</h1><p>It sells one book: <a href="/productpage">{escape(product["title"])}</a>.</p></header>'
    )


def productpage(
    product: Mapping[str, Any], details: tuple[int, Any], reviews: tuple[int, Any], user: str | None
) -> bytes:
    """The product's page."""
    return document(
        f"{_navigation(user)}<header><h1>{escape(product['title'])}</h1>"
        f"<p>Summary: {product['descriptionHtml']}</p></header>\n"
        f"<main><section>{_details(*details)}</section>\n<section>{_reviews(*reviews)}</section></main>"
    )


def _navigation(user: str | None) -> str:
    sign = (
        f'<span class="user">{escape(user)} <a href="/logout">sign out</a></span>'
        if user
        else '<form method="post" action="/login"><input name="username" placeholder="User name" required> '
        "<button>Sign in</button></form>"
    )
    return f'<nav><a href="/">BookInfo Sample</a>{sign}</nav>\n'


def _details(status: int, document: Any) -> str:
    if status != 200:
        return _trouble("Error fetching product details!", document)
    shown = {
        "Type": "type",
        "Pages": "pages",
        "Publisher": "publisher",
        "Language": "language",
        "ISBN-10": "ISBN-10",
        "ISBN-13": "ISBN-13",
        "Author": "author",
        "Year": "year",
    }
    rows = "".join(
        f"<dt>{title}:</dt><dd>{escape(str(document.get(key, '')))}</dd>" for title, key in shown.items()
    )
    return f"<h4>Book Details</h4><dl>{rows}</dl>"


def _reviews(status: int, document: Any) -> str:
    if status != 200:
        return _trouble("Error fetching product reviews!", document)
    shown = "".join(_review(review) for review in document["reviews"])
    server = escape(str(document.get("podname")))
    return f"<h4>Book Reviews</h4>{shown}<small>Reviews served by: <u>{server}</u></small>"


def _review(review: Mapping[str, Any]) -> str:
    rating = review.get("rating")
    stars = ""
    if rating and "error" in rating:
        stars = f'<p class="error"><i>{escape(str(rating["error"]))}</i></p>'
    elif rating:
        full = max(0, min(5, int(rating["stars"])))
        marks = '<span class="glyphicon glyphicon-star"></span>\n' * full
        marks += '<span class="glyphicon glyphicon-star-empty"></span>\n' * (5 - full)
        stars = f'<div style="color:{escape(str(rating["color"]), quote=True)}">{marks}</div>'
    return (
        f"<blockquote><p>{escape(str(review['text']))}</p><small>{escape(str(review['reviewer']))}</small>"
        f"{stars}</blockquote>\n"
    )


def _trouble(title: str, document: Any) -> str:
    return f'<h4 class="error">{title}</h4><p class="error">{escape(str(document["error"]))}</p>'

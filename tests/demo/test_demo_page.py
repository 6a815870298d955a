"""What the check reads off a page."""

from isthmus.demo.bookinfo.page import productpage
from isthmus.demo.bookinfo.productpage import PRODUCT
from isthmus.demo.stage import stars, words


def page(*ratings: object) -> str:
    reviews = [{"reviewer": "R", "text": "t", "rating": rating} for rating in ratings]
    document = {"podname": "reviews-v3", "reviews": reviews}
    return productpage(PRODUCT, (200, {}), (200, document), None).decode()


def test_stars_are_counted_for_each_review() -> None:
    assert stars(page({"stars": 5, "color": "red"}, {"stars": 0, "color": "red"})) == [5, 0]
    assert stars(page({"error": "Ratings service is currently unavailable"})) == []


def test_words_are_the_text_without_its_markup() -> None:
    assert words(page({"error": "Ratings service is currently unavailable"})).endswith(
        "Book Reviews t R Ratings service is currently unavailable Reviews served by: reviews-v3"
    )

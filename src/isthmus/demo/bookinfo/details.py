"""A product's number becomes its details. `python -m isthmus.demo.bookinfo.details [PORT]`."""

from isthmus.demo.bookinfo.web import Answer, Request, json_answer, serve


def details(product: int) -> dict[str, object]:
    """The one book that this shop sells."""
    return {
        "id": product,
        "author": "William Shakespeare",
        "year": 1595,
        "type": "paperback",
        "pages": 200,
        "publisher": "PublisherA",
        "language": "English",
        "ISBN-10": "1234567890",
        "ISBN-13": "123-1234567890",
    }


def handle(request: Request) -> Answer:
    """GET /details/N and /health."""
    if request.path == "/health":
        return json_answer(200, {"status": "Details is healthy"})
    first, _, number = request.path.strip("/").partition("/")
    if first != "details":
        return json_answer(404, {"error": f"no such path: {request.path}"})
    if not number.isdigit():
        return json_answer(400, {"error": "please provide numeric product id"})
    return json_answer(200, details(int(number)))


if __name__ == "__main__":
    serve(handle)

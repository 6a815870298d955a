"""A product's number becomes its stars: from memory or from MySQL. `python -m isthmus.demo.bookinfo.ratings`.

Environment, as Bookinfo's: DB_TYPE=mysql with MYSQL_DB_HOST, MYSQL_DB_PORT, MYSQL_DB_USER, MYSQL_DB_PASSWORD.
"""

import json
import os

import pymysql

from isthmus.demo.bookinfo.web import Answer, Request, json_answer, serve

own_ratings: dict[str, dict[str, int]] = {}
DEFAULT = {"Reviewer1": 5, "Reviewer2": 4}


def from_database() -> dict[str, int]:
    """The stars by reviewer that stand in test.ratings now; a connection for each request, as in Bookinfo."""
    connection = pymysql.connect(
        host=os.environ.get("MYSQL_DB_HOST", "mysqldb"),
        port=int(os.environ.get("MYSQL_DB_PORT", "3306")),
        user=os.environ.get("MYSQL_DB_USER", "root"),
        password=os.environ.get("MYSQL_DB_PASSWORD", ""),
        database="test",
        connect_timeout=4,
        read_timeout=4,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT Rating FROM ratings ORDER BY ReviewID")
        rows = cursor.fetchall()
    return {f"Reviewer{number}": int(row[0]) for number, row in enumerate(rows, start=1)}


def handle(request: Request) -> Answer:
    """GET and POST /ratings/N, and /health."""
    if request.path == "/health":
        return json_answer(200, {"status": "Ratings is healthy"})
    first, _, product = request.path.strip("/").partition("/")
    if first != "ratings":
        return json_answer(404, {"error": f"no such path: {request.path}"})
    if not product.isdigit():
        return json_answer(400, {"error": "please provide numeric product ID"})
    database = os.environ.get("DB_TYPE") == "mysql"
    if request.method == "POST":
        return (
            json_answer(501, {"error": "not with a database"}) if database else _post(product, request.body)
        )
    try:
        stars = from_database() if database else own_ratings.get(product, DEFAULT)
    except (OSError, pymysql.MySQLError) as error:
        print(f"database: {error}", flush=True)
        return json_answer(500, {"error": "could not connect to ratings database"})
    return json_answer(200, {"id": int(product), "ratings": stars})


def _post(product: str, body: bytes) -> Answer:
    try:
        document = json.loads(body)
        own_ratings[product] = {str(who): int(stars) for who, stars in document.items()}
    except (ValueError, AttributeError, TypeError):
        return json_answer(400, {"error": "please provide valid ratings JSON"})
    return json_answer(200, {"id": int(product), "ratings": own_ratings[product]})


if __name__ == "__main__":
    serve(handle)

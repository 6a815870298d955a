"""Many requests become a count that tells every failure."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from isthmus.demo.load import run


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    served = 0

    def do_GET(self) -> None:
        Handler.served += 1
        if Handler.served % 5 == 0:
            self.close_connection = True
            return
        body = b'{"podname": "reviews-v1"}'
        self.send_response(500 if Handler.served % 5 == 1 else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def url() -> Iterator[str]:
    Handler.served = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/reviews/0"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("fresh", [False, True])
def test_errors_and_broken_connections_are_failures(url: str, fresh: bool) -> None:
    load = run(url, count=20, seconds=0, pause_s=0, fresh=fresh)
    assert (load.requests, load.failed, load.answers) == (20, 8, {"reviews-v1": 16})
    assert load.failures[0].startswith("request 1: status 500")
    assert load.failures[1].startswith("request 5: RemoteDisconnected")


def test_nobody_there_is_all_failures() -> None:
    load = run("http://127.0.0.1:1/", count=3, seconds=0, pause_s=0, fresh=False)
    assert (load.requests, load.failed) == (3, 3)

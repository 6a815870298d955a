"""A URL becomes many requests and one JSON line that says how they went.

Run as `python -m isthmus.demo.load URL` on a host: it prints `loading`, asks until the --count, the
--seconds or SIGTERM.
"""

import argparse
import http.client
import json
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit

TIMEOUT_S = 10
KEPT = 5


@dataclass(slots=True)
class Load:
    """How the requests went so far."""

    requests: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    """The first few, in words."""
    answers: dict[str, int] = field(default_factory=dict)
    """How often each server (as Bookinfo's podname says) or else each status answered."""
    longest_ms: float = 0

    def failure(self, text: str) -> None:
        """Count a request that did not get a good answer."""
        self.failed += 1
        if len(self.failures) < KEPT:
            self.failures.append(f"request {self.requests}: {text}")


def run(url: str, *, count: int, seconds: float, pause_s: float, fresh: bool) -> Load:
    """Ask again and again, never twice for the same request: a failure counts as one."""
    load, place = Load(), urlsplit(url)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
    until = time.monotonic() + seconds if seconds else None
    connection: http.client.HTTPConnection | None = None
    while not stopped and (not count or load.requests < count) and (not until or time.monotonic() < until):
        if connection is None:
            connection = http.client.HTTPConnection(place.hostname or "", place.port or 80, timeout=TIMEOUT_S)
        load.requests += 1
        began = time.monotonic()
        try:
            connection.request("GET", place.path or "/", headers={"Connection": "close"} if fresh else {})
            response = connection.getresponse()
            body = response.read()
            _count(load, response.status, body)
        except (OSError, http.client.HTTPException) as error:
            load.failure(f"{type(error).__name__}: {error}")
            connection.close()
            connection = None
        load.longest_ms = max(load.longest_ms, 1000 * (time.monotonic() - began))
        if fresh and connection is not None:
            connection.close()
            connection = None
        time.sleep(pause_s)
    return load


def _count(load: Load, status: int, body: bytes) -> None:
    if status >= 400:
        load.failure(f"status {status}: {body[:200].decode(errors='replace')}")
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    server = document.get("podname") if isinstance(document, dict) else None
    name = str(server or status)
    load.answers[name] = load.answers.get(name, 0) + 1


def main() -> None:
    """Load the URL given on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--pause-ms", type=float, default=0)
    parser.add_argument("--fresh", action="store_true", help="a new connection for each request")
    given = parser.parse_args()
    print("loading", flush=True)
    load = run(
        given.url,
        count=given.count,
        seconds=given.seconds,
        pause_s=given.pause_ms / 1000,
        fresh=given.fresh,
    )
    json.dump(asdict(load), sys.stdout)
    print(flush=True)


if __name__ == "__main__":
    main()

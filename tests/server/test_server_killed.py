"""A whole `isthmus serve` is killed while eight clients write: it opens again, with all that it answered for.

8 writers over HTTPS ──▶ isthmus serve ◀── SIGKILL, at any moment; again on the same directory
"""

import http.client
import json
import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from control_plane import control_plane

from documents import namespace, workload_entry
from isthmus.api.kinds import KINDS
from isthmus.cli.client import Client

ENTRY = KINDS["WorkloadEntry"]
ENTRIES = "/apis/networking.istio.io/v1/namespaces/bookinfo/workloadentries"
WRITERS, ROUNDS = 8, 4


@dataclass(slots=True)
class Writer:
    """Makes entries, writes a number of its own, and deletes entries; notes what it was answered."""

    number: int
    made: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    """Asked to be deleted, and not answered for."""
    written: int = 0
    asked: int = 0

    @property
    def counter(self) -> str:
        """The entry with its number."""
        return f"counter-{self.number}"

    def write(self, client: Client) -> None:
        """Writes until the server is gone."""
        connection = http.client.HTTPSConnection(client.host, client.port, timeout=20, context=client.context)
        try:
            while True:
                self._entry(client, connection)
        except (OSError, http.client.HTTPException):
            pass  # it was killed
        finally:
            connection.close()

    def _entry(self, client: Client, connection: http.client.HTTPSConnection) -> None:
        self.asked += 1
        name = f"w{self.number}-{self.asked}"
        _ask(client, connection, "POST", "", workload_entry(name), 201)
        self.made.add(name)
        change = {"metadata": {"annotations": {"count": str(self.asked)}}}
        _ask(client, connection, "PATCH", f"/{self.counter}", change, 200)
        self.written = self.asked
        if self.asked % 3 == 0:
            self.unknown.add(name)
            _ask(client, connection, "DELETE", f"/{name}", None, 200)
            self.deleted.add(name)
            self.unknown.discard(name)


def _ask(
    client: Client, connection: http.client.HTTPSConnection, method: str, path: str, body: object, code: int
) -> None:
    media_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
    headers = {"Authorization": f"Bearer {client.token}", "Content-Type": media_type}
    connection.request(method, ENTRIES + path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    said = answer.read()
    assert answer.status == code, said


def hold(client: Client, writers: list[Writer]) -> None:
    """Asserts that the server has all that it answered for."""
    listed = client.listing(ENTRY, "bookinfo", {})["items"]
    found = {item["metadata"]["name"]: item["metadata"] for item in listed}
    for writer in writers:
        assert writer.made - writer.deleted - writer.unknown <= found.keys()
        assert not (writer.deleted & found.keys()), "what was deleted is back"
        count = int(found[writer.counter].get("annotations", {}).get("count", "0"))
        assert writer.written <= count <= writer.asked
    versions = [int(meta["resourceVersion"]) for meta in found.values()]
    assert len(set(versions)) == len(versions)


@pytest.mark.timeout(300)
def test_what_was_answered_survives_sigkill(tmp_path: Path) -> None:
    chance = random.Random(11)
    writers = [Writer(number) for number in range(WRITERS)]
    for round_ in range(ROUNDS + 1):
        with control_plane(tmp_path) as plane:
            if round_ == 0:
                counters = [workload_entry(writer.counter) for writer in writers]
                plane.client.apply([namespace(), *counters])
            hold(plane.client, writers)
            if round_ == ROUNDS:
                break
            before = [len(writer.made) for writer in writers]
            threads = [threading.Thread(target=writer.write, args=(plane.client,)) for writer in writers]
            for thread in threads:
                thread.start()
            # all of them are writing, then at any moment
            while any(len(writer.made) == was for writer, was in zip(writers, before, strict=True)):
                assert plane.process.poll() is None
                time.sleep(0.005)
            time.sleep(chance.uniform(0.05, 0.5))
            plane.kill()
            for thread in threads:
                thread.join(30)
    assert sum(len(writer.made) for writer in writers) > WRITERS * ROUNDS

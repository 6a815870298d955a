"""Texts -> how each came through the decoder, in a process of its own with so much memory and time.

    test ── texts, JSON lines ──▶ this, which has loaded the decoder ── fork ──▶ child: limits, came_through
         ◀── how it ended ──────                                    ◀── exit code

What a text makes the decoder hold cannot be seen in a process that held more before: hence a child for each.
"""

import json
import os
import resource
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from isthmus.api.codec import decode, encode
from isthmus.api.documents import read_documents
from isthmus.api.validate import validate


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended: its exit code (a signal's number, negative), and the traceback that it left."""

    code: int
    said: str


class Confinement:
    """A process that has loaded the decoder and forks."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def read(self, text: str, *, room_mb: int, cpu_s: int = 20) -> Ended:
        """How a text comes through with so much memory more than the decoder itself takes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([text, room_mb, cpu_s]) + "\n")
        self._process.stdin.flush()
        return Ended(*json.loads(self._process.stdout.readline()))


@contextmanager
def confinement() -> Iterator[Confinement]:
    """Starts the process, and ends it."""
    command = [sys.executable, __file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Confinement(process)


def came_through(text: str) -> None:
    """Reads as the command line does, and decodes what there is."""
    documents, unreadable = read_documents(text, "f")
    assert all(str(place).startswith("f:") for place in unreadable)
    for document in documents:
        obj, problems = decode(document.data)
        assert (obj is None) == bool(problems)
        assert sum(len(str(problem)) for problem in problems) < 100_000
        if obj is not None:
            assert decode(encode(obj)) == (obj, [])
            assert sum(len(str(problem)) for problem in validate(obj)) < 100_000


def main() -> None:
    """Answers one line with one line."""
    for line in sys.stdin:
        text, room_mb, cpu_s = json.loads(line)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.close(reader)
            _child(text, room_mb << 20, cpu_s, writer)
        os.close(writer)
        with os.fdopen(reader) as said:
            words = said.read()
        _, status = os.waitpid(child, 0)
        sys.stdout.write(json.dumps([os.waitstatus_to_exitcode(status), words]) + "\n")
        sys.stdout.flush()


def _child(text: str, room: int, cpu_s: int, writer: int) -> None:
    code = 1
    try:
        most = _size() + room
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        came_through(text)
        code = 0
    except BaseException:
        os.write(writer, traceback.format_exc()[-2000:].encode(errors="replace"))
    finally:
        os._exit(code)


def _size() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()

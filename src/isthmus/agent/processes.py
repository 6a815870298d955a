"""/proc -> which processes are ours, and their end."""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from isthmus.agent import durable

MARK = "ISTHMUS_RUN"
"""The environment variable that marks a process as started by one join."""
_PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process and no later one that got the same number."""

    pid: int
    started: int
    """Clock ticks after boot."""

    def __str__(self) -> str:
        return f"{self.pid} {self.started}"

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return process(self.pid) == self


def process(pid: int) -> ProcessId | None:
    """The process that has this number now; None when there is none or it is only waiting to be reaped."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    # the name in parentheses may itself hold spaces and parentheses
    state, *fields = text[text.rindex(")") + 2 :].split()
    return None if state in "ZX" else ProcessId(pid, int(fields[18]))


def parse_id(text: str) -> ProcessId | None:
    """The living process that `str(ProcessId)` spelled."""
    try:
        pid, started = text.split()
        named = ProcessId(int(pid), int(started))
    except ValueError:
        return None
    return named if named.alive() else None


def read_pid(path: Path) -> ProcessId | None:
    """The living process that a pid file of ours names."""
    try:
        return parse_id(path.read_text("ascii"))
    except (OSError, UnicodeDecodeError):
        return None


def write_pid(path: Path, pid: int) -> ProcessId:
    """Writes the file that `read_pid` reads."""
    found = process(pid)
    if found is None:
        raise ProcessLookupError(f"process {pid} ended at once")
    durable.write(path, f"{found}\n".encode(), 0o644)
    return found


def marked(mark: str) -> list[int]:
    """The processes that carry the mark in the environment they were started with."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if wanted in Path(f"/proc/{name}/environ").read_bytes().split(b"\0") and process(int(name)):
                found.append(int(name))
    return sorted(found)


def end_marked(mark: str) -> list[int]:
    """Ends every process with the mark, kindly at first; returns their ids."""
    return end([found for pid in marked(mark) if (found := process(pid))])


def end(ids: list[ProcessId], patience_s: float = _PATIENCE_S) -> list[int]:
    """SIGTERM, then SIGKILL to those that are still there; returns the ids of all that have ended."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for each in ids:
            if each.alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each.pid, number)
        deadline = time.monotonic() + patience_s
        while any(each.alive() for each in ids) and time.monotonic() < deadline:
            time.sleep(0.005)
    return [each.pid for each in ids if not each.alive()]

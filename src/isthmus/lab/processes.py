"""/proc becomes answers about processes: who is whose child, and whether a pid is still the one we meant."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process named so that a reused pid is not mistaken for it."""

    pid: int
    started: int
    """Start time in clock ticks since boot, field 22 of /proc/PID/stat."""

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return start_time(self.pid) == self.started


def process_id(pid: int) -> ProcessId:
    """Name the process that has this pid now; raises ProcessLookupError when there is none."""
    started = start_time(pid)
    if started is None:
        raise ProcessLookupError(f"no process with pid {pid}")
    return ProcessId(pid, started)


def start_time(pid: int) -> int | None:
    """When the process started, or None when it is gone or only a zombie."""
    fields = _stat(pid)
    if fields is None or fields[0] in ("Z", "X"):
        return None
    return int(fields[19])


def children(pid: int) -> tuple[int, ...]:
    """The pids of a process's children, oldest first."""
    return tuple(sorted(child for child in _pids() if _parent(child) == pid))


def inner_pid(pid: int, depth: int = -1) -> int | None:
    """The pid that a process has in its innermost pid namespace (-1), or in the one `depth` counts to."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    numbers = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
    return int(numbers[depth]) if len(numbers) >= abs(depth) else None


def _pids() -> Iterator[int]:
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def _parent(pid: int) -> int | None:
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the command name, which may itself hold spaces and parentheses."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()

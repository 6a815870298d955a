"""How much the canary holds, and how much it may: what is left for it where the control plane has a limit.

/proc/PID/statm ──▶ resident        /proc/self/cgroup + memory.max, of every level above ──▶ allowed
"""

import os
from pathlib import Path

MOST = 1 << 30
"""Bytes; an Envoy that holds more is started again."""


def resident(pid: int) -> int:
    """Resident bytes of a process; 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def allowed(
    most: int = MOST, own: Path = Path("/proc/self/cgroup"), tree: Path = Path("/sys/fs/cgroup")
) -> int:
    """Bytes that the canary may hold: half of what the control group of this process may, at most `most`."""
    try:
        path = next(line[3:] for line in own.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return most
    here = tree / path.strip("/")
    levels = [level for level in (here, *here.parents) if level == tree or tree in level.parents]
    return min([most, *(limit // 2 for level in levels if (limit := _limit(level)) is not None)])


def _limit(level: Path) -> int | None:
    try:
        text = (level / "memory.max").read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None

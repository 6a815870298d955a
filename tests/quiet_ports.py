"""Ports that nobody is given by chance: for servers that must be told their port before they start.

A port found free by binding to 0 is soon another's: the kernel hands it out again, to connections too.
"""

import itertools
import random
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_ALL = range(10_000, 65_536)
_chance = random.SystemRandom()
"""Not the seeded one: runs beside each other must not make the same choice."""


def quiet_ports(count: int = 1) -> list[int]:
    """Different free ports, outside the range from which the kernel hands out, if there is any outside."""
    low, high = map(int, _RANGE.read_text().split())
    quiet = [port for port in _ALL if not low <= port <= high] or list(_ALL)
    _chance.shuffle(quiet)
    found = list(itertools.islice(filter(_is_free, quiet), count))
    assert len(found) == count, f"{len(found)} of {count} ports are free, of {len(quiet)}"
    return found


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                return False
    return True

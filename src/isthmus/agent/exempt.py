"""The doors of the control plane, as host:port -> the addresses that capture must leave alone.

A door may have a DNS name, and its addresses may change while the agent runs. All that were ever seen are
kept: an agent that is cut off from its control plane could never be told otherwise.
"""

import contextlib
import ipaddress
import socket
from collections.abc import Iterable

from isthmus.agent.capture import Door
from isthmus.identity.jointoken import split_address

_MOST = 64
"""Addresses that are kept; a name whose addresses change all the time must not fill the kernel's set."""


class Doors:
    """The addresses of the doors, asked for again and again."""

    def __init__(self) -> None:
        self._known: dict[Door, None] = {}

    def seen(self, doors: Iterable[str]) -> tuple[Door, ...]:
        """The addresses of these doors, those seen earlier included; asks DNS, so it may take its time."""
        for door in doors:
            host, port = split_address(door)
            for address in _addresses(host):
                self._known.pop((address, port), None)
                self._known[address, port] = None
        while len(self._known) > _MOST:
            del self._known[next(iter(self._known))]
        return tuple(sorted(self._known))


def _addresses(host: str) -> list[str]:
    with contextlib.suppress(ValueError):
        return [str(ipaddress.ip_address(host))]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        # without an address there is nothing to reach it at: the next look may find it
        return []
    # link-local addresses carry their interface, and are never captured
    return sorted({str(info[4][0]) for info in found if "%" not in str(info[4][0])})

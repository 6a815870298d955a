"""Names of networks' gateways -> their addresses: Envoy dials endpoints by address, and DNS may change them.

names that the engine wants ──every `refresh_s`, and when they change──▶ DNS ──▶ ("resolved", name) committed

A name that DNS does not answer keeps its last addresses: a gateway does not go because a resolver does.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Hashable, Iterable, Mapping
from ipaddress import ip_address
from typing import Any

from isthmus.clock import rest_s

Resolve = Callable[[str], tuple[str, ...]]

_SHARE = 0.05
"""Of the time, at most, for finding out which names are wanted."""

_log = logging.getLogger(__name__)


class GatewayNames:
    """Asks DNS for the names that networks' gateways have."""

    def __init__(
        self,
        wanted: Callable[[], Iterable[str]],
        commit: Callable[[Mapping[tuple[Hashable, ...], Any]], None],
        *,
        resolve: Resolve | None = None,
        refresh_s: float = 30.0,
    ) -> None:
        self._wanted = wanted
        self._commit = commit
        self._resolve = resolve or addresses_of
        self._refresh_s = refresh_s
        self._known: dict[str, tuple[str, ...]] = {}
        self._wake = asyncio.Event()

    def look(self) -> None:
        """Asks soon, if there are names that were never asked for."""
        self._wake.set()

    async def run(self) -> None:
        """Asks for ever."""
        time = asyncio.get_running_loop().time
        while True:
            await self.ask()
            try:
                async with asyncio.timeout(self._refresh_s):
                    while True:
                        await self._wake.wait()
                        self._wake.clear()
                        began = time()
                        if not self._known.keys() >= set(self._wanted()):
                            break
                        await asyncio.sleep(rest_s(time() - began, _SHARE, free_s=0.0))
            except TimeoutError:
                continue

    async def ask(self) -> None:
        """Asks once for every name, and commits what changed."""
        wanted = sorted(set(self._wanted()))
        changes: dict[tuple[Hashable, ...], Any] = {
            ("resolved", name): None for name in self._known.keys() - set(wanted)
        }
        for name in wanted:
            held = self._known.get(name)
            try:
                found = await asyncio.to_thread(self._resolve, name)
            except OSError as error:
                if held is None:
                    _log.warning("gateway not found name=%s reason=%s", name, error)
                found = held or ()
            if found != held:
                changes["resolved", name] = found
                _log.info("gateway resolved name=%s addresses=%s", name, ", ".join(found))
            self._known[name] = found
        self._known = {name: self._known[name] for name in wanted}
        if changes:
            self._commit(changes)


def addresses_of(name: str) -> tuple[str, ...]:
    """What DNS says of a name: IPv4 first, sorted."""
    found = {str(info[4][0]) for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    return tuple(sorted(found, key=lambda text: (ip_address(text).version, text)))

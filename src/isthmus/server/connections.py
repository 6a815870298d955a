"""A listening socket -> connections of the API door, so many and no slower than this.

accept ─▶ room for this client, and at all? ─▶ TLS handshake ─▶ first headers ─▶ a request, however long
            no: closed at once                 └── 10 s from accept ──┘          (a watch lives on)

uvicorn's own limits begin with a complete request; who never completes one would hold sockets for nothing.
"""

import asyncio
import contextlib
import logging
import re
import resource
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from isthmus.server.enrolment import client_network
from isthmus.server.paths import AT_ONCE

HEADERS_S = 10.0
"""From accept, or from the first byte of a later request, to complete headers."""
_AFTER_ACCEPT_FAILED_S = 0.5
_TLS_SHUTDOWN_S = 2.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many connections there may be, and how long their headers may take."""

    per_client: int = 64
    """Of one IPv4 address, or one IPv6 /64."""
    total: int = 2048
    headers_s: float = HEADERS_S


class Room:
    """Who holds how many connections."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.total = 0
        self._by_client: Counter[str] = Counter()
        self._full = False

    def take(self, host: str) -> Callable[[], None] | None:
        """A place for one connection, as the call that gives it back; None when there is none."""
        client = client_network(host)
        if self.total >= self.limits.total or self._by_client[client] >= self.limits.per_client:
            if not self._full:
                held = self._by_client[client]
                _log.warning("connections refused client=%s held=%d total=%d", client, held, self.total)
            self._full = True
            return None
        self.total += 1
        self._by_client[client] += 1
        taken = True

        def give_back() -> None:
            nonlocal taken
            if taken:
                taken = False
                self.total -= 1
                self._by_client[client] -= 1
                if not self._by_client[client]:
                    del self._by_client[client]
                self._full = False

        return give_back


class PunctualProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which waits for headers no longer than it may."""

    headers_s = HEADERS_S
    closed: Callable[[], None] = staticmethod(lambda: None)
    """Called when the connection is over."""
    accepted_at: float | None = None
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        began = self.loop.time() if self.accepted_at is None else self.accepted_at
        self._deadline = self.loop.call_at(began + self.headers_s, self._too_late)

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        # most requests are there as a whole, and need no deadline
        begun = self.cycle is before and (before is None or before.response_complete)
        if begun and self._deadline is None and not self.transport.is_closing():
            self._deadline = self.loop.call_later(self.headers_s, self._too_late)

    def on_headers_complete(self) -> None:
        self._in_time()
        super().on_headers_complete()
        if self.cycle.keep_alive and self.scope["method"] != "HEAD":
            self.scope["extensions"] = {AT_ONCE: cast(Any, partial(_at_once, self.cycle))}

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        super().connection_lost(exc)
        self.closed()

    def _in_time(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if self.transport is not None:
            # abort, not close: a client that reads nothing would hold the socket on
            self.transport.abort()


def _at_once(exchange: RequestResponseCycle, response: Response) -> bool:
    """Writes a whole answer in one piece, which is one TLS record; False when it has to go the long way."""
    headers = [*exchange.default_headers, *response.raw_headers]
    odd = _CONTROL.search(b"".join(value for _, value in headers)) or response.background is not None
    if odd or exchange.response_started or exchange.disconnected or exchange.flow.write_paused:
        return False
    lines = [b"%s: %s\r\n" % header for header in headers]
    exchange.transport.write(
        b"".join((STATUS_LINE[response.status_code], *lines, b"\r\n", bytes(response.body)))
    )
    exchange.response_started = exchange.response_complete = True
    exchange.message_event.set()
    exchange.on_response()
    return True


_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


class ApiServer(uvicorn.Server):
    """uvicorn behind `accept`, whose owner takes the signals and wants to know when it listens."""

    def __init__(self, config: uvicorn.Config, limits: Limits | None = None) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()
        self._room = Room(limits or Limits())
        self._tasks: asyncio.TaskGroup | None = None
        self._accepting: list[asyncio.Task[None]] = []

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves at these sockets until told to exit, and closes them."""
        async with asyncio.TaskGroup() as self._tasks:
            await super().serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])
        assert self._tasks is not None
        context = self.config.ssl
        assert context is not None
        self._accepting = [
            self._tasks.create_task(accept(each, context, self._protocol, self._room))
            for each in sockets or ()
        ]
        self.listens.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in self._accepting:
            task.cancel()
        if self._accepting:
            await asyncio.wait(self._accepting)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def _protocol(self) -> "PunctualProtocol":
        make = cast(Any, self.config.http_protocol_class)
        made: PunctualProtocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made


async def accept(
    listener: socket.socket,
    context: ssl.SSLContext,
    protocol: Callable[[], PunctualProtocol],
    room: Room,
) -> None:
    """Accepts for ever. The listener stays the caller's."""
    listener.setblocking(False)
    loop = asyncio.get_running_loop()
    failing = False
    async with asyncio.TaskGroup() as handshakes:
        while True:
            try:
                connection, peer = await loop.sock_accept(listener)
            except OSError as error:  # out of file descriptors, or the client was gone already
                if not failing:
                    _log.warning("accept failed: %s", error)
                failing = True
                await asyncio.sleep(_AFTER_ACCEPT_FAILED_S)
                continue
            failing = False
            give_back = room.take(str(peer[0]))
            if give_back is None:
                connection.close()
                continue
            handshakes.create_task(_shake(connection, context, protocol(), room.limits, give_back))


async def _shake(
    connection: socket.socket,
    context: ssl.SSLContext,
    protocol: PunctualProtocol,
    limits: Limits,
    give_back: Callable[[], None],
) -> None:
    loop = asyncio.get_running_loop()
    protocol.headers_s, protocol.closed, protocol.accepted_at = limits.headers_s, give_back, loop.time()
    connected = False
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.connect_accepted_socket(
            lambda: protocol,
            connection,
            ssl=context,
            ssl_handshake_timeout=limits.headers_s,
            ssl_shutdown_timeout=_TLS_SHUTDOWN_S,
        )
        connected = True
    except (OSError, ssl.SSLError, TimeoutError) as error:
        _log.debug("handshake failed: %s", error)
    finally:
        if not connected:
            connection.close()
            give_back()


def as_many_files_as_allowed() -> None:
    """Raises this process's limit of open files to what the system allows it: each connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

"""A DNS query that is not ours -> the answer of the VM's own servers, bytes in, bytes out.

first server ──▶ 0.4 s without an answer, or a failure ──▶ the next one too ──▶ … first good answer wins
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from isthmus.agent import dns

PORT = 53
_HEDGE_S = 0.4
_DEADLINE_S = 4.5
"""Less than the five seconds after which the C library asks its next server."""

Ask = Callable[[str, bytes], Awaitable[bytes]]


async def first_answer(query: bytes, servers: tuple[str, ...], ask: Ask) -> bytes | None:
    """The first good answer; when there is none in time the last bad one, or None."""
    told: asyncio.Queue[bytes | None] = asyncio.Queue()
    bad: bytes | None = None

    async def put(server: str) -> None:
        try:
            told.put_nowait(await ask(server, query))
        except (OSError, asyncio.IncompleteReadError):
            told.put_nowait(None)

    asked: list[asyncio.Task[None]] = []
    async with asyncio.TaskGroup() as group:
        try:
            async with asyncio.timeout(_DEADLINE_S):
                heard = 0
                while heard < len(servers):
                    if len(asked) < len(servers):
                        asked.append(group.create_task(put(servers[len(asked)])))
                    try:
                        async with asyncio.timeout(_HEDGE_S if len(asked) < len(servers) else None):
                            answer = await told.get()
                    except TimeoutError:
                        continue
                    heard += 1
                    if answer is not None and dns.response_code(answer) not in dns.FAILURES:
                        return answer
                    bad = answer or bad
        except TimeoutError:
            pass
        finally:
            for task in asked:
                task.cancel()
    return bad


async def ask_udp(server: str, query: bytes, port: int = PORT) -> bytes:
    """One server's answer over UDP, from a port of its own; packets that do not answer are passed over."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[bytes] = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Exchange(query, answered), remote_addr=(server, port)
    )
    try:
        return await answered
    finally:
        transport.close()


async def ask_tcp(server: str, query: bytes, port: int = PORT) -> bytes:
    """One server's answer over TCP."""
    reader, writer = await asyncio.open_connection(server, port)
    try:
        writer.write(struct.pack("!H", len(query)) + query)
        (size,) = struct.unpack("!H", await reader.readexactly(2))
        answer = await reader.readexactly(size)
    finally:
        writer.close()
    if not dns.answers_to(answer, query):
        raise ConnectionError(f"{server} answered another question")
    return answer


class _Exchange(asyncio.DatagramProtocol):
    def __init__(self, query: bytes, answered: asyncio.Future[bytes]) -> None:
        self._query, self._answered = query, answered

    def connection_made(self, transport: Any) -> None:
        transport.sendto(self._query)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if not self._answered.done() and dns.answers_to(data, self._query):
            self._answered.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._answered.done():
            self._answered.set_exception(exc)

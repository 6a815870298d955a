"""The DNS stub on 127.0.73.53:53: mesh names answered here, all other queries passed on as raw bytes.

It fails open: before the first name table, or without any, it only passes on. Envoy asks one of its own, on
127.0.73.54:53, that never has a table.
"""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from isthmus.agent import dns, forward
from isthmus.agent.paths import STUB_ADDRESS

PORT = 53
_MOST_QUERIES = 512
_TCP_IDLE_S = 10.0


class Stub:
    """A stub resolver. `table` and `servers` may be replaced while it runs."""

    def __init__(
        self,
        *,
        servers: tuple[str, ...] = (),
        address: str = STUB_ADDRESS,
        port: int = PORT,
        server_port: int = 53,
    ) -> None:
        self.table = dns.NameTable()
        self.servers = servers
        self._at = (address, port)
        self._ask_udp = partial(forward.ask_udp, port=server_port)
        self._ask_tcp = partial(forward.ask_tcp, port=server_port)
        self._work: set[asyncio.Task[Any]] = set()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Listens on UDP and TCP while the block runs; OSError when the address is taken."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as queries:
            udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self, queries), local_addr=self._at)
            try:
                tcp = await asyncio.start_server(self._serve_tcp, *self._at)
                try:
                    yield
                finally:
                    tcp.close()
            finally:
                udp.close()
                for task in self._work:
                    task.cancel()

    async def answer(self, packet: bytes, *, udp: bool) -> bytes | None:
        """The answer to a query; None for what is no query at all."""
        try:
            query = dns.parse(packet)
        except dns.NotAQuery:
            return None
        local = dns.answer(query, self.table, udp=udp)
        if local is not None:
            return local
        ask = self._ask_udp if udp else self._ask_tcp
        return await forward.first_answer(packet, self.servers, ask) or dns.failure(query)

    def reply(
        self, packet: bytes, to: Any, transport: asyncio.DatagramTransport, group: asyncio.TaskGroup
    ) -> None:
        """Answers one packet in a task of its own; drops it when there are too many at work."""
        if len(self._work) < _MOST_QUERIES:
            task = group.create_task(self._reply(packet, to, transport))
            self._work.add(task)
            task.add_done_callback(self._work.discard)

    async def _reply(self, packet: bytes, to: Any, transport: asyncio.DatagramTransport) -> None:
        answer = await self.answer(packet, udp=True)
        if answer is not None and not transport.is_closing():
            transport.sendto(answer, to)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._work.add(task)
        try:
            while True:
                async with asyncio.timeout(_TCP_IDLE_S):
                    (size,) = struct.unpack("!H", await reader.readexactly(2))
                    packet = await reader.readexactly(size)
                answer = await self.answer(packet, udp=False)
                if answer is None:
                    break
                writer.write(struct.pack("!H", len(answer)) + answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._work.discard(task)
            writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, stub: Stub, group: asyncio.TaskGroup) -> None:
        self._stub, self._group = stub, group

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.DatagramTransport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._stub.reply(data, addr, self._transport, self._group)

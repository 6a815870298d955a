"""The API door against clients that hold connections for nothing."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
import uvicorn
from enrolment_world import world
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from hanging_up import hang_up
from isthmus.server.connections import ApiServer, Limits, PunctualProtocol, Room
from isthmus.server.paths import Paths

HELLO = b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n"
LIMITS = Limits(per_client=3, total=5, headers_s=0.3)


async def hello(_: Request) -> Response:
    return Response("hello")


async def odd(_: Request) -> Response:
    return Response("hello", headers={"x": "a\r\ny: b"})


async def watch(_: Request) -> Response:
    async def lines() -> AsyncIterator[str]:
        for number in range(4):
            yield f"{number}\n"
            await asyncio.sleep(LIMITS.headers_s / 2)

    return StreamingResponse(lines())


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    async with world(tmp_path) as made:
        routes = [Route("/hello", hello), Route("/odd", odd), Route("/watch", watch)]
        config = uvicorn.Config(Paths(routes), lifespan="off", log_config=None, timeout_graceful_shutdown=1)
        config.load()
        config.ssl = made.serving.server_context(alpn=["http/1.1"], clients=False)
        config.http_protocol_class = cast(Any, PunctualProtocol)
        server = ApiServer(config, LIMITS)
        listener = socket.create_server(("127.0.0.1", 0))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve([listener]))
            await server.listens.wait()
            yield int(listener.getsockname()[1])
            server.should_exit = True
        await hang_up()


def trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@contextlib.asynccontextmanager
async def client(
    port: int, *, tls: bool = True
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting() if tls else None)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()


async def ended(reader: asyncio.StreamReader) -> bytes:
    """What came before the server hung up, which it must do soon."""
    got = b""
    async with asyncio.timeout(LIMITS.headers_s * 8):
        with contextlib.suppress(OSError, ssl.SSLError):
            while some := await reader.read(1000):
                got += some
    return got


@pytest.mark.parametrize("sent", [b"", b"GET /hello HTTP/1.1\r\nx: ", b"\r\n"])
async def test_who_does_not_finish_the_headers_is_hung_up_on(port: int, sent: bytes) -> None:
    async with client(port) as (reader, writer):
        writer.write(sent)
        assert await ended(reader) == b""


async def test_who_does_not_finish_the_handshake_is_hung_up_on(port: int) -> None:
    async with client(port, tls=False) as (reader, _):
        assert await ended(reader) == b""


async def test_a_trickle_does_not_move_the_deadline(port: int) -> None:
    async with client(port) as (reader, writer), asyncio.timeout(LIMITS.headers_s * 8):
        writer.write(b"GET /hello HTTP/1.1\r\n")
        with contextlib.suppress(OSError):
            while not reader.at_eof():
                writer.write(b"x: y\r\n")
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        assert await reader.read(1) == b""


async def test_later_requests_have_a_deadline_too(port: int) -> None:
    async with client(port) as (reader, writer):
        writer.write(HELLO)
        assert b"200 OK" in await reader.readuntil(b"hello")
        await asyncio.sleep(LIMITS.headers_s * 1.5)  # idle between requests is another thing
        writer.write(HELLO)
        assert b"200 OK" in await reader.readuntil(b"hello")
        writer.write(HELLO[:10])
        assert await ended(reader) == b""


async def test_every_request_of_a_connection_gets_its_whole_answer(port: int) -> None:
    head, last = HELLO.replace(b"GET", b"HEAD"), HELLO.replace(b"host", b"connection: close\r\nhost")
    async with client(port) as (reader, writer):
        writer.write(HELLO[:20])
        writer.write(HELLO[20:] + HELLO + head + HELLO.replace(b"hello", b"nosuch") + last)
        answers = (await ended(reader)).split(b"HTTP/1.1 ")[1:]
    heads, bodies = zip(*(answer.split(b"\r\n\r\n") for answer in answers), strict=True)
    assert [each[:3] for each in heads] == [b"200", b"200", b"200", b"404", b"200"]
    assert bodies == (b"hello", b"hello", b"", b"Not Found", b"hello")
    assert all(b"content-length: " in each and b"\r\ndate: " in each for each in heads)


async def test_a_header_that_would_be_two_is_not_sent(port: int) -> None:
    async with client(port) as (reader, writer):
        writer.write(HELLO.replace(b"hello", b"odd"))
        got = await ended(reader)
    assert b"500 Internal" in got or got == b""
    assert b"y: b" not in got


async def test_a_watch_lives_on(port: int) -> None:
    async with client(port) as (reader, writer):
        writer.write(HELLO.replace(b"hello", b"watch"))
        async with asyncio.timeout(60):
            assert b"3\n" in await reader.readuntil(b"\r\n0\r\n\r\n")


async def test_one_client_gets_so_many_connections_and_gets_them_back(port: int) -> None:
    async with contextlib.AsyncExitStack() as held:
        for _ in range(LIMITS.per_client):
            _, writer = await held.enter_async_context(client(port))
            writer.write(HELLO)
        with pytest.raises((OSError, ssl.SSLError)):
            async with client(port):
                pass
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(OSError, ssl.SSLError):
                async with client(port) as (reader, writer):
                    writer.write(HELLO)
                    assert b"200 OK" in await reader.readuntil(b"hello")
                    return


def test_room_is_counted_by_client_and_in_all() -> None:
    room = Room(LIMITS)
    mine = [room.take("10.0.0.1"), room.take("::ffff:10.0.0.1"), room.take("10.0.0.1")]
    assert all(mine)
    assert room.take("10.0.0.1") is None
    assert room.take("2001:db8::1")
    assert room.take("2001:db8::2")
    assert room.take("10.0.0.2") is None
    assert mine[0] is not None
    mine[0]()
    mine[0]()
    assert room.total == 4
    assert room.take("10.0.0.1")

"""Streams that stay open, one of each kind: what a lab host runs to tell whether any of them broke.

    python steady_streams.py HOST ─▶ `open` once all have answered; SIGTERM ─▶ one line of JSON by kind:
    {"grpc": {"rounds": 812, "error": ""}, "tcp": …, "websocket": …}

At HOST are the servers of the scenarios: 9090 gRPC, 7000 lines, 8080 WebSocket.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import grpc

PAUSE_S = 0.02
ANSWER_S = 10
ENDLESS = 1_000_000


async def tcp(host: str) -> AsyncIterator[None]:
    """One connection on which every line is answered."""
    reader, writer = await asyncio.open_connection(host, 7000)
    number = 0
    while True:
        number += 1
        writer.write(f"line {number}\n".encode())
        said = json.loads(await reader.readline())
        assert said["text"] == f"line {number}", said
        yield
        await asyncio.sleep(PAUSE_S)


async def websocket(host: str) -> AsyncIterator[None]:
    """One WebSocket (RFC 6455) on which every message is answered."""
    reader, writer = await asyncio.open_connection(host, 8080)
    writer.write(
        f"GET /talk HTTP/1.1\r\nHost: {host}:8080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 "), head
    number = 0
    while True:
        number += 1
        text, mask = f"message {number}".encode(), os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(text))
        writer.write(bytes([0x81, 0x80 | len(text)]) + mask + masked)
        kind, size = await reader.readexactly(2)
        assert (kind, size) == (0x81, 126), (kind, size)
        said = json.loads(await reader.readexactly(int.from_bytes(await reader.readexactly(2))))
        assert said["text"] == text.decode(), said
        yield
        await asyncio.sleep(PAUSE_S)


async def grpc_stream(host: str) -> AsyncIterator[None]:
    """One call that is answered without end."""
    asked = json.dumps({"messages": ENDLESS, "delay": PAUSE_S}).encode()
    async with grpc.aio.insecure_channel(f"{host}:9090", [("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.unary_stream("/echo.Echo/Stream", None, None)(asked)
        async for _ in call:
            yield


async def watch(
    kind: str, rounds: AsyncIterator[None], told: dict[str, dict[str, object]], opened: Callable[[], None]
) -> None:
    """Counts the answers of one stream until it breaks; a stream that ends by itself broke, too."""
    said = told[kind] = {"rounds": 0, "error": ""}
    count = 0
    try:
        async with aclosing(rounds):  # type: ignore[type-var]  # they are generators
            while True:
                async with asyncio.timeout(ANSWER_S):
                    await anext(rounds)
                count += 1
                said["rounds"] = count
                if count == 1:
                    opened()
    except (OSError, EOFError, ValueError, AssertionError, StopAsyncIteration, grpc.RpcError) as error:
        said["error"] = repr(error)


async def main(host: str) -> None:
    """Until SIGTERM."""
    kinds = {"grpc": grpc_stream(host), "tcp": tcp(host), "websocket": websocket(host)}
    told: dict[str, dict[str, object]] = {}
    left = set(kinds)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)

    def opened(kind: str) -> None:
        left.discard(kind)
        if not left:
            say("open")

    async with asyncio.TaskGroup() as tasks:
        watching = [
            tasks.create_task(watch(kind, rounds, told, lambda kind=kind: opened(kind)))  # type: ignore[misc]
            for kind, rounds in kinds.items()
        ]
        await ended.wait()
        for each in watching:
            each.cancel()
    say(json.dumps(told))


def say(line: str) -> None:
    """A line for who started this."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

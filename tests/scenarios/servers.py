"""A lab host becomes what scenarios call: HTTP, WebSocket, gRPC, TCP and TLS servers that tell who they are.

Run as `python servers.py NAME VERSION [CERTIFICATE]` on the host; prints `listening`.

    8080, 8081, 8085  HTTP, as VERSION        8082  HTTP, as v2        8443  HTTPS, with a CERTIFICATE
    /run/echo.sock    HTTP, as port 0         9443  HTTPS, as v2       8444  HTTPS, asks callers for one, too
    9090              gRPC, as VERSION        9092  gRPC, as v2
    7000              TCP: answers each line  7002  as v2              7001  greets first, then answers
    7003              UDP: answers each text                           7010  expects the PROXY protocol
    3128, 3129        CONNECT, whatever the host, to that port of this machine

An HTTP answer is JSON of what arrived. The request's query says what should go wrong: `status`, `delay`,
`fail=N` (the first N requests with this path and query fail), `close` (no answer at all). The version in
`x-fail-at` fails, with the status `x-fail-with`. `more=N` adds N bytes to the answer.
`/heard?WORD&WORD` tells how many requests had all WORDs in their target or host.
"""

import asyncio
import base64
import hashlib
import json
import os
import socket
import ssl
import sys
from collections import Counter
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import grpc

WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
SOCKET = "/run/echo.sock"
_TOLD = 4096
"""As much of a body as is told again."""
_PROXY_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_REASONS = {200: "OK", 503: "Service Unavailable"}


class Server:
    """The servers of one host, and what they have heard."""

    def __init__(self, name: str, version: str) -> None:
        self.name, self.version = name, version
        self.targets: list[str] = []
        self.attempts: Counter[str] = Counter()

    def me(self, port: int) -> dict[str, Any]:
        """Who answers."""
        return {
            "host": self.name,
            "version": "v2" if port in (8082, 9443, 9092, 7002) else self.version,
            "port": port,
        }

    async def http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of HTTP/1.1."""
        port = _port(writer)
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split(" ")
            headers = {
                name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
            }
            body = await _body(reader, headers)
            if headers.get("upgrade", "").lower() == "websocket":
                await self._websocket(reader, writer, headers)
                return
            asked = dict(parse_qsl(urlsplit(target).query, keep_blank_values=True))
            if target.startswith("/heard"):
                words = urlsplit(target).query.split("&")
                heard = sum(all(word in said for word in words) for said in self.targets)
                _answer(writer, 200, {"heard": heard})
                continue
            self.targets.append(f"{target} {headers.get('host', '')}")
            self.attempts[target] += 1
            await asyncio.sleep(float(asked.get("delay", 0)))
            failing = self.attempts[target] <= int(asked.get("fail", 0))
            if "close" in asked and (failing or "fail" not in asked):
                return
            status = int(asked.get("status", 503 if failing else 200))
            if "fail" in asked and not failing:
                status = 200
            if headers.get("x-fail-at") == self.me(port)["version"]:
                status = int(headers.get("x-fail-with", 500))
            seen: dict[str, Any] = {"method": method, "path": target, "headers": headers}
            seen |= {"size": len(body), "body": body[:_TOLD]}
            told = {**self.me(port), **seen, "attempt": self.attempts[target]}
            told["peer"] = (writer.get_extra_info("peername") or [""])[0]
            told["more"] = "x" * int(asked.get("more", 0))
            if shown := (writer.get_extra_info("peercert") or {}).get("subject"):
                told["shown"] = dict(pair for (pair,) in shown)["commonName"]
            _answer(
                writer,
                status,
                told,
                {name[6:]: value for name, value in headers.items() if name.startswith("x-say-")},
            )
            await writer.drain()

    async def _websocket(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]
    ) -> None:
        """Echoes text messages (RFC 6455) until the client closes."""
        key = hashlib.sha1(headers["sec-websocket-key"].encode() + WEBSOCKET).digest()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(key) + b"\r\n\r\n"
        )
        port = writer.get_extra_info("sockname")[1]
        while True:
            first, size = await reader.readexactly(2)
            mask, masked = await reader.readexactly(4), await reader.readexactly(size & 0x7F)
            text = bytes(byte ^ mask[i % 4] for i, byte in enumerate(masked))
            if first & 0x0F == 8:
                writer.write(bytes([0x88, len(text)]) + text)
                return
            said = json.dumps({**self.me(port), "text": text.decode()}).encode()
            writer.write(bytes([0x81, 126]) + len(said).to_bytes(2, "big") + said)
            await writer.drain()

    async def lines(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers each line with who answers and the line."""
        port = writer.get_extra_info("sockname")[1]
        if port == 7001:
            writer.write(json.dumps({**self.me(port), "text": "greeting"}).encode() + b"\n")
        while line := await reader.readline():
            self.targets.append(line.decode().strip())
            writer.write(json.dumps({**self.me(port), "text": line.decode().strip()}).encode() + b"\n")
            await writer.drain()

    async def proxied(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Tells each line who the header of the PROXY protocol (versions 1 and 2) says is calling."""
        port, start = _port(writer), await reader.readexactly(12)
        if start == _PROXY_V2:
            said = await reader.readexactly(4)
            addresses = await reader.readexactly(int.from_bytes(said[2:], "big"))
            told = {"proxy": 2, "source": socket.inet_ntop(socket.AF_INET, addresses[:4])}
        else:
            words = (start + await reader.readline()).decode().split()
            if words[0] != "PROXY":
                return
            told = {"proxy": 1, "source": words[2]}
        while line := await reader.readline():
            writer.write(
                json.dumps({**self.me(port), **told, "text": line.decode().strip()}).encode() + b"\n"
            )
            await writer.drain()

    async def tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Does what CONNECT asks for."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        if method != "CONNECT":
            writer.write(b"HTTP/1.1 405 Said So\r\ncontent-length: 0\r\n\r\n")
            return
        self.targets.append(f"{method} {target}")
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", int(target.rpartition(":")[2]))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        async with asyncio.TaskGroup() as group:
            group.create_task(_copied(reader, far_writer))
            group.create_task(_copied(far_reader, writer))

    async def rpc(
        self, request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]", port: int
    ) -> bytes:
        """Answers a call with what arrived; the request's JSON says what should go wrong."""
        asked = json.loads(request or b"{}")
        key = str(asked.get("key", ""))
        self.attempts[f"rpc {key}"] += 1
        self.targets.append(f"rpc {key}")
        await asyncio.sleep(float(asked.get("delay", 0)))
        if asked.get("status") or self.attempts[f"rpc {key}"] <= int(asked.get("fail", 0)):
            code = getattr(grpc.StatusCode, asked.get("status") or "UNAVAILABLE")
            await context.abort(code, f"{self.name} was asked to fail")
        metadata = {str(name): str(value) for name, value in context.invocation_metadata() or ()}
        told = {**self.me(port), "headers": metadata, "attempt": self.attempts[f"rpc {key}"]}
        return json.dumps(told).encode()


class Texts(asyncio.DatagramProtocol):
    """Answers each datagram with who answers and the text."""

    def __init__(self, server: Server, port: int) -> None:
        self.server, self.port = server, port

    def connection_made(self, transport: Any) -> None:
        """Remembers where answers go out."""
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Answers."""
        told = {**self.server.me(self.port), "text": data.decode().strip()}
        self.transport.sendto(json.dumps(told).encode(), addr)


def _port(writer: asyncio.StreamWriter) -> int:
    """The port that a connection came to; 0 for a socket of this machine."""
    name = writer.get_extra_info("sockname")
    return 0 if isinstance(name, str) else int(name[1])


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


def _answer(
    writer: asyncio.StreamWriter, status: int, document: Any, more: dict[str, str] | None = None
) -> None:
    body = json.dumps(document).encode()
    headers = {"content-type": "application/json", "x-server": "echo", "x-inner": "secret", **(more or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    reason = _REASONS.get(status, "Said So")
    writer.write(f"HTTP/1.1 {status} {reason}\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body)


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> str:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while size := int((await reader.readline()).strip() or b"0", 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
        return body.decode()
    return (await reader.readexactly(int(headers.get("content-length", 0)))).decode()


def _safely(program: Any) -> Any:
    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await program(reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    return run


async def _grpc(server: Server, port: int) -> grpc.aio.Server:
    async def call(request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        return await server.rpc(request, context, port)

    async def stream(request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> Any:
        for _ in range(int(json.loads(request or b"{}").get("messages", 3))):
            yield await server.rpc(request, context, port)

    listening = grpc.aio.server()
    handlers = {
        "Call": grpc.unary_unary_rpc_method_handler(call),
        "Other": grpc.unary_unary_rpc_method_handler(call),
        "Stream": grpc.unary_stream_rpc_method_handler(stream),
    }
    listening.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", handlers),))
    listening.add_insecure_port(f"[::]:{port}")
    await listening.start()
    return listening


async def main(name: str, version: str, certificate: str | None = None) -> None:
    """Serves until it is ended."""
    server = Server(name, version)
    for port in (8080, 8081, 8082, 8085):
        await asyncio.start_server(_safely(server.http), ("0.0.0.0", "::"), port)
    for port in (7000, 7001, 7002):
        await asyncio.start_server(_safely(server.lines), ("0.0.0.0", "::"), port)
    await asyncio.start_server(_safely(server.proxied), ("0.0.0.0", "::"), 7010)
    for port in (3128, 3129):
        await asyncio.start_server(_safely(server.tunnel), ("0.0.0.0", "::"), port)
    await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: Texts(server, 7003), local_addr=("0.0.0.0", 7003)
    )
    await asyncio.start_unix_server(_safely(server.http), SOCKET)
    os.chmod(SOCKET, 0o666)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        for port in (8443, 9443):
            await asyncio.start_server(_safely(server.http), ("0.0.0.0", "::"), port, ssl=context)
        asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        asking.load_cert_chain(certificate)
        asking.load_verify_locations(certificate)
        asking.verify_mode = ssl.CERT_REQUIRED
        await asyncio.start_server(_safely(server.http), ("0.0.0.0", "::"), 8444, ssl=asking)
    held = [await _grpc(server, port) for port in (9090, 9092)]
    sys.stdout.write("listening\n")
    sys.stdout.flush()
    await held[0].wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

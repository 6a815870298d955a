import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from enrolment_world import World, world
from hypothesis import given
from hypothesis import strategies as st

from isthmus.identity import keys
from isthmus.identity.ca import Authority
from isthmus.identity.spiffe import SpiffeId
from isthmus.server.probe import MAX_HEAD, parse_head, probe_listener

MYSQL = SpiffeId("cluster.local", "vms", "mysql")
GET = b"GET /nonce-7 HTTP/1.1\r\nhost: isthmus.isthmus-system.svc.cluster.local\r\n\r\n"


@dataclass
class Target:
    world: World
    port: int
    tmp: Path

    def context(self, authority: Authority | None = None, alpn: Sequence[str] = ("istio",)) -> ssl.SSLContext:
        """A client's TLS context with a workload's certificate."""
        key = keys.new_key()
        issued = (authority or self.world.authority).sign(
            key.public_key(), MYSQL, common_name="mysql-10.0.0.5", ttl=timedelta(hours=1)
        )
        (self.tmp / "k.pem").write_bytes(keys.key_pem(key))
        (self.tmp / "c.pem").write_text(issued.chain)
        context = ssl.create_default_context(cadata=self.world.authority.roots)
        context.check_hostname = False
        context.load_cert_chain(self.tmp / "c.pem", self.tmp / "k.pem")
        context.set_alpn_protocols(list(alpn))
        return context

    async def ask(self, request: bytes, context: ssl.SSLContext | None = None) -> bytes:
        """What comes back for the bytes, until the target closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context or self.context())
        try:
            writer.write(request)
            return await reader.read()
        finally:
            writer.close()


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[Target]:
    async with world(tmp_path) as here, probe_listener(here.serving, hosts=["127.0.0.1"]) as port:
        yield Target(here, port, tmp_path)


async def answer(reader: asyncio.StreamReader) -> dict[str, Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    length = int(head.split("content-length: ")[1].split("\r\n")[0])
    document: dict[str, Any] = json.loads(await reader.readexactly(length))
    return document


@pytest.mark.parametrize("alpn", [["istio-http/1.1", "istio", "http/1.1"], ["istio"], ["http/1.1"]])
async def test_it_says_who_asks_on_a_kept_connection(target: Target, alpn: list[str]) -> None:
    context = target.context(alpn=alpn)
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port, ssl=context)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == alpn[0]
    for _ in range(3):
        writer.write(GET)
        assert await answer(reader) == {
            "you": str(MYSQL),
            "workload": "mysql-10.0.0.5",
            "nonce": "/nonce-7",
        }
    writer.close()
    await writer.wait_closed()


async def test_pipelined_requests_are_answered_in_order(target: Target) -> None:
    close = b"GET /b HTTP/1.1\r\nconnection: close\r\n\r\n"
    seen = await target.ask(b"GET /a HTTP/1.1\r\n\r\n" + close + b"GET /never HTTP/1.1\r\n\r\n")
    assert seen.index(b'"/a"') < seen.index(b'"/b"')
    assert b"never" not in seen


async def test_without_a_certificate_of_this_mesh_nobody_asks(target: Target) -> None:
    bare = ssl.create_default_context(cadata=target.world.authority.roots)
    bare.check_hostname = False
    foreign = Authority.open(target.tmp / "foreign", "cluster.local", target.world.now)
    for context in (bare, target.context(foreign)):
        with pytest.raises((ssl.SSLError, ConnectionError)):  # noqa: PT012 - either the write or the read fails
            if not await target.ask(GET, context):
                raise ConnectionError("closed without an answer")


async def test_plain_text_gets_nothing(target: Target) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", target.port)
    writer.write(GET)
    try:
        seen = await reader.read()
    except ConnectionError:
        seen = b""
    writer.close()
    assert b"spiffe" not in seen
    assert b"HTTP" not in seen


async def test_head_has_no_body_and_post_is_not_answered(target: Target) -> None:
    seen = await target.ask(b"HEAD /a HTTP/1.0\r\n\r\n")
    assert seen.startswith(b"HTTP/1.1 200")
    assert seen.endswith(b"\r\n\r\n")
    seen = await target.ask(b"POST /a HTTP/1.1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    assert seen.startswith(b"HTTP/1.1 405")


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET http://x/ HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"GET /a HTTP/1.1\r\n: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nx : y\r\n\r\n",
        b"GET /a HTTP/1.1\r\ncontent-length: 5\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
        b"GET /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /" + b"a" * (2 * MAX_HEAD) + b" HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_breaks_the_form_ends_the_connection(target: Target, request_: bytes) -> None:
    seen = await target.ask(request_)
    assert seen.startswith(b"HTTP/1.1 400")
    assert seen.count(b"content-length") == 1


async def test_clients_that_vanish_leave_it_answering(target: Target) -> None:
    context = target.context()
    for _ in range(5):
        _, writer = await asyncio.open_connection("127.0.0.1", target.port, ssl=context)
        writer.write(GET[:20])
        writer.transport.abort()
    assert b'"you"' in await target.ask(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"), context)


async def test_it_ends_with_connections_open(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        async with probe_listener(here.serving, hosts=["127.0.0.1"]) as port:
            target = Target(here, port, tmp_path)
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=target.context())
            writer.write(GET)
            await answer(reader)
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", port)
        writer.close()


@given(st.binary(max_size=200))
def test_any_head_is_read_or_refused(head: bytes) -> None:
    try:
        request = parse_head(head + b"\r\n\r\n")
    except ValueError:
        return
    assert request.path.startswith("/")

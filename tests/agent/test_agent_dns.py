"""Mesh names answered, everything else passed on untouched."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

from isthmus.agent import dns as codec
from isthmus.agent.stub import Stub
from quiet_ports import quiet_ports

TABLE = codec.NameTable.of(
    [
        ("ratings.bookinfo.svc.cluster.local", ["240.240.0.1", "2001:2::1"]),
        ("ratings.bookinfo", ["240.240.0.1"]),
        ("*.wild.example", ["240.240.0.9"]),
        ("many.example", [f"240.240.1.{i}" for i in range(1, 100)]),
    ],
    search=("corp.example",),
)


def ask(name: str, kind: str = "A", *, udp: bool = True, **options: object) -> dns.message.Message | None:
    packet = dns.message.make_query(name, kind, **options).to_wire()  # type: ignore[arg-type]
    answer = codec.answer(codec.parse(packet), TABLE, udp=udp)
    return dns.message.from_wire(answer) if answer else None


def addresses(answer: dns.message.Message | None) -> list[str]:
    assert answer is not None
    return sorted(str(record) for group in answer.answer for record in group)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("ratings.bookinfo.svc.cluster.local.", "A", ["240.240.0.1"]),
        ("Ratings.BookInfo.svc.Cluster.LOCAL.", "AAAA", ["2001:2::1"]),
        ("ratings.bookinfo.", "AAAA", []),
        ("ratings.bookinfo.corp.example.", "A", ["240.240.0.1"]),
        ("a.b.wild.example.", "A", ["240.240.0.9"]),
        ("ratings.bookinfo.", "HTTPS", []),
    ],
)
def test_mesh_names_are_answered(name: str, kind: str, expected: list[str]) -> None:
    answer = ask(name, kind)
    assert addresses(answer) == expected
    assert answer is not None
    assert answer.rcode() == dns.rcode.NOERROR
    assert answer.flags & dns.flags.AA
    assert str(answer.question[0].name) == name


@pytest.mark.parametrize(
    ("name", "kind"), [("example.com.", "A"), ("wild.example.", "A"), ("ratings.bookinfo.", "MX")]
)
def test_other_questions_are_not_ours(name: str, kind: str) -> None:
    assert ask(name, kind) is None


def test_an_answer_that_is_too_long_says_so_and_comes_whole_over_tcp() -> None:
    short = ask("many.example.")
    assert short is not None
    assert short.flags & dns.flags.TC
    assert len(short.to_wire()) <= 512
    assert len(addresses(ask("many.example.", udp=False))) == 99
    larger = ask("many.example.", use_edns=0, payload=4096)
    assert larger is not None
    assert larger.edns == 0
    assert 512 < len(larger.to_wire()) <= 1232


@pytest.mark.parametrize("packet", [b"", b"\0" * 12, b"\0" * 11 + b"\1", bytes(range(64)), b"\xff" * 40])
def test_nonsense_is_no_query(packet: bytes) -> None:
    with pytest.raises(codec.NotAQuery):
        codec.parse(packet)


class Upstream(asyncio.DatagramProtocol):
    """A server that answers every name with 192.0.2.1, or with the code it is told."""

    def __init__(self, code: dns.rcode.Rcode = dns.rcode.NOERROR, *, silent: bool = False) -> None:
        self.code, self.silent, self.asked = code, silent, 0

    def connection_made(self, transport: Any) -> None:
        self.transport: asyncio.DatagramTransport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked += 1
        if not self.silent:
            # the first packet answers another question: it must be passed over
            self.transport.sendto(bytes([data[0] ^ 1]) + data[1:2] + b"\x80" + data[3:], addr)
            self.transport.sendto(reply(data, self.code), addr)


def reply(data: bytes, code: dns.rcode.Rcode) -> bytes:
    response = dns.message.make_response(dns.message.from_wire(data))
    response.set_rcode(code)
    if code == dns.rcode.NOERROR:
        name = response.question[0].name
        response.answer.append(dns.rrset.from_text(name, 300, "IN", "A", "192.0.2.1"))
    return response.to_wire()


@contextlib.asynccontextmanager
async def upstreams(**at: Upstream) -> AsyncIterator[int]:
    """Servers at 127.0.0.<key>, all on one port."""
    loop = asyncio.get_running_loop()
    (port,) = quiet_ports()
    transports = []
    for last, server in at.items():
        where = (f"127.0.0.{last[1:]}", port)
        transports.append((await loop.create_datagram_endpoint(partial(_same, server), local_addr=where))[0])
    try:
        yield port
    finally:
        for transport in transports:
            transport.close()


def _same(server: Upstream) -> Upstream:
    return server


async def resolve(stub_: Stub, name: str) -> dns.message.Message:
    answer = await stub_.answer(dns.message.make_query(name, "A").to_wire(), udp=True)
    assert answer is not None
    return dns.message.from_wire(answer)


async def test_other_names_go_to_the_first_server() -> None:
    good, idle = Upstream(), Upstream()
    async with upstreams(a2=good, a3=idle) as port:
        answer = await resolve(Stub(servers=("127.0.0.2", "127.0.0.3"), server_port=port), "example.com.")
    assert addresses(answer) == ["192.0.2.1"]
    assert (good.asked, idle.asked) == (1, 0)


@pytest.mark.parametrize(
    "first", [Upstream(silent=True), Upstream(dns.rcode.SERVFAIL), Upstream(dns.rcode.REFUSED)]
)
async def test_a_server_that_fails_is_made_up_for_by_the_next(first: Upstream) -> None:
    async with upstreams(a2=first, a3=Upstream()) as port:
        answer = await resolve(Stub(servers=("127.0.0.2", "127.0.0.3"), server_port=port), "example.com.")
    assert addresses(answer) == ["192.0.2.1"]


async def test_no_such_name_is_an_answer() -> None:
    other = Upstream()
    async with upstreams(a2=Upstream(dns.rcode.NXDOMAIN), a3=other) as port:
        answer = await resolve(Stub(servers=("127.0.0.2", "127.0.0.3"), server_port=port), "example.com.")
    assert answer.rcode() == dns.rcode.NXDOMAIN
    assert other.asked == 0


async def test_servfail_only_when_all_fail() -> None:
    answer = await resolve(Stub(servers=("127.0.0.2", "127.0.0.3"), server_port=9), "example.com.")
    assert answer.rcode() == dns.rcode.SERVFAIL


async def test_a_running_stub_answers_over_udp_and_tcp_and_stops_clean() -> None:
    (port,) = quiet_ports()
    stub_ = Stub(address="127.0.0.4", port=port)
    stub_.table = TABLE
    async with stub_.serving():
        query = dns.message.make_query("many.example.", "A")
        over_udp = await asyncio.to_thread(dns.query.udp, query, "127.0.0.4", 30, port)
        over_tcp = await asyncio.to_thread(dns.query.tcp, query, "127.0.0.4", 30, port)
    assert over_udp.flags & dns.flags.TC
    assert len(addresses(over_tcp)) == 99
    with pytest.raises(OSError, match="refused"):
        await asyncio.to_thread(dns.query.tcp, query, "127.0.0.4", 30, port)

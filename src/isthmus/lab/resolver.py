"""A DNS question becomes an answer: the lab's name server, which knows `<host>` and `<host>.lab` only."""

import asyncio
import struct
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import cast

A, AAAA, ANY, IN = 1, 28, 255, 1
NXDOMAIN, NOTIMP = 3, 4
TTL_S = 5


def answer(query: bytes, names: Mapping[str, Sequence[str]]) -> bytes | None:
    """Answer one DNS message from the table; None when it is no question that deserves an answer."""
    if len(query) < 12:
        return None
    identity, flags, questions = struct.unpack_from("!HHH", query)
    if flags & 0x8000:
        return None
    parsed = _question(query) if questions == 1 else None
    if flags & 0x7800 or parsed is None:
        return struct.pack("!HHHHHH", identity, 0x8080 | (flags & 0x7900) | NOTIMP, 0, 0, 0, 0)
    name, kind, end = parsed
    addresses = names.get(name.removesuffix(".lab"))
    records = [_record(a) for a in addresses or () if kind in (ANY, A if "." in a else AAAA)]
    code = 0 if addresses is not None else NXDOMAIN
    header = struct.pack("!HHHHHH", identity, 0x8480 | (flags & 0x0100) | code, 1, len(records), 0, 0)
    return header + query[12:end] + b"".join(records)


class Datagrams(asyncio.DatagramProtocol):
    """The name server's UDP side."""

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self._names = names
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for the answers."""
        # asyncio's own datagram transports are no subclass of this type before Python 3.12.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        """Answer one datagram."""
        reply = answer(data, self._names)
        if reply is not None and self._transport is not None:
            self._transport.sendto(reply, addr)


async def serve_stream(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, names: Mapping[str, Sequence[str]]
) -> None:
    """The name server's TCP side: length-prefixed messages until the client closes."""
    try:
        while True:
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            reply = answer(await reader.readexactly(length), names)
            if reply is None:
                return
            writer.write(struct.pack("!H", len(reply)) + reply)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()


def _question(query: bytes) -> tuple[str, int, int] | None:
    """The name asked for (lower case), the record type, and where the question ends."""
    labels, at = [], 12
    while at < len(query) and query[at]:
        length = query[at]
        if length > 63 or at + 1 + length >= len(query):
            return None
        labels.append(query[at + 1 : at + 1 + length])
        at += 1 + length
    if at + 5 > len(query):
        return None
    kind, family = struct.unpack_from("!HH", query, at + 1)
    if family != IN:
        return None
    return b".".join(labels).decode("ascii", "replace").lower(), kind, at + 5


def _record(address: str) -> bytes:
    packed = ip_address(address).packed
    # 0xc00c points back at the name in the question.
    return struct.pack("!HHHIH", 0xC00C, A if len(packed) == 4 else AAAA, IN, TTL_S, len(packed)) + packed

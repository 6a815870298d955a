"""A DNS query's bytes -> the answer's bytes, for the names of the mesh; nothing for all others.

Only mesh names are answered here (A and AAAA, RFC 1035 and 6891); every other query is somebody else's and
goes on as the bytes it came as.
"""

import ipaddress
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Self

A, AAAA, OPT, SVCB, HTTPS, ANY = 1, 28, 41, 64, 65, 255
TTL_S = 30
_HEADER = struct.Struct("!HHHHHH")
_INTERNET = 1
_RESPONSE, _AUTHORITATIVE, _TRUNCATED, _RECURSION = 0x8000, 0x0400, 0x0200, 0x0080
_KEPT_FLAGS = 0x0110
"""RD and CD are repeated in the answer."""
_OPCODE = 0x7800
SERVFAIL, _REFUSED = 2, 5
FAILURES = (SERVFAIL, _REFUSED)
"""Answers that say nothing about the name: another server may know better."""
_PLAIN_UDP, _LARGEST_UDP = 512, 1232
_MAX_NAME = 255


class NotAQuery(ValueError):
    """The bytes are not a DNS query that can be answered."""


@dataclass(frozen=True, slots=True)
class Query:
    """The one question of a query."""

    id: int
    flags: int
    name: str
    """Lower case, without the dot at the end."""
    kind: int
    question: bytes
    """As it came, so that the answer repeats its very spelling (RFC 5452: some clients vary the case)."""
    udp_size: int
    """What the client takes over UDP; 0 when it sent no EDNS."""


@dataclass(frozen=True, slots=True)
class NameTable:
    """The mesh's names, and the search domains under which programs may ask for them."""

    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    search: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Iterable[tuple[str, Iterable[str]]], search: Iterable[str] = ()) -> Self:
        """The table of these rows."""
        return cls({host.lower().rstrip("."): tuple(addresses) for host, addresses in names}, tuple(search))

    def find(self, name: str) -> tuple[str, ...] | None:
        """The addresses of a mesh name; None when the name is not the mesh's."""
        if (exact := self.addresses.get(name)) is not None:
            return exact
        for domain in self.search:
            if name.endswith(f".{domain}"):
                bare = name[: -len(domain) - 1]
                if (found := self.addresses.get(bare)) is not None:
                    return found
        rest = name
        while "." in rest:
            rest = rest.partition(".")[2]
            if (wildcard := self.addresses.get(f"*.{rest}")) is not None:
                return wildcard
        return None


def parse(packet: bytes) -> Query:
    """The query in a packet; NotAQuery for responses, several questions and nonsense."""
    try:
        number, flags, questions, answers, authorities, additional = _HEADER.unpack_from(packet)
        if flags & (_RESPONSE | _OPCODE) or questions != 1:
            raise NotAQuery("not a standard query with one question")
        name, offset = _read_name(packet, _HEADER.size)
        kind, klass = struct.unpack_from("!HH", packet, offset)
        end = offset + 4
        if klass != _INTERNET or answers or authorities:
            raise NotAQuery("not a question about the Internet")
        size = _edns_size(packet, end, additional)
    except (struct.error, IndexError) as error:
        raise NotAQuery(f"cut short: {error}") from None
    return Query(number, flags, name.lower(), kind, packet[_HEADER.size : end], size)


def answer(query: Query, table: NameTable, *, udp: bool) -> bytes | None:
    """The mesh's answer; None when the question is for the servers behind us."""
    if query.kind not in (A, AAAA, SVCB, HTTPS, ANY):
        return None
    found = table.find(query.name)
    if found is None:
        return None
    wanted = {A: (A,), AAAA: (AAAA,), ANY: (A, AAAA)}.get(query.kind, ())
    # a name that we own has no record of another kind: "no data", never "no such name"
    records = [record for address in found if (record := _record(address, wanted))]
    limit = min(max(query.udp_size, _PLAIN_UDP), _LARGEST_UDP) if udp else 0xFFFF
    room = limit - _HEADER.size - len(query.question) - (11 if query.udp_size else 0)
    fitting, used = [], 0
    for record in records:
        if used + len(record) > room:
            break
        fitting.append(record)
        used += len(record)
    cut = _TRUNCATED if len(fitting) < len(records) else 0
    return _message(query, _AUTHORITATIVE | cut, 0, fitting)


def failure(query: Query) -> bytes:
    """SERVFAIL: nobody answered."""
    return _message(query, 0, SERVFAIL, [])


def response_code(packet: bytes) -> int:
    """The code of an answer."""
    return packet[3] & 0x0F


def answers_to(packet: bytes, query: bytes) -> bool:
    """Whether the packet is an answer to this query: same id, same question (or none, as errors may)."""
    if len(packet) < _HEADER.size or packet[:2] != query[:2] or not packet[2] & 0x80:
        return False
    try:
        asked = _read_name(query, _HEADER.size)
        if packet[4:6] == b"\0\0":
            return response_code(packet) != 0
        told = _read_name(packet, _HEADER.size)
    except (IndexError, NotAQuery):
        return False
    same_name = asked[0].lower() == told[0].lower()
    return same_name and query[asked[1] : asked[1] + 4] == packet[told[1] : told[1] + 4]


def _message(query: Query, flags: int, code: int, records: list[bytes]) -> bytes:
    flags |= _RESPONSE | _RECURSION | (query.flags & _KEPT_FLAGS) | code
    edns = struct.pack("!BHHIH", 0, OPT, _LARGEST_UDP, 0, 0) if query.udp_size else b""
    head = _HEADER.pack(query.id, flags, 1, len(records), 0, 1 if edns else 0)
    return head + query.question + b"".join(records) + edns


def _record(address: str, wanted: tuple[int, ...]) -> bytes | None:
    packed = ipaddress.ip_address(address).packed
    kind = A if len(packed) == 4 else AAAA
    if kind not in wanted:
        return None
    # 0xC00C points to the question's name, right behind the header
    return struct.pack("!HHHIH", 0xC00C, kind, _INTERNET, TTL_S, len(packed)) + packed


def _read_name(packet: bytes, offset: int) -> tuple[str, int]:
    labels, length = [], 0
    while size := packet[offset]:
        if size > 63:
            raise NotAQuery("a compressed name in a question")
        label = packet[offset + 1 : offset + 1 + size]
        length += size + 1
        if len(label) != size or length > _MAX_NAME:
            raise NotAQuery("a name that is cut or too long")
        # a dot inside a label must not look like the border of two
        labels.append(label.replace(b".", b"\\.").decode("latin-1"))
        offset += size + 1
    return ".".join(labels), offset + 1


def _edns_size(packet: bytes, offset: int, additional: int) -> int:
    for _ in range(additional):
        if packet[offset] != 0:
            # the root name is the only one that EDNS has; other additional records mean nothing to us
            return 0
        kind, size, _, length = struct.unpack_from("!HHIH", packet, offset + 1)
        if kind == OPT:
            return max(int(size), _PLAIN_UDP)
        offset += 11 + length
    return 0

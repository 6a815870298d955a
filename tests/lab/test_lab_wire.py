"""A pcap file becomes what each side sent."""

import struct
from ipaddress import ip_address
from pathlib import Path

from isthmus.lab.wire import FRAME, MAGIC, Flow, flows


def tcp(payload: bytes, source: int, target: int) -> bytes:
    return struct.pack("!HHIIBBHHH", source, target, 0, 0, 5 << 4, 0x18, 1000, 0, 0) + payload


def v4(segment: bytes, source: str, target: str) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 0, 0, 64, 6, 0)
    return b"\0" * 12 + b"\x08\x00" + head + ip_address(source).packed + ip_address(target).packed + segment


def v6(segment: bytes, source: str, target: str) -> bytes:
    head = struct.pack("!IHBB", 6 << 28, len(segment), 6, 64)
    return b"\0" * 12 + b"\x86\xdd" + head + ip_address(source).packed + ip_address(target).packed + segment


def pcap(path: Path, *frames: bytes, cut: int = 0) -> Path:
    data = MAGIC.pack(0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
    data += b"".join(FRAME.pack(0, 0, len(frame), len(frame)) + frame for frame in frames)
    path.write_bytes(data[: len(data) - cut])
    return path


def test_directions_are_apart_and_in_order(tmp_path: Path) -> None:
    a, b = "10.0.0.1", "10.0.0.2"
    path = pcap(
        tmp_path / "x.pcap",
        v4(tcp(b"SEL", 40000, 3306), a, b) + b"\0\0\0",  # Ethernet pads short frames
        v4(tcp(b"rows", 3306, 40000), b, a),
        v4(tcp(b"ECT", 40000, 3306), a, b),
    )
    assert flows(path) == {Flow(a, 40000, b, 3306): b"SELECT", Flow(b, 3306, a, 40000): b"rows"}


def test_v6_is_read_too_and_what_is_not_tcp_is_not(tmp_path: Path) -> None:
    arp = b"\0" * 12 + b"\x08\x06" + b"\0" * 28
    path = pcap(tmp_path / "x.pcap", arp, v6(tcp(b"hello", 1, 2), "fd99::1", "fd99::2"))
    assert flows(path) == {Flow("fd99::1", 1, "fd99::2", 2): b"hello"}


def test_a_last_frame_cut_short_is_left_out(tmp_path: Path) -> None:
    one = v4(tcp(b"one", 1, 2), "10.0.0.1", "10.0.0.2")
    assert flows(pcap(tmp_path / "x.pcap", one, one, cut=3)) == {Flow("10.0.0.1", 1, "10.0.0.2", 2): b"one"}

"""Frames on a lab cable become a pcap file, and a pcap file becomes the bytes that each side sent.

Run as `python -m isthmus.lab.wire INTERFACE` in the lab's own namespace it captures to its standard output
until SIGTERM.
"""

import contextlib
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import BinaryIO

EVERY_PROTOCOL = 0x0003
MAGIC = struct.Struct("<IHHiIII")
FRAME = struct.Struct("<IIII")
LONGEST = 262144  # segmentation offload makes frames far longer than the MTU on virtual cables
TCP = 6
SO_RCVBUFFORCE = 33  # not in the socket module


@dataclass(frozen=True, slots=True)
class Flow:
    """One direction of one TCP connection."""

    source: str
    source_port: int
    target: str
    target_port: int


def flows(path: Path) -> dict[Flow, bytes]:
    """What was sent in each direction of each TCP connection, in the order seen on the wire."""
    sent: dict[Flow, bytearray] = {}
    for frame in frames(path):
        segment = _segment(frame)
        if segment is not None:
            flow, payload = segment
            sent.setdefault(flow, bytearray()).extend(payload)
    return {flow: bytes(payload) for flow, payload in sent.items()}


def frames(path: Path) -> Iterator[bytes]:
    """The frames of a pcap file; a last one cut short is left out."""
    data = path.read_bytes()
    at = MAGIC.size
    while at + FRAME.size <= len(data):
        _, _, length, _ = FRAME.unpack_from(data, at)
        at += FRAME.size
        if at + length <= len(data):
            yield data[at : at + length]
        at += length


def capture(interface: str, out: BinaryIO) -> None:
    """Write every frame that crosses the interface until SIGTERM; the header says that it has begun."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERY_PROTOCOL)) as tap:
        with contextlib.suppress(OSError):
            tap.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 * 1024 * 1024)  # lose nothing in bursts
        tap.bind((interface, 0))
        tap.settimeout(0.1)
        stopped: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
        out.write(MAGIC.pack(0xA1B2C3D4, 2, 4, 0, 0, LONGEST, 1))
        out.flush()
        while True:
            try:
                frame = tap.recv(LONGEST)
            except TimeoutError:
                out.flush()
                if stopped:  # only when the queue is empty: what was on the wire is in the file
                    return
                continue
            second, rest = divmod(time.time_ns(), 10**9)
            out.write(FRAME.pack(second, rest // 1000, len(frame), len(frame)) + frame)


def _segment(frame: bytes) -> tuple[Flow, bytes] | None:
    """The TCP payload of an Ethernet frame and whose it is; None when it carries no TCP."""
    (kind,) = struct.unpack_from("!H", frame, 12)
    packet = frame[14:]
    if kind == 0x0800 and len(packet) >= 20 and packet[9] == TCP:
        (length,) = struct.unpack_from("!H", packet, 2)
        header, source, target = (packet[0] & 0x0F) * 4, packet[12:16], packet[16:20]
        # A length of 0 is what offloaded packets above 64 KiB carry.
        segment = packet[header : length or None]
    elif kind == 0x86DD and len(packet) >= 40 and packet[6] == TCP:
        (length,) = struct.unpack_from("!H", packet, 4)
        source, target = packet[8:24], packet[24:40]
        segment = packet[40 : 40 + length if length else None]
    else:
        return None
    source_port, target_port = struct.unpack_from("!HH", segment)
    flow = Flow(str(ip_address(source)), source_port, str(ip_address(target)), target_port)
    return flow, segment[(segment[12] >> 4) * 4 :]


if __name__ == "__main__":
    capture(sys.argv[1], sys.stdout.buffer)

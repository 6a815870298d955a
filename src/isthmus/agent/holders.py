"""/proc -> who holds a port, who runs as a user: for messages that name the culprit."""

import contextlib
import os
import socket
from pathlib import Path

from isthmus.agent import processes

_LISTENING = "0A"


def port_taken(address: str, port: int, *, udp: bool = False) -> bool:
    """Whether binding the address would fail because somebody has it."""
    kind = socket.SOCK_DGRAM if udp else socket.SOCK_STREAM
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, kind) as probe:
            if not udp:
                # connections that linger after their program ended are nobody's
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address, port))
            if not udp:
                probe.listen(1)
    except OSError as error:
        return error.errno in (98, 13)
    return False


def holder(port: int, *, udp: bool = False) -> str:
    """The process that listens on a port, as `name (process 12)`; empty when it cannot be told."""
    inodes = set()
    for table in ("udp", "udp6") if udp else ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/self/net/{table}").read_text("ascii").splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) == port and (udp or fields[3] == _LISTENING):
                    inodes.add(fields[9])
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for pid in _pids():
        with contextlib.suppress(OSError):
            for descriptor in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{pid}/fd/{descriptor}") in wanted:
                        return describe(pid)
    return ""


def run_by(uid: int) -> list[int]:
    """The processes of a user in this network namespace: other namespaces' are other VMs' business."""
    here = os.readlink("/proc/self/ns/net")
    found = []
    for pid in _pids():
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}").st_uid == uid and os.readlink(f"/proc/{pid}/ns/net") == here:
                found.append(pid)
    return [pid for pid in found if processes.process(pid) is not None]


def describe(pid: int) -> str:
    """A process as people know it."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
    except OSError:
        name = "a process"
    return f"{name} (process {pid})"


def _pids() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())

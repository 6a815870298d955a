"""A fresh process -> Envoy, cut off: own network, no rights, no files, dead when its parent dies.

    python -IS canary_launch.py PARENT_PID ENVOY ARGUMENT...

It ends with `IMPOSSIBLE` and a word of why when this machine gives no network namespace to this user. It is a
program of its own since the control plane, which has threads, cannot safely run Python between fork and exec.
"""

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import socket
import struct
import sys
from pathlib import Path

IMPOSSIBLE = 78
NOBODY = 65534
"""Whom Envoy runs as when the control plane is root."""

_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_DEATH_SIGNAL, _NO_NEW_RIGHTS = 1, 38
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1


def main(arguments: list[str]) -> None:
    """Becomes Envoy."""
    parent, program, *rest = arguments
    binary = os.open(program, os.O_RDONLY | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        _own_network(libc)
        _loopback_up()
    except OSError as error:
        sys.stderr.write(f"no network namespace for it: {error.strerror}\n")
        sys.exit(IMPOSSIBLE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # where memory is short it is the first to go, and not the control plane
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    # whatever path a configuration names, nothing is written there
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if _is_root():
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    libc.prctl(_NO_NEW_RIGHTS, 1, 0, 0, 0)
    libc.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)  # last: a change of user clears it
    if os.getppid() != int(parent):
        sys.exit("the control plane is gone")
    os.execve(binary, ["envoy", *rest], {"PATH": os.defpath})


def _is_root() -> bool:
    """Root of the machine, and not only of a user namespace of our own."""
    return os.geteuid() == 0 and int(Path("/proc/self/uid_map").read_text().split()[2]) > 1


def _own_network(libc: ctypes.CDLL) -> None:
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0 and libc.unshare(_NEW_NETWORK) == 0:
        return
    if libc.unshare(_NEW_USER | _NEW_NETWORK) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        asked = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, _GET_FLAGS, asked))[1]
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sh14x", b"lo", flags | _UP))


if __name__ == "__main__":
    main(sys.argv[1:])

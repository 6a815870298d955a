"""A program that must not be root -> that program as Envoy's user, still allowed to listen below 1024.

python -m isthmus.agent.low_ports PROGRAM NAME [OPTION]…      becomes PROGRAM: same process, other user
"""

import ctypes
import os
import sys
from typing import NoReturn

from isthmus.agent.paths import ENVOY_UID

_PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 8, 47, 2
_CAPABILITY_VERSION, _BIND_LOW_PORTS = 0x20080522, 10


def main(arguments: list[str]) -> NoReturn:
    """Changes the user, keeps one capability, and becomes the program."""
    program, *command = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    _checked(libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0), "keep capabilities")
    os.setgroups([])
    os.setresgid(ENVOY_UID, ENVOY_UID, ENVOY_UID)
    os.setresuid(ENVOY_UID, ENVOY_UID, ENVOY_UID)
    # one capability is left: effective, permitted and inheritable, then ambient, so that exec keeps it
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    only = 1 << _BIND_LOW_PORTS
    _checked(libc.capset(header, (ctypes.c_uint32 * 6)(only, only, only, 0, 0, 0)), "drop capabilities")
    _checked(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _BIND_LOW_PORTS, 0, 0), "hand one on")
    os.execv(program, command)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot {what}: {os.strerror(number)}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""A command of a probe -> that command as a user without rights, for good: no setuid program gives them back.

    root's agent ─▶ python unprivileged.py UID GIDS COMMAND… ─▶ other user, no new privileges ─▶ the command

The user is `nobody`, or what the operator of the VM names. Root is refused: whoever may write a WorkloadGroup
would be root on its VMs. So is Envoy's user, whose connections are not captured, and who may open the agent's
socket.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

USER = "ISTHMUS_PROBE_USER"
"""The environment variable that names the user."""
NOT_STARTED = 126
_DEFAULT, _NOBODY = "nobody", 65534
_PR_SET_NO_NEW_PRIVS = 38


@dataclass(frozen=True, slots=True)
class User:
    """Whom a command runs as."""

    name: str
    uid: int
    groups: tuple[int, ...]
    """The user's own first."""


def user(environment: Mapping[str, str]) -> User:
    """The user of probes' commands on this VM; ValueError when it may not be that one."""
    import pwd

    from isthmus.agent.paths import ENVOY_UID

    name = environment.get(USER) or _DEFAULT
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        if name != _DEFAULT:
            raise ValueError(f"{USER} names {name!r}, a user that this VM does not have") from None
        return User(_DEFAULT, _NOBODY, (_NOBODY,))
    if found.pw_uid in (0, ENVOY_UID):
        raise ValueError(f"{USER} names {name!r}: commands of probes run neither as root nor as Envoy's user")
    others = sorted(set(os.getgrouplist(name, found.pw_gid)) - {found.pw_gid})
    return User(name, found.pw_uid, (found.pw_gid, *others))


def becoming(who: User, command: Sequence[str]) -> list[str]:
    """The command line that ends up as the command."""
    groups = ",".join(map(str, who.groups))
    return [sys.executable, "-I", "-S", __file__, str(who.uid), groups, *command]


def main(arguments: Sequence[str]) -> NoReturn:
    """Changes the user and becomes the command; ends with NOT_STARTED when it cannot."""
    import ctypes

    uid, groups, *command = arguments
    ids = [int(each) for each in groups.split(",")]
    try:
        os.setgroups(ids)
        os.setresgid(ids[0], ids[0], ids[0])
        os.setresuid(int(uid), int(uid), int(uid))
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "no_new_privs")
        os.execvp(command[0], command)
    except OSError:
        os._exit(NOT_STARTED)


if __name__ == "__main__":
    main(sys.argv[1:])

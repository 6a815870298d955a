"""A wish (a lab, a command on a host) becomes the argv of `unshare` or `nsenter`; lacking tools are named."""

import getpass
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from isthmus.lab.records import LabError

# Tool → the Debian package that brings it.
TOOLS = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
    "ip": "iproute2",
    "nft": "nftables",
}
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def preflight(*, root: bool, subids: Sequence[str] | None = None) -> tuple[str, ...]:
    """Everything that keeps a lab from starting here, each with the cure; empty means it can start."""
    lacking = [
        f"{tool} is missing: install the package {package}"
        for tool, package in TOOLS.items()
        if shutil.which(tool, path=SYSTEM_PATH) is None
    ]
    if root:
        return tuple(lacking)
    if shutil.which("newuidmap", path=SYSTEM_PATH) is None:
        lacking.append("newuidmap is missing: install the package uidmap, or run as root")
    for table in ("/etc/subuid", "/etc/subgid") if subids is None else subids:
        if not _has_range(Path(table)):
            lacking.append(
                f"{table} gives {getpass.getuser()} no range: run `usermod --add-subuids 100000-165535 "
                f"--add-subgids 100000-165535 {getpass.getuser()}` as root, or run the lab as root"
            )
    if not lacking and (refusal := _user_namespace_refusal()):
        lacking.append(f"this kernel refuses user namespaces ({refusal}): run the lab as root")
    return tuple(lacking)


def new_lab(*, root: bool) -> list[str]:
    """The start of the command line that puts a leader into namespaces of its own."""
    user = [] if root else ["--user", "--map-root-user", "--map-auto"]
    return ["unshare", *user, "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]


def new_host() -> list[str]:
    """The start of the command line that puts a host's holder into namespaces inside the lab's."""
    return ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]


def enter(pid: int, *, rootless: bool) -> list[str]:
    """The start of a command line that runs inside the namespaces of a process."""
    # Not -a: it would also ask for the cgroup namespace, which an unprivileged user may not join.
    user = ["--user", "--preserve-credentials"] if rootless else []
    return ["nsenter", "--target", str(pid), *user, "--net", "--mount", "--uts", "--pid", "--"]


def environment(python: str, extra: Mapping[str, str]) -> dict[str, str]:
    """The clean environment of a command on a host: nothing of the caller's but its terminal type."""
    own = str(Path(python).parent)
    return {
        "PATH": f"{own}:{SYSTEM_PATH}",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "TERM": os.environ.get("TERM", "dumb"),
        **extra,
    }


def require_ready() -> bool:
    """Refuse with a list of what is missing, or say whether the lab will be rootless."""
    root = os.geteuid() == 0
    if lacking := preflight(root=root):
        raise LabError("a lab cannot start here:\n  " + "\n  ".join(lacking))
    return not root


def _has_range(table: Path) -> bool:
    try:
        lines = table.read_text().splitlines()
    except OSError:
        return False
    names = {getpass.getuser(), str(os.getuid())}
    return any(line.split(":")[0] in names for line in lines)


def _user_namespace_refusal() -> str | None:
    probe = [*new_lab(root=False), "true"]
    done = subprocess.run(probe, capture_output=True, text=True, timeout=10, check=False)
    return (done.stderr.strip() or f"exit code {done.returncode}") if done.returncode else None

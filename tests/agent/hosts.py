"""Two hosts out of namespaces, joined by one cable: `vm`, to be joined, and `peer`, where the mesh is.

Each has its own network, mounts, processes, /run, /var/lib and /etc/resolv.conf; the machine's own are not
touched. Debug a standing pair with the `nsenter` line that a failing command prints.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RESOLV_CONF = "# as the provider wrote it\nnameserver 10.0.0.1\nsearch corp.example\noptions ndots:1 rotate\n"
_INIT = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN); print('ready', flush=True)"
"""A VM's first process reaps orphans; the shell's own `trap` does not do for this signal."""
_HOLD = f'exec {sys.executable} -c "{_INIT}; signal.sigwait([signal.SIGTERM])"'
_BOOT = """
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755,size={state_size} tmpfs /var/lib
printf '%s' "$RESOLV" > /run/resolv.conf
touch -d '2020-02-02 02:02:02' /run/resolv.conf
mount --bind /run/resolv.conf "$(readlink -f /etc/resolv.conf)"
ip link set lo up
"""


@dataclass(frozen=True, slots=True)
class Host:
    """One host; `pid` is the process that holds its namespaces."""

    pid: int
    address: str

    def command(self, *arguments: str) -> list[str]:
        """The command as it has to be run from outside."""
        return ["nsenter", "-t", str(self.pid), "-n", "-m", "-p", "-u", "--", *arguments]

    def run(self, *arguments: str, check: bool = True, timeout: float = 60) -> str:
        """Runs a command on the host; its output, standard error included."""
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=timeout, check=False
        )
        said = done.stdout + done.stderr
        assert not check or done.returncode == 0, f"{' '.join(self.command(*arguments))}\n{said}"
        return said

    def python(self, code: str, *arguments: str, timeout: float = 60) -> str:
        """Runs Python on the host."""
        return self.run(sys.executable, "-c", code, *arguments, timeout=timeout)

    def start(self, *arguments: str, log: Path, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Starts a command on the host, its output in a file; it dies with the process that is returned."""
        command = self.command("setpriv", "--pdeathsig", "KILL", "--", *arguments)
        with log.open("ab") as file:
            return subprocess.Popen(command, stdout=file, stderr=file, env=os.environ | (env or {}))

    def snapshot(self) -> dict[str, str]:
        """All that join may change, in a form that can be compared."""
        resolv = (
            "import os;s=os.stat('/etc/resolv.conf');print(oct(s.st_mode),s.st_mtime_ns,s.st_ino,s.st_uid)"
        )
        return {
            "nft": self.run("nft", "list", "ruleset"),
            "resolv.conf": self.run("cat", "/etc/resolv.conf"),
            "resolv.conf stat": self.python(resolv),
            "hosts": self.run("cat", "/etc/hosts"),
            "files": self.run("find", "/var/lib", "/run", "-printf", "%p %m %u %g %y\\n"),
            "addresses": self.run("ip", "-o", "addr"),
            "ports": self.run("ss", "-Hlntu"),
            "processes": self.run(
                "sh", "-c", "cat /proc/[0-9]*/comm | sort | grep -v -e cat -e sort -e sh -e grep"
            ),
        }


@contextlib.contextmanager
def host(address: str, *, state_size: str = "64m") -> Iterator[Host]:
    """One host without a cable."""
    isolate = "unshare --net --mount --uts --pid --fork --mount-proc --kill-child".split()
    outer = subprocess.Popen(
        [*isolate, "sh", "-c", _BOOT.format(state_size=state_size) + _HOLD],
        stdout=subprocess.PIPE,
        env=os.environ | {"RESOLV": RESOLV_CONF},
    )
    try:
        assert outer.stdout is not None
        assert outer.stdout.readline() == b"ready\n"
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        yield Host(int(children[0]), address)
    finally:
        outer.kill()
        outer.wait()
        if outer.stdout is not None:
            outer.stdout.close()


@contextlib.contextmanager
def pair(*, state_size: str = "64m") -> Iterator[tuple[Host, Host]]:
    """The VM and its peer, with IPv4 and IPv6 between them."""
    with host("10.0.0.7", state_size=state_size) as vm, host("10.0.0.1") as peer:
        # in the peer's network, but with the machine's process numbers
        cable = f"ip link add eth0 type veth peer name eth0 netns {vm.pid}"
        subprocess.run(["nsenter", "-t", str(peer.pid), "-n", *cable.split()], check=True)
        for each, v4, v6 in ((vm, "10.0.0.7/24", "fd00::7/64"), (peer, "10.0.0.1/24", "fd00::1/64")):
            each.run("ip", "addr", "add", v4, "dev", "eth0")
            each.run("ip", "-6", "addr", "add", v6, "dev", "eth0", "nodad")
            # no link-local addresses: they come up some time later, when a snapshot may have been taken
            each.run("ip", "link", "set", "eth0", "addrgenmode", "none")
            each.run("ip", "link", "set", "eth0", "up")
        vm.run("ip", "route", "add", "default", "via", "10.0.0.1")
        vm.run("ip", "-6", "route", "add", "default", "via", "fd00::1")
        yield vm, peer

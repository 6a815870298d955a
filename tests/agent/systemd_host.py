"""A real systemd as the first process of a lab host, with no unit but its own targets."""

import time
from dataclasses import dataclass
from subprocess import CompletedProcess

from isthmus.lab.host import Host

SYSTEMD = "/lib/systemd/systemd"
# The real machine's units and generators are covered before systemd starts: it must not run one of them
# (systemd-tmpfiles, say, would empty a /tmp that the lab shares).
START = f"""
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 run /run
mkdir -m 1777 /run/lock
mount -t tmpfs -o mode=755 units /usr/lib/systemd/system
mount -t tmpfs -o mode=755 generators /usr/lib/systemd/system-generators
for unit in sysinit basic network-online multi-user shutdown; do
  printf '[Unit]\\nDefaultDependencies=no\\n' > /usr/lib/systemd/system/$unit.target
done
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
mkdir /sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd,xattr cgroup /sys/fs/cgroup/systemd
export container=lab
exec {SYSTEMD} --system --unit=multi-user.target --log-target=console --show-status=0
"""


@dataclass(frozen=True, slots=True)
class SystemdHost:
    """A lab host that systemd rules."""

    host: Host
    pid: str

    def run(self, *command: str, check: bool = True) -> "CompletedProcess[str]":
        """A command where systemd is process 1."""
        return self.host.run(["nsenter", "-t", self.pid, "-m", "-p", "--", *command], check=check)

    def shown(self, unit: str, field: str) -> str:
        """One property of a unit."""
        return self.run("systemctl", "show", "-p", field, "--value", unit).stdout.strip()

    def wait_for(self, unit: str, state: str, timeout_s: float = 60) -> None:
        """Waits until the unit is in the state."""
        self.host.wait_until(
            lambda: self.shown(unit, "ActiveState") == state, f"{unit} {state}", timeout_s=timeout_s
        )


def boot(host: Host) -> SystemdHost:
    """Starts systemd on the host and waits until it answers."""
    namespaces = [
        "unshare",
        "--mount",
        "--ipc",
        "--cgroup",
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
    ]
    process = host.spawn([*namespaces, "sh", "-c", START], log="systemd.log")
    deadline = time.monotonic() + 60
    while True:
        found = host.run(["pgrep", "-x", "systemd"], check=False).stdout.split()
        if found:
            ruled = SystemdHost(host, found[0])
            if ruled.run("systemctl", "is-active", "multi-user.target", check=False).returncode == 0:
                return ruled
        assert time.monotonic() < deadline, process.output()
        assert process.returncode is None, process.output()
        time.sleep(0.05)

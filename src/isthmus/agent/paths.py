"""Where things live on a VM: one value that every part of the agent is given."""

from dataclasses import dataclass
from pathlib import Path

ENVOY_UID = 1337
"""User and group of Envoy: what the capture rules tell its connections by."""
STUB_ADDRESS = "127.0.73.53"
"""The loopback address of the DNS stub: resolv.conf names no ports, so it needs port 53 of its own."""
ENVOY_RESOLVER_ADDRESS = "127.0.73.54"
"""Where Envoy asks for names that it resolves itself; the control plane writes it into clusters."""


@dataclass(frozen=True, slots=True)
class Paths:
    """The files of one VM's agent. Tests move them; VMs never do."""

    state: Path = Path("/var/lib/isthmus")
    """Survives reboots, mode 0700."""
    run: Path = Path("/run/isthmus")
    """Sockets and pid files, gone after a reboot; only root writes there."""
    resolv_conf: Path = Path("/etc/resolv.conf")
    units: Path = Path("/etc/systemd/system")

    @property
    def journal(self) -> Path:
        return self.state / "journal.json"

    @property
    def agent(self) -> Path:
        return self.state / "agent.json"

    @property
    def bootstrap(self) -> Path:
        return self.state / "bootstrap.json"

    @property
    def last_good(self) -> Path:
        """What Envoy had accepted, for a start without control plane."""
        return self.state / "last-good.json.gz"

    @property
    def envoy_log(self) -> Path:
        return self.state / "envoy.log"

    @property
    def envoy_run(self) -> Path:
        """The one directory that Envoy's user may write to."""
        return self.run / "envoy"

    @property
    def admin_socket(self) -> Path:
        return self.envoy_run / "admin.sock"

    @property
    def sds_socket(self) -> Path:
        return self.run / "sds.sock"

    @property
    def agent_pid(self) -> Path:
        return self.run / "agent.pid"

    @property
    def envoy_pid(self) -> Path:
        return self.run / "envoy.pid"

    @property
    def story(self) -> Path:
        """The lines of a join that systemd's agent tells and the joining command repeats."""
        return self.run / "story"

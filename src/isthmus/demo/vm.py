"""A bare lab host becomes a VM in the mesh with one command, and can be asked what its Envoy knows."""

import json
import signal
from dataclasses import dataclass
from typing import Any

from isthmus.lab.control import ControlPlane
from isthmus.lab.host import Host, Process

JOIN_S = 45
RUN = "/run/isthmus"
STATE = "/var/lib/isthmus"


@dataclass(slots=True)
class VM:
    """A host that has joined the mesh, and the process that was its join and is now its agent."""

    host: Host
    agent: Process

    def kill_agent(self) -> None:
        """End the agent as a crash would; Envoy goes on without it."""
        self.agent.signal(signal.SIGKILL)
        self.agent.popen.wait(10)

    def start_agent(self) -> None:
        """Start the agent again from what it has saved."""
        self.agent = self.host.spawn(["isthmus", "agent"], log=f"{self.host.name}-agent.log")

    def power_off(self) -> None:
        """End agent and Envoy at once, and lose what goes with the power: /run, rules, an address."""
        pid = self.envoy_pid()
        self.kill_agent()
        self.host.run(["kill", "-9", str(pid)])
        # before the rules: without them the kernel would not tell those whom Envoy was connected to
        gone = ["sh", "-c", f"! grep -qs '^State:.[^Z]' /proc/{pid}/status"]
        self.host.wait_until(lambda: self.host.run(gone, check=False).returncode == 0, "the end of Envoy")
        lost = f"rm -rf {RUN}; nft flush ruleset; ip -6 addr del ::6/128 dev lo"
        self.host.run(["sh", "-c", lost], check=False)

    def leave(self) -> str:
        """Take the host out of the mesh; returns what the command printed."""
        return self.host.run(["isthmus", "leave"]).stdout

    def chain(self) -> str:
        """The certificate chain that the VM has now, PEM."""
        return self.host.read(f"{STATE}/chain.pem")

    def envoy(self, path: str) -> Any:
        """What Envoy's admin page at `path` says, JSON."""
        return json.loads(
            self.host.run(
                ["curl", "-sS", "--unix-socket", f"{RUN}/envoy/admin.sock", f"http://envoy{path}"]
            ).stdout
        )

    def envoy_pid(self) -> int:
        """Envoy's pid as the host counts."""
        return int(self.host.read(f"{RUN}/envoy.pid").split()[0])


def join(plane: ControlPlane, host: Host, group: str) -> VM:
    """Make a token for the group and join the host with it."""
    agent = host.spawn(["isthmus", "join", plane.token(group)], log=f"{host.name}-join.log")
    agent.wait_for_line("joined", timeout_s=JOIN_S)
    return VM(host, agent)

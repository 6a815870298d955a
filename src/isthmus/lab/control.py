"""A lab host becomes the control plane: `isthmus serve` on it, and its kubeconfig known to the lab."""

from dataclasses import dataclass

from isthmus.lab.host import Host, Process
from isthmus.lab.lab import Lab

HOST = "control"
STATE = "/var/lib/isthmus-control"
KUBECONFIG = f"{STATE}/admin.kubeconfig"
READY_S = 30


@dataclass(slots=True)
class ControlPlane:
    """The control plane of a lab: where it runs, and how to stop and start it."""

    host: Host
    process: Process
    starts: int = 1

    def kill(self) -> None:
        """End it as a crash would: SIGKILL."""
        self.process.signal(9)
        self.process.popen.wait(10)

    def restart(self) -> None:
        """Start it again on the same state."""
        self.starts += 1
        self.process = serve(self.host, log=f"control-{self.starts}.log")

    def isthmus(self, *arguments: str, text: str | None = None, timeout_s: float = 60) -> str:
        """Run an `isthmus` command as the administrator and return what it printed."""
        return self.host.run(["isthmus", *arguments], text=text, timeout_s=timeout_s).stdout

    def apply(self, manifests: str, *, wait: bool = True) -> str:
        """Apply YAML documents, by default until every proxy has them."""
        waiting = ("--wait", "--timeout", "30s") if wait else ()
        return self.isthmus("apply", "-f", "-", *waiting, text=manifests)

    def token(self, group: str) -> str:
        """A fresh join token for a WorkloadGroup, given as NAMESPACE/NAME."""
        return self.isthmus("token", "create", "--group", group).strip().splitlines()[-1]


def start(lab: Lab) -> ControlPlane:
    """Start the control plane on the lab's host `control` and wait until it is ready."""
    lab.export({"ISTHMUS_KUBECONFIG": KUBECONFIG})
    host = lab.host(HOST)
    return ControlPlane(host, serve(host, log="control.log"))


def serve(host: Host, *, log: str) -> Process:
    """Run `isthmus serve` on a host until it says that it is ready."""
    advertised = [word for address in host.record.addresses for word in ("--advertise", address)]
    process = host.spawn(["isthmus", "serve", "--state-dir", STATE, *advertised], log=log)
    process.wait_for_line("ready", timeout_s=READY_S)
    return process

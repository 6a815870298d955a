"""A whole `isthmus serve` as a process of its own on loopback, killed at the end."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from isthmus.cli.client import Client
from whole_server import KUBECONFIG, command


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A control plane that was ready, and its administrator's client."""

    process: "subprocess.Popen[str]"
    client: Client

    def kill(self) -> None:
        """Ends it as a crash would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)

    def forget_peak(self) -> None:
        """The most memory held counts from now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def memory_mb(self, what: str) -> float:
        """`VmRSS`: the memory held now; `VmHWM`: the most that was."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = [line for line in text.splitlines() if line.startswith(f"{what}:")]
        return int(line.split()[1]) / 1024


@contextmanager
def control_plane(directory: Path) -> Iterator[ControlPlane]:
    """Starts it on what stands in the directory."""
    state = directory / "state"
    with (directory / "serve.log").open("ab") as log:
        process = subprocess.Popen(command(state), stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    try:
        ready = process.stdout.readline()
        assert ready.startswith("ready in "), (directory / "serve.log").read_text()[-3000:]
        yield ControlPlane(process, Client.from_kubeconfig(state / KUBECONFIG))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        process.stdout.close()

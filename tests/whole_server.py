"""`isthmus serve` as people run it: one process on loopback."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ISTHMUS = Path(sys.executable).with_name("isthmus")
KUBECONFIG = "admin.kubeconfig"
"""Name of the administrator's kubeconfig in the state directory."""


def command(state: Path) -> list[str]:
    """The command that serves on loopback, at free ports."""
    where = ["--state-dir", str(state), "--bind", "127.0.0.1", "--advertise", "127.0.0.1"]
    return [str(ISTHMUS), "serve", *where, "--api-port", "0", "--ads-port", "0", "--probe-port", "0"]


@contextmanager
def serving(state: Path) -> Iterator[str]:
    """Yields the ready line; at the end the process must have obeyed SIGTERM."""
    with (state.parent / "serve.log").open("wb") as log:
        process = subprocess.Popen(command(state), stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout is not None
        try:
            yield process.stdout.readline()
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
            process.stdout.close()
    assert code == 0, (state.parent / "serve.log").read_text()

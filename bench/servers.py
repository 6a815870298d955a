"""Servers under measurement, each in a process of its own on loopback, and what clients know of one."""

import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Api:
    """A running API: where it is, who may ask, and whose process it is."""

    port: int
    token: str
    roots: Path
    directory: Path
    pid: int = 0

    @property
    def context(self) -> ssl.SSLContext:
        """TLS that trusts it."""
        context = ssl.create_default_context(cafile=str(self.roots))
        context.check_hostname = False
        return context

    def head(self, method: str, path: str, length: int) -> bytes:
        """The head of a request."""
        sort = "merge-patch+json" if method == "PATCH" else "json"
        return (
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.token}\r\n"
            f"Content-Type: application/{sort}\r\nContent-Length: {length}\r\n\r\n"
        ).encode()

    def cpu_s(self) -> float:
        """The processor time that the server has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


def at(port: int, directory: Path, pid: int = 0) -> Api:
    """The API at a port whose state is in a directory."""
    found = re.search(r"token: (\S+)", (directory / "admin.kubeconfig").read_text())
    assert found, "the kubeconfig has no token"
    return Api(port, found[1], directory / "ca" / "root-cert.pem", directory, pid)


@contextmanager
def api_and_store(directory: Path) -> Iterator[Api]:
    """The API and its store, without a mesh."""
    with _running([sys.executable, "-m", "bench.api_server", str(directory)], directory) as api:
        yield api


@contextmanager
def whole(directory: Path) -> Iterator[Api]:
    """All of `isthmus serve`, with its canary."""
    found = shutil.which("isthmus", path=str(Path(sys.executable).parent))
    assert found, "isthmus is not installed beside this interpreter"
    ports = ("--api-port", "0", "--ads-port", "0", "--probe-port", "0")
    where = ("--state-dir", str(directory), "--advertise", "127.0.0.1", "--bind", "127.0.0.1")
    with _running([found, "serve", *where, *ports], directory) as api:
        yield api


@contextmanager
def _running(command: Sequence[str], directory: Path) -> Iterator[Api]:
    with (
        (directory / "log").open("ab") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        ready = process.stdout.readline()
        found = re.search(r"https://[^:]+:(\d+)", ready)
        assert found, f"not ready: {ready!r}; see {directory}/log"
        try:
            yield at(int(found[1]), directory, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(20)

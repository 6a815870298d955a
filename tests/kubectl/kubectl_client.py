"""kubectl as tests use it: commands in, what it printed out."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kube_server import KubeServer


@dataclass(frozen=True, slots=True)
class Done:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl as a person has it: a kubeconfig and nothing else."""

    binary: Path
    server: KubeServer
    home: Path
    version: str
    kubeconfig: Path | None = None
    """Somebody else's than the administrator's."""

    def environment(self) -> dict[str, str]:
        """What the process knows."""
        kubeconfig = str(self.kubeconfig or self.server.kubeconfig)
        return {"HOME": str(self.home), "KUBECONFIG": kubeconfig, "PATH": os.environ["PATH"]}

    def __call__(self, *args: str, stdin: str | None = None, namespace: str = "bookinfo") -> Done:
        """Runs one command to its end."""
        command = [str(self.binary), "-n", namespace, *args]
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env=self.environment() | {"KUBECTL_EXTERNAL_DIFF": "diff -u -N"},
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def fine(self, *args: str, stdin: str | None = None) -> str:
        """What a command printed that must succeed."""
        done = self(*args, stdin=stdin)
        assert done.code == 0, (args, done)
        return done.out

    def spawn(self, *args: str) -> "subprocess.Popen[str]":
        """Starts a command that lasts."""
        return subprocess.Popen(
            [self.binary, "-n", "bookinfo", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment(),
        )

    def get(self, path: str) -> Any:
        """An answer of the server, without kubectl."""
        return self.server.request("GET", path).document

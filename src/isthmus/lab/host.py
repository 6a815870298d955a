"""Commands become processes on a lab host: run and wait, or spawn and watch."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isthmus.lab import namespaces, processes
from isthmus.lab.records import HostRecord, LabError
from isthmus.lab.snapshot import Snapshot


class CommandFailed(LabError):
    """A command on a host ended with another exit code than 0."""

    def __init__(self, host: str, done: "subprocess.CompletedProcess[str]") -> None:
        self.done = done
        text = (done.stderr.strip() or done.stdout.strip())[-2000:]
        super().__init__(f"{host}: `{' '.join(done.args)}` ended with {done.returncode}: {text}")


@dataclass(frozen=True, slots=True)
class Process:
    """A command left running on a host, with its output in a file."""

    host: str
    argv: tuple[str, ...]
    log: Path
    popen: "subprocess.Popen[bytes]"

    @property
    def returncode(self) -> int | None:
        """The exit code, None while it runs."""
        return self.popen.poll()

    @property
    def pid(self) -> int:
        """The command's pid as the owner sees it."""
        # nsenter forked to get into the pid namespace: the command is its only child.
        deadline = time.monotonic() + 2
        while not (inner := processes.children(self.popen.pid)):
            if self.popen.poll() is not None or time.monotonic() > deadline:
                raise ProcessLookupError(f"{self.host}: `{' '.join(self.argv)}` does not run")
            time.sleep(0.01)
        return inner[0]

    def output(self) -> str:
        """What the command has printed so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_for_line(self, start: str, *, timeout_s: float) -> str:
        """Wait until the command prints a line that starts with `start`, and return the line."""
        deadline = time.monotonic() + timeout_s
        while True:
            ended = self.returncode is not None
            for line in self.output().splitlines(keepends=True):
                if line.startswith(start) and line.endswith("\n"):
                    return line.rstrip()
            if ended or time.monotonic() > deadline:
                state = (
                    f"ended with {self.returncode}" if ended else f"said no such thing for {timeout_s:g} s"
                )
                raise LabError(
                    f"{self.host}: `{' '.join(self.argv)}` {state}, expected a line starting {start!r}; "
                    f"it printed:\n{self.output()[-3000:].rstrip()}"
                )
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        """Send a signal to the command; nothing happens when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def stop(self, *, timeout_s: float = 10) -> int:
        """End the command: TERM, then KILL after the timeout; returns its exit code."""
        self.signal(signal.SIGTERM)
        try:
            return self.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            return self.popen.wait(5)


@dataclass(frozen=True, slots=True)
class Host:
    """A standing lab host and the way into it."""

    record: HostRecord
    rootless: bool
    logs: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    spawned: "list[subprocess.Popen[bytes]]" = field(default_factory=list)
    """What was left running, for the lab to wait for at its end."""

    @property
    def name(self) -> str:
        """The host's name."""
        return self.record.name

    @property
    def address(self) -> str:
        """The host's primary address."""
        return self.record.addresses[0]

    def argv(self, command: Sequence[str]) -> list[str]:
        """The command line that runs `command` on this host from outside."""
        return [*namespaces.enter(self.record.holder.pid, rootless=self.rootless), *command]

    def run(
        self,
        command: Sequence[str],
        *,
        check: bool = True,
        timeout_s: float = 60,
        text: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command on the host and wait for it; `text` is its standard input."""
        popen = subprocess.Popen(
            self.argv(command),
            stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.clean_environment(environment),
            cwd="/",
            start_new_session=True,
        )
        try:
            stdout, stderr = popen.communicate(text, timeout=timeout_s)
        except BaseException as error:
            # The command itself, not nsenter: it waits for the command and so leaves no zombie on the host.
            for pid in processes.children(popen.pid) or (popen.pid,):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            popen.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise LabError(
                    f"{self.name}: `{' '.join(command)}` took longer than {timeout_s:g} s"
                ) from None
            raise
        done = subprocess.CompletedProcess(list(command), popen.returncode, stdout, stderr)
        if check and popen.returncode:
            raise CommandFailed(self.name, done)
        return done

    def spawn(
        self, command: Sequence[str], *, log: str | Path, environment: Mapping[str, str] | None = None
    ) -> Process:
        """Leave a command running on the host; output goes to a file outside (a name: in the lab's logs)."""
        path = self.logs / log
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            popen = subprocess.Popen(
                self.argv(command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self.clean_environment(environment),
                cwd="/",
                start_new_session=True,
            )
        self.spawned.append(popen)
        return Process(self.name, tuple(command), path, popen)

    def write(self, path: str, text: str, *, mode: int = 0o644) -> None:
        """Write a file on the host in place, making its directory."""
        script = 'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1"'
        self.run(["sh", "-c", script, "write", path, f"{mode:o}"], text=text)

    def read(self, path: str) -> str:
        """Read a text file of the host."""
        return self.run(["cat", path]).stdout

    def python(self, module: str, *arguments: str) -> list[str]:
        """The command that runs a module of this installation."""
        return [sys.executable, "-P", "-m", module, *arguments]

    def snapshot(self) -> Snapshot:
        """The host's state as far as a guest must leave it as found."""
        return Snapshot.parse(self.run(self.python("isthmus.lab.snapshot", "guest")).stdout)

    def wait_until(self, ready: Callable[[], bool], what: str, *, timeout_s: float = 60) -> None:
        """Poll a condition with a deadline; the error names the host and the condition."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if time.monotonic() > deadline:
                raise LabError(f"{self.name}: {what} did not happen within {timeout_s:g} s")
            time.sleep(0.05)

    def clean_environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of commands on this host, with `extra` on top."""
        return namespaces.environment(sys.executable, {**self.environment, **(extra or {})})

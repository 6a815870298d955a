"""A bootstrap -> a running Envoy of its own user and session, which outlives the agent and is found again.

start ──▶ live (its admin socket says so) ──▶ listening ──▶ … ──▶ drained ──▶ ended
"""

import asyncio
import contextlib
import os
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from isthmus import stock_envoy
from isthmus.agent import durable, processes
from isthmus.agent.changes import Processes
from isthmus.agent.journal import Journal
from isthmus.agent.paths import ENVOY_UID, Paths
from isthmus.agent.processes import ProcessId

_LOG_LIMIT = 10 * 1024 * 1024
_OPEN_FILES = 65536
_POLL_S, _DRAIN_POLL_S = 0.01, 0.05


class EnvoyFailed(Exception):
    """Envoy is missing, ended or does not come up; the text holds its own last words."""


@dataclass(frozen=True, slots=True)
class Envoy:
    """One running Envoy; `child` is None when an earlier agent started it."""

    id: ProcessId
    child: subprocess.Popen[bytes] | None = None


def binary() -> Path:
    """The Envoy to run; EnvoyFailed without one."""
    if found := stock_envoy.find():
        return found
    raise EnvoyFailed("there is no Envoy on this VM")


def start(
    paths: Paths,
    journal: Journal,
    *,
    bootstrap: bytes | None = None,
    low_ports: bool = False,
    concurrency: int | None = None,
) -> Envoy:
    """Starts Envoy as its own user, in its own session, marked with the journal's mark.

    `bootstrap`: another than enrolment brought. `low_ports`: whether it may listen on ports below 1024.
    """
    journal.record(Processes(journal.mark))
    _rotate(paths.envoy_log)
    # Envoy's user cannot look into the state directory; the bootstrap holds no secret
    config = paths.run / "bootstrap.json"
    durable.write(config, bootstrap or paths.bootstrap.read_bytes(), 0o644)
    paths.admin_socket.unlink(missing_ok=True)
    workers = concurrency or min(2, os.cpu_count() or 1)
    options = [
        *("--config-path", str(config), "--concurrency", str(workers), "--log-level", "warning"),
        *("--disable-hot-restart", "--drain-time-s", "2", "--drain-strategy", "immediate"),
        # a warning for every route whose callers' gRPC deadlines hold: there is no other field for that
        *("--component-log-level", "misc:error"),
        # access logs, as soon as one may want to read them
        *("--file-flush-interval-msec", "1000"),
    ]
    program = os.open(binary(), os.O_RDONLY | os.O_CLOEXEC)
    log = os.open(paths.envoy_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    # an access log at /dev/stdout is opened once more, by Envoy's user
    os.fchown(log, ENVOY_UID, ENVOY_UID)
    executable = str(binary()) if _open_to_all(binary()) else f"/proc/self/fd/{program}"
    command, user = ["envoy", *options], ENVOY_UID
    if low_ports:
        # the capability is handed on by a program that becomes Envoy, and changes the user on its way
        command = [sys.executable, "-m", "isthmus.agent.low_ports", executable, *command]
        executable, user = sys.executable, os.geteuid()
    try:
        child = subprocess.Popen(
            command,
            executable=executable,
            pass_fds=(program,),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={processes.MARK: journal.mark, "PATH": os.defpath},
            user=user,
            group=user,
            extra_groups=(),
            start_new_session=True,
        )
    except OSError as error:
        raise EnvoyFailed(f"{binary()} does not start: {error}") from None
    finally:
        os.close(program)
        os.close(log)
    with contextlib.suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        limit = _OPEN_FILES if hard == resource.RLIM_INFINITY else max(hard, _OPEN_FILES)
        resource.prlimit(child.pid, resource.RLIMIT_NOFILE, (limit, limit))
    try:
        return Envoy(processes.write_pid(paths.envoy_pid, child.pid), child)
    except ProcessLookupError:
        child.wait()
        raise EnvoyFailed(f"Envoy ended at once: {last_words(paths)}") from None


def adopt(paths: Paths, journal: Journal) -> Envoy | None:
    """The Envoy that an earlier agent of this membership left running."""
    found = processes.read_pid(paths.envoy_pid)
    return Envoy(found) if found and found.pid in processes.marked(journal.mark) else None


async def live(paths: Paths, envoy: Envoy) -> None:
    """Waits until Envoy says that it is live; EnvoyFailed when it ends instead."""
    while not await _says_live(paths):
        if ended(envoy):
            raise EnvoyFailed(f"Envoy ended while starting{_how(envoy)}: {last_words(paths)}")
        await asyncio.sleep(_POLL_S)


async def listening(envoy: Envoy, paths: Paths, *ports: int) -> None:
    """Waits until Envoy accepts connections on these ports."""
    for port in ports:
        while not await _accepts(port):
            if ended(envoy):
                how = f"before it listened on {port}{_how(envoy)}"
                raise EnvoyFailed(f"Envoy ended {how}: {last_words(paths)}")
            await asyncio.sleep(_POLL_S)


async def wait_end(envoy: Envoy) -> None:
    """Returns when the process has ended, whoever started it."""
    try:
        descriptor = os.pidfd_open(envoy.id.pid)
    except ProcessLookupError:
        return
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, over.set)
    try:
        if not ended(envoy):
            await over.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    ended(envoy)


def ended(envoy: Envoy) -> bool:
    """Whether the process is gone; reaps it when it was ours."""
    if envoy.child is not None:
        return envoy.child.poll() is not None
    return not envoy.id.alive()


async def stop(paths: Paths, envoy: Envoy, *, drain_s: float) -> None:
    """Lets open connections end for at most `drain_s`, then ends Envoy."""
    if not ended(envoy):
        with contextlib.suppress(OSError, EnvoyFailed):
            await admin(paths, "POST", "/drain_listeners?graceful&skip_exit")
            for _ in range(int(drain_s / _DRAIN_POLL_S)):
                if not await _connections(paths):
                    break
                await asyncio.sleep(_DRAIN_POLL_S)
        await asyncio.to_thread(processes.end, [envoy.id])
    if envoy.child is not None:
        envoy.child.wait()
    paths.envoy_pid.unlink(missing_ok=True)


async def version(paths: Paths) -> str:
    """The running Envoy's version."""
    info = await admin(paths, "GET", "/server_info")
    # "version": "<commit>/1.40.0/Clean/RELEASE/BoringSSL"
    parts = info.partition('"version": "')[2].partition('"')[0].split("/")
    return parts[1] if len(parts) > 1 else "of unknown version"


async def admin(paths: Paths, method: str, path: str) -> str:
    """One call to Envoy's admin socket; the whole answer as text, EnvoyFailed unless it is 200."""
    async with _admin(paths) as (reader, writer):
        writer.write(f"{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n".encode())
        answer = (await reader.read()).decode("utf-8", "replace")
    if not answer.startswith("HTTP/1.1 200"):
        raise EnvoyFailed(f"Envoy's admin answers {answer.partition(chr(13))[0]!r} to {path}")
    return answer


def _how(envoy: Envoy) -> str:
    code = envoy.child.returncode if envoy.child is not None else None
    return "" if code is None else f" (killed by signal {-code})" if code < 0 else f" (exit code {code})"


def last_words(paths: Paths, lines: int = 3) -> str:
    """The end of Envoy's log: errors first, if there are any."""
    try:
        with paths.envoy_log.open("rb") as file:
            file.seek(max(0, paths.envoy_log.stat().st_size - 16384))
            said = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return "its log cannot be read"
    grave = [line for line in said if "[critical]" in line or "[error]" in line]
    return " | ".join((grave or said)[-lines:]) or "it said nothing"


def keep_log_small(paths: Paths) -> None:
    """Empties a log that grew beyond its limit while Envoy runs; its last part stays beside it."""
    with contextlib.suppress(OSError):
        if paths.envoy_log.stat().st_size > _LOG_LIMIT:
            shutil.copyfile(paths.envoy_log, paths.envoy_log.with_suffix(".log.1"))
            os.truncate(paths.envoy_log, 0)


def _open_to_all(program: Path) -> bool:
    """Whether Envoy's user can enter every directory on the way; else it runs by the descriptor we hold."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in program.resolve().parents)


def _rotate(log: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > _LOG_LIMIT:
            os.replace(log, log.with_suffix(".log.1"))


@contextlib.asynccontextmanager
async def _admin(paths: Paths) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with asyncio.timeout(2):
        reader, writer = await asyncio.open_unix_connection(str(paths.admin_socket))
        try:
            yield reader, writer
        finally:
            writer.close()


async def _says_live(paths: Paths) -> bool:
    try:
        return stat.S_ISSOCK(paths.admin_socket.stat().st_mode) and "LIVE" in await admin(
            paths, "GET", "/ready"
        )
    except (OSError, EnvoyFailed):
        return False


async def _connections(paths: Paths) -> int:
    text = await admin(paths, "GET", "/stats?filter=^server.total_connections$")
    count = text.rpartition("server.total_connections:")[2].split()
    return int(count[0]) if count and count[0].isdigit() else 0


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True

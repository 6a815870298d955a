"""The resident canary: a stock Envoy in a network of its own that is shown each new resource before the VMs.

    fleet ── vetting ──▶ examination ◀── delta ADS and SDS over a unix socket ──▶ Envoy
                                              door                        launched, watched, started again

It has no rights, no network and no admin interface, and only it can open the socket. Without it everything
goes on as if it were not there: resources go out unseen, and are counted.
"""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from isthmus import stock_envoy
from isthmus.clock import backoff
from isthmus.envoy.canary import start_file
from isthmus.identity import keys
from isthmus.server import canary_launch, canary_memory
from isthmus.server.canary_examination import Examination, ThrowAway
from isthmus.server.canary_launch import IMPOSSIBLE, NOBODY
from isthmus.xds.stream import METHOD, SERVER_OPTIONS
from isthmus.xds.vetting import Vetting
from isthmus.xds.wire import Malformed, parse

SILENCE_S = 30.0
"""A canary that answers nothing for so long hangs: it is ended, and started again."""

_SECRETS = "/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets"
_SOCKET = "canary.sock"
_CHECK_S = 10.0
_STEADY_S = 60.0
"""A canary that lived so long had nothing wrong with it to begin with."""
_CRASHES = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGILL, signal.SIGBUS, signal.SIGFPE})
_MOST_SAID = 500

_log = logging.getLogger(__name__)


class Canary:
    """Runs the canary for as long as the control plane runs. `state` says how it is, for people."""

    def __init__(
        self,
        vetting: Vetting,
        *,
        binary: Callable[[], Path | None] = stock_envoy.find,
        silence_s: float = SILENCE_S,
    ) -> None:
        self.state = "starting"
        self.pid: int | None = None
        self.starts = 0
        self._silence_s = silence_s
        self._vetting = vetting
        self._binary = binary
        self._throw_away = _throw_away()
        self._talk: _Talk | None = None
        vetting.on_ask(self._asked)

    async def run(self) -> None:
        """Starts it again whenever it ends; returns when this machine cannot have one."""
        program = self._binary()
        if program is None:
            self._off("there is no Envoy on this machine")
            return
        self._vetting.open()
        try:
            with tempfile.TemporaryDirectory(prefix="isthmus-canary-") as name:
                async with self._door(Path(name)):
                    await self._supervise(program, Path(name))
        except OSError as error:
            self._off(str(error))
        finally:
            self._vetting.close()

    async def _supervise(self, program: Path, directory: Path) -> None:
        waits = backoff(0.1, 30.0)
        while True:
            started = time.monotonic()
            code, said = await self._run_once(program, directory)
            was_live, self.state = self.state == "live", "starting again"
            crashed = -code in _CRASHES
            if self._talk is not None:
                # only now: the stream ends before it is known how Envoy did
                self._talk.examination.end(f"Envoy {_ended(code)} when it was shown this" if crashed else "")
                self._talk = None
            if code == IMPOSSIBLE:
                self._off(said)
                return
            _log.warning("canary %s, starting it again: %s", _ended(code), said or "it said nothing")
            if not was_live:
                self._vetting.close()  # nothing waits for one that does not come up
            if time.monotonic() > started + _STEADY_S:
                waits = backoff(0.1, 30.0)
            await asyncio.sleep(next(waits))

    async def _run_once(self, program: Path, directory: Path) -> tuple[int, str]:
        """How it ended, and its last words."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", canary_launch.__file__, str(os.getpid()), str(program)),
            *("--config-yaml", json.dumps(start_file(_SOCKET)), "--concurrency", "1"),
            *("--disable-hot-restart", "--log-level", "error"),
            *("--drain-time-s", "1", "--drain-strategy", "immediate"),
            cwd=directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        self.pid = process.pid
        self.starts += 1
        said: deque[str] = deque(maxlen=3)
        try:
            async with asyncio.TaskGroup() as tasks:
                listening = tasks.create_task(_listen(process.stderr, said))
                watching = [
                    tasks.create_task(_keep_small(process)),
                    tasks.create_task(self._end_when_silent(process)),
                ]
                code = await process.wait()
                for watch in watching:
                    watch.cancel()
                await listening
        finally:
            self.pid = None
            if process.returncode is None:
                process.kill()
                await process.wait()
        return code, " | ".join(said)

    async def _end_when_silent(self, process: asyncio.subprocess.Process) -> None:
        started = time.monotonic()
        while True:
            await asyncio.sleep(self._silence_s / 4)
            examination = self._talk.examination if self._talk else None
            since = examination.waiting_since if examination else started
            if since is not None and time.monotonic() > since + self._silence_s:
                _log.warning("canary pid=%d says nothing for %g s, ending it", process.pid, self._silence_s)
                self._vetting.close()
                _kill(process)

    @contextlib.asynccontextmanager
    async def _door(self, directory: Path) -> AsyncIterator[None]:
        """Serves the canary, and nobody else: only its user can look into the directory."""
        server = grpc.aio.server(options=[*SERVER_OPTIONS])
        server.add_generic_rpc_handlers((_Handlers(self._configuration, self._secrets),))
        path = directory / _SOCKET
        try:
            server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            raise OSError(f"cannot listen on {path}: {error}") from error
        path.chmod(0o600)
        if os.geteuid() == 0:
            for each in (path, directory):
                with contextlib.suppress(PermissionError):  # in a user namespace it runs as us
                    shutil.chown(each, NOBODY, NOBODY)
        await server.start()
        try:
            yield
        finally:
            await server.stop(0)

    async def _configuration(self, _: Any, context: Any) -> None:
        if self._talk is not None:
            self._talk.examination.end()
        self._talk = talk = _Talk(Examination(self._vetting, self._throw_away, time.monotonic))
        self._vetting.open()
        await talk.run(context, self._live)

    async def _secrets(self, _: Any, context: Any) -> None:
        await _Talk(Examination(self._vetting, self._throw_away, time.monotonic)).run(context)

    def _live(self) -> None:
        self.state = "live"
        _log.info("canary live pid=%s", self.pid)

    def _asked(self) -> None:
        if self._talk is not None:
            self._talk.wake.set()

    def _off(self, why: str) -> None:
        self.state = f"off ({why})"
        _log.warning("canary off, resources go out unseen: %s", why)


class _Talk:
    """One stream of the canary on the wire."""

    def __init__(self, examination: Examination) -> None:
        self.examination = examination
        self.wake = asyncio.Event()

    async def run(self, context: Any, on_live: Callable[[], None] = lambda: None) -> None:
        """Until Envoy hangs up."""
        async with asyncio.TaskGroup() as tasks:
            writing = tasks.create_task(self._write(context))
            was_live = False
            while isinstance(data := await context.read(), bytes):
                try:
                    self.examination.receive(parse(data))
                except Malformed as error:
                    _log.error("canary: %s", error)
                    break
                if self.examination.live and not was_live:
                    was_live = True
                    on_live()
                self.wake.set()
            writing.cancel()

    async def _write(self, context: Any) -> None:
        while True:
            self.wake.clear()
            for message in self.examination.step():
                await context.write(message)
            at = self.examination.wake_at()
            try:
                async with asyncio.timeout(None if at is None else at - time.monotonic()):
                    await self.wake.wait()
            except TimeoutError:
                continue


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in its stub only
    """The two streams that Envoy opens."""

    def __init__(self, configuration: Any, secrets: Any) -> None:
        self._by_method = {METHOD: configuration, _SECRETS: secrets}

    def service(self, handler_call_details: Any) -> Any:
        """gRPC asks for the handler of each call."""
        handler = self._by_method.get(handler_call_details.method)
        return None if handler is None else grpc.stream_stream_rpc_method_handler(handler, None, None)


async def _listen(stream: asyncio.StreamReader | None, said: deque[str]) -> None:
    """Keeps the last lines of what Envoy says; the pipe is always emptied."""
    assert stream is not None
    rest = b""
    while chunk := await stream.read(4096):
        *lines, rest = (rest[-_MOST_SAID:] + chunk).split(b"\n")
        said.extend(line[-_MOST_SAID:].decode("utf-8", "replace") for line in lines if line)
    if rest:
        said.append(rest[-_MOST_SAID:].decode("utf-8", "replace"))


async def _keep_small(process: asyncio.subprocess.Process) -> None:
    most = canary_memory.allowed()
    while True:
        await asyncio.sleep(_CHECK_S)
        if await asyncio.to_thread(canary_memory.resident, process.pid) > most:
            _log.warning("canary pid=%d holds more than %d MB, ending it", process.pid, most >> 20)
            _kill(process)


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()


def _ended(code: int) -> str:
    return f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def _throw_away() -> ThrowAway:
    """A self-signed certificate, made anew at each start."""
    key, now = keys.new_key(), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "isthmus canary")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return ThrowAway(certificate.public_bytes(serialization.Encoding.PEM), keys.key_pem(key))

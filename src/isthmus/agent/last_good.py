"""What Envoy has accepted -> a file on this VM -> what an Envoy gets that starts without control plane.

    running Envoy ──config_dump──▶ last-good.json.gz ──thaw──▶ Kept: type ▶ name ▶ version and bytes

What is kept is what Envoy took, not what was sent: a refused resource stands there in its last good version.
It is good for as long as the VM's certificate, and for nothing once the control plane has refused this VM.
"""

import asyncio
import http.client
import logging
import socket
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from envoy.service.discovery.v3 import discovery_pb2 as discovery_v3

from isthmus.agent import durable, envoy
from isthmus.agent.certificate import Certificate
from isthmus.agent.membership import Credentials
from isthmus.agent.orders import Desk, Reach
from isthmus.agent.paths import Paths

LOOK_S = 2.0
"""Between two looks at Envoy."""
_REST_S = 10.0
"""Between two writes, where Envoy's configuration changes all the time."""
_THAW_S, _ADMIN_S = 20.0, 20.0
_WATCHED = r"upstream_cx_rx_bytes_total$|warming(_clusters)?$|lds\.update_success$"
_IDLE_BYTES = 80
"""What connections that only keep each other alive bring within one look, at most."""
_CHUNK = 1 << 16
_LOG = logging.getLogger("isthmus.agent")


@dataclass(frozen=True, slots=True)
class Kept:
    """Resources as Envoy accepted them, by type and name: version and serialised message."""

    resources: Mapping[str, Mapping[str, tuple[str, bytes]]]
    since: datetime


async def keep(desk: Desk, paths: Paths) -> None:
    """Keeps the file up to date for ever, while there is a control plane that knows this VM."""
    loop = asyncio.get_running_loop()
    received, changed, kept_at, trouble = 0, True, -_REST_S, ""
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            if desk.reach is Reach.REFUSED:
                paths.last_good.unlink(missing_ok=True)
                changed = True
            if desk.reach is not Reach.HERE:
                continue
            state = await _state(paths)
            changed |= not 0 <= state.received - received <= _IDLE_BYTES
            received = state.received
            if changed and state.settled and loop.time() - kept_at > _REST_S:
                changed = False  # what comes while it is written shows at the next look
                await asyncio.to_thread(_write, paths)
                kept_at, trouble = loop.time(), ""
        except (OSError, ValueError, http.client.HTTPException, envoy.EnvoyFailed, TimeoutError) as error:
            changed, words = True, str(error) or type(error).__name__
            # while Envoy starts there is nothing to be had, and it is told elsewhere
            if words != trouble and paths.admin_socket.exists():
                _LOG.warning("configuration not kept reason=%s", words)
            trouble = words


async def recall(paths: Paths, credentials: Credentials) -> Kept | None:
    """What was kept; None when there is nothing, or nothing that may still be used. The log says why."""
    try:
        frozen = paths.last_good.read_bytes()
        since = datetime.fromtimestamp(paths.last_good.stat().st_mtime, UTC)
    except FileNotFoundError:
        return None
    ended = Certificate.first(credentials.chain).ends
    if ended <= datetime.now(UTC):
        # a VM that was taken out of the mesh meanwhile could not know: its certificate is the bound
        _LOG.warning("last good configuration not used reason=the certificate ended at %s", ended)
        return None
    try:
        response = discovery_v3.DeltaDiscoveryResponse.FromString(await _thawed(frozen))
    except (OSError, ValueError, TimeoutError) as error:
        _LOG.error("last good configuration not used reason=%s", error or type(error).__name__)
        return None
    found: dict[str, dict[str, tuple[str, bytes]]] = {}
    for each in response.resources:
        found.setdefault(each.resource.type_url, {})[each.name] = (each.version, each.resource.value)
    return Kept(found, since)


async def _thawed(frozen: bytes) -> bytes:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "isthmus.agent.thaw"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_THAW_S):
            body, words = await child.communicate(frozen)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode:
        last = words.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise ValueError(f"it cannot be read: {''.join(last)}")
    return body


@dataclass(frozen=True, slots=True)
class _State:
    received: int
    """Bytes that came from the control plane and the agent: more with every change, whatever its type."""
    settled: bool
    """Whether there are listeners, and nothing is warming."""


async def _state(paths: Paths) -> _State:
    text = await envoy.admin(paths, "GET", f"/stats?filter={_WATCHED.replace('|', '%7C')}")
    stats = dict(line.rsplit(": ", 1) for line in text.splitlines() if line.count(": ") == 1)
    found = {name: int(value) for name, value in stats.items() if value.isdigit()}
    return _State(
        received=sum(value for name, value in found.items() if name.endswith("_bytes_total")),
        settled=found.get("listener_manager.lds.update_success", 0) > 0
        and not any(value for name, value in found.items() if "warming" in name),
    )


def _write(paths: Paths) -> None:
    durable.write(paths.last_good, _dumped(paths.admin_socket))


def _dumped(admin: Path) -> bytes:
    """All that Envoy has, packed; its secrets are not in it."""
    connection = _Admin(admin)
    try:
        connection.request("GET", "/config_dump?include_eds")
        response = connection.getresponse()
        if response.status != 200:
            raise envoy.EnvoyFailed(f"Envoy's admin answers {response.status} to /config_dump")
        packer = zlib.compressobj(wbits=31)
        packed = [packer.compress(chunk) for chunk in iter(lambda: response.read(_CHUNK), b"")]
        return b"".join((*packed, packer.flush()))
    finally:
        connection.close()


class _Admin(http.client.HTTPConnection):
    """HTTP over Envoy's admin socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("admin", timeout=_ADMIN_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_ADMIN_S)
        self.sock.connect(str(self._path))

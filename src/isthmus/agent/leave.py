"""A VM in the mesh, in whatever state -> the VM as it was before it joined.

control plane told (if it listens) ─▶ agent stopped ─▶ journal undone ─▶ state removed
"""

import asyncio
import contextlib
import time

from isthmus.agent import capture, journal, nft, processes, tried
from isthmus.agent.changes import CannotUndo, Unit
from isthmus.agent.journal import Journal
from isthmus.agent.membership import Credentials, Membership
from isthmus.agent.paths import Paths
from isthmus.agent.story import Say, StepFailed

_TELL_S = 3.0
_STOP_S = 8.0
"""The agent's own way down, Envoy's drain included."""


def leave(paths: Paths, say: Say) -> None:
    """Leaves the mesh; StepFailed only when something on this VM could not be put back."""
    import os

    if os.geteuid() != 0:
        raise StepFailed("leave", "not root: capture rules and resolv.conf have to be put back", "use sudo")
    journal.sweep(paths)
    tried.forget(paths)
    if not paths.journal.exists():
        _tidy(say)
        return
    try:
        known = Membership.recall(paths)
        if known is not None:
            say("mesh", tell(paths, known))
        elif paths.agent.exists():
            words = f"{paths.agent} is damaged: the control plane was not told"
            say("mesh", f"{words}; delete the WorkloadEntry of this VM there")
        _stop_agent(paths, say)
        record = _load(paths)
        if record is not None:
            for done in record.undo():
                say("restored", done)
            record.remove()
    except (CannotUndo, journal.JournalDamaged, journal.Busy) as error:
        raise StepFailed("leave", str(error), "then run: isthmus leave") from None
    say("left", f"{known.name if known else 'this VM'} is out of the mesh; nothing of Isthmus is left here")


def tell(paths: Paths, known: Membership) -> str:
    """Takes the VM out of the control plane's registry, if that answers; says how it went."""
    from isthmus.agent import door

    try:
        asyncio.run(_deregister(paths, known))
    except (door.DoorClosed, OSError, KeyError, TypeError, ValueError, TimeoutError) as error:
        words = str(error) or "no answer"
        return f"the control plane was not told ({words}): delete WorkloadEntry {known.name} there"
    return f"the control plane has taken {known.name} out"


async def _deregister(paths: Paths, known: Membership) -> None:
    from isthmus.agent import door

    async with asyncio.timeout(_TELL_S):
        await door.leave(known.doors, Credentials.load(paths), _TELL_S)


def _stop_agent(paths: Paths, say: Say) -> None:
    document = journal.read(paths) or {}
    if any(change.get("change") == Unit.__name__ for change in document.get("changes", ())):
        from isthmus.agent import systemd

        systemd.stop()
    for running in {processes.read_pid(paths.agent_pid), journal.owner(paths)} - {None}:
        if running is not None:
            processes.end([running], _STOP_S)
            say("agent", f"stopped (process {running.pid})")


def _load(paths: Paths) -> Journal | None:
    deadline = time.monotonic() + 2
    while True:
        try:
            return Journal.load(paths)
        except journal.Busy:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def _tidy(say: Say) -> None:
    """Without a journal the only thing that can be ours is what bears our name."""
    with contextlib.suppress(nft.NftFailed):
        if nft.exists(capture.TABLE):
            nft.delete(capture.TABLE)
            say("restored", f"nftables table {nft.FAMILY} {capture.TABLE} removed")
    say("left", "this VM is in no mesh")

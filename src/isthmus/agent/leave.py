"""A VM in the mesh, in whatever state -> the VM as it was before it joined.

control plane told (if it listens) ─▶ agent stopped ─▶ journal undone ─▶ state removed

A join that failed, or was cut short, gives its token back in the call by which the control plane is told.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isthmus.agent import capture, journal, nft, processes
from isthmus.agent.changes import CannotUndo, Unit
from isthmus.agent.journal import Journal
from isthmus.agent.membership import Credentials, Membership, saved_key
from isthmus.agent.paths import Paths
from isthmus.agent.story import Say, StepFailed

if TYPE_CHECKING:
    from isthmus._pb.isthmus.agent.v1 import agent_pb2 as agent_v1

_TELL_S = 3.0
_STOP_S = 8.0
"""The agent's own way down, Envoy's drain included."""


def leave(paths: Paths, say: Say) -> None:
    """Leaves the mesh; StepFailed only when something on this VM could not be put back."""
    import os

    if os.geteuid() != 0:
        raise StepFailed("leave", "not root: capture rules and resolv.conf have to be put back", "use sudo")
    journal.sweep(paths)
    if not paths.journal.exists():
        _tidy(say)
        return
    try:
        known = Membership.recall(paths)
        if known is not None:
            told = tell(known, Credentials.recall(paths), _unproven(paths))
            say("mesh", told.words)
            if told.token:
                say("token", told.token)
        elif paths.agent.exists():
            words = f"{paths.agent} is damaged: the control plane was not told"
            say("mesh", f"{words}; delete the WorkloadEntry of this VM there")
        elif saved_key(paths) is not None:
            say("token", "no answer had been kept: if the token counts as used, ask for another")
        _stop_agent(paths, say)
        record = _load(paths)
        if record is not None:
            for done in record.undo():
                say("restored", done)
            record.remove()
    except (CannotUndo, journal.JournalDamaged, journal.Busy) as error:
        raise StepFailed("leave", str(error), "then run: isthmus leave") from None
    say("left", f"{known.name if known else 'this VM'} is out of the mesh; nothing of Isthmus is left here")


@dataclass(frozen=True, slots=True)
class Told:
    """How it went, in words: about the VM, and about the token of a join that failed."""

    words: str
    token: str = ""


def tell(known: Membership, credentials: Credentials | None, token_id: str = "") -> Told:
    """Takes the VM out of the control plane's registry, if that answers.

    `token_id` is of a join that failed: in the same call its token is given back, for any VM to use.
    """
    from isthmus.agent import door

    try:
        if credentials is None:
            raise ValueError("this VM's key or certificate cannot be read")
        answer = asyncio.run(_deregister(known, credentials, token_id.rpartition("/")[2]))
    except (door.DoorClosed, OSError, TypeError, ValueError, TimeoutError) as error:
        words = f"the control plane was not told ({str(error) or 'no answer'})"
        token = f"the token stays used, since {words}: ask for another" if token_id else ""
        return Told(f"{words}: delete WorkloadEntry {known.name} there", token)
    words = f"the control plane has taken {known.name} out"
    if not token_id:
        return Told(words)
    if not answer.token_given_back:
        why = answer.detail or "the control plane knows of no giving back"
        return Told(words, f"the token stays used ({why}): ask for another")
    until = f" until {known.token_until}" if known.token_until else ""
    return Told(words, f"the token is as new, for this VM or another{until}")


async def _deregister(known: Membership, credentials: Credentials, token: str) -> "agent_v1.LeaveResponse":
    from isthmus.agent import door

    async with asyncio.timeout(_TELL_S):
        return await door.leave(known.doors, credentials, token, _TELL_S)


def _unproven(paths: Paths) -> str:
    """The token of a join that was cut short; empty when this VM has joined, or nobody can tell."""
    try:
        document = journal.read(paths) or {}
    except journal.JournalDamaged:
        return ""  # the control plane is told all the same
    return str(document.get("token", "")) if document.get("phase") != "joined" else ""


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

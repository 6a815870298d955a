"""A token -> this VM in the mesh, or this VM as it was: join as one transaction.

token ─▶ earlier join? ─▶ preflight ─▶ [journal begins] ─▶ key ─▶ enrol ─▶ run … proven ─▶ committed
                                               any failure ─▶ the journal is undone ─▶ says why
"""

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from isthmus.agent import durable, journal, membership, preflight, processes
from isthmus.agent.changes import CannotUndo
from isthmus.agent.journal import Journal
from isthmus.agent.membership import Credentials, Membership
from isthmus.agent.paths import Paths
from isthmus.agent.story import Say, StepFailed
from isthmus.identity import jointoken

if TYPE_CHECKING:
    from isthmus.agent.enrol import Enrolled, Knocked
    from isthmus.agent.keywork import Asked

_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Wish:
    """How a person wants to join. `gateway`: only as one, so that capture asks nothing of the host."""

    address: str | None = None
    """The address under which others reach this machine; None for the one that leads out."""
    foreground: bool = False
    """Whether to stay even where systemd runs."""
    gateway: bool = False


class RolledBack(Exception):
    """A join that failed, and what was taken back because of it."""

    def __init__(self, cause: StepFailed, taken_back: list[str]) -> None:
        super().__init__(str(cause))
        self.cause, self.taken_back = cause, taken_back


def join(text: str, *, paths: Paths, say: Say, wish: Wish) -> None:
    """Joins, and stays as the agent unless systemd takes over; RolledBack when it could not."""
    try:
        token = jointoken.parse(text)
    except jointoken.TokenDamaged as error:
        hint = "copy the whole string that `isthmus token create` printed"
        raise RolledBack(StepFailed("token", str(error), hint), []) from None
    try:
        record = _earlier(paths, token.id, say)
        if record is None or not record.joined:
            record = _enrolled(paths, token, wish, say, record)
    except RolledBack:
        raise
    except BaseException as error:
        # nothing had been changed yet: whoever changed something has rolled it back above
        raise RolledBack(_as_step(error), []) from error
    try:
        _start(paths, record, wish.foreground, say)
    except BaseException as error:
        if record.joined:
            raise
        raise _rolled_back(paths, record, error) from error


def _earlier(paths: Paths, token_id: str, say: Say) -> Journal | None:
    """What an earlier join left: nothing; a finished one to go on with; an unfinished one, undone."""
    preflight.require_root()
    if not paths.journal.exists():
        journal.sweep(paths)
        return None
    known = Membership.recall(paths)
    name = f"as {known.name} ({known.spiffe_id})" if known else "by an unfinished join"
    try:
        record = Journal.load(paths)
    except (journal.Busy, journal.JournalDamaged) as error:
        running = processes.read_pid(paths.agent_pid) or journal.owner(paths)
        who = f", process {running.pid} is at it" if running else f": {error}"
        hint = "to leave that membership: isthmus leave"
        raise StepFailed("join", f"this VM is taken {name}{who}", hint) from None
    if record is None:
        return None
    if record.joined:
        if record.token_id == token_id:
            say("again", f"this VM has joined {name}: starting its agent")
            return record
        record.close()
        raise StepFailed(
            "join",
            f"this VM is in the mesh already {name}",
            "isthmus leave first; isthmus agent starts its agent",
        )
    try:
        taken_back = record.undo()
    except CannotUndo as error:
        record.close()
        raise StepFailed("join", f"an earlier join was cut short, and {error}", "isthmus leave") from None
    say(
        "again",
        f"an earlier join was cut short; taken back: {', '.join(taken_back) or 'nothing but its files'}",
    )
    if record.token_id == token_id:
        # the same token goes with the same key, which the control plane has bound to it
        return record
    record.remove()
    return None


def _enrolled(paths: Paths, token: jointoken.Token, wish: Wish, say: Say, record: Journal | None) -> Journal:
    """Preflight, then the first changes: state directory, key, certificate, bootstrap."""
    from isthmus.agent import enrol, keywork

    pool = ThreadPoolExecutor(4)
    try:
        # what the later steps need takes its time to load: meanwhile the network answers
        pool.submit(import_module, "isthmus.agent.run")
        door = pool.submit(enrol.knock, token.addresses, token.pin)
        asked = pool.submit(keywork.request, membership.saved_key(paths))
        try:
            found = preflight.check(paths, gateway=wish.gateway)
            knocked = door.result()
            own = enrol.own_address(knocked, wish.address)
        except BaseException as error:
            if record is not None:
                raise _rolled_back(paths, record, error) from error
            raise
    finally:
        pool.shutdown(wait=False)
    say("preflight", f"ok ({found})")
    enrolled: Enrolled | None = None
    try:
        if record is None:
            record = _begin(paths, token)
        else:
            record.reopen()
        if membership.saved_key(paths) is None:
            # on disk before anybody hears of it
            membership.save_key(paths, asked.result().key)
        enrolled = _ask(token, knocked, asked.result(), own)
        enrolled.membership.save(paths)
        enrolled.credentials.save(paths)
        durable.write(paths.bootstrap, enrolled.bootstrap_json())
        if wish.gateway and not enrolled.membership.gateway:
            why = f"{enrolled.membership.name} is no gateway: its WorkloadGroup does not say so"
            raise StepFailed("enrol", why, "make one with: isthmus gateway create NAMESPACE/NAME")
    except BaseException as error:
        if record is None:
            raise _as_step(error) from error
        raise _rolled_back(paths, record, error, enrolled) from error
    say("enrolled", f"as {enrolled.membership.spiffe_id} ({enrolled.membership.name}), {enrolled.until()}")
    return record


def _ask(token: jointoken.Token, knocked: "Knocked", asked: "Asked", own: str) -> "Enrolled":
    from isthmus.agent import enrol

    for attempt in range(_ATTEMPTS):
        try:
            return enrol.enrol(token, knocked, asked, own)
        except enrol.NoAnswer as error:
            if attempt == _ATTEMPTS - 1:
                hint = "is it running? its log says more; if the token counts as used then, ask for another"
                raise StepFailed("enrol", str(error), hint) from None
            knocked = enrol.knock(token.addresses, token.pin)
    raise AssertionError("unreachable")


def _begin(paths: Paths, token: jointoken.Token) -> Journal:
    try:
        return Journal.begin(paths, mark=secrets.token_hex(16), token_id=token.id)
    except journal.Busy as error:
        raise StepFailed("join", str(error), "wait for it, or end it") from None


def _start(paths: Paths, record: Journal, foreground: bool, say: Say) -> None:
    from isthmus.agent import run, systemd

    if not foreground and systemd.rules_here():
        systemd.follow(paths, record, say)
        return
    asyncio.run(run.run(paths, record, say))
    record.close()


def _rolled_back(
    paths: Paths, record: Journal, error: BaseException, enrolled: "Enrolled | None" = None
) -> RolledBack:
    """Undoes the join, tells the control plane as far as it listens, and gives it the token back.

    `enrolled` is what enrolment gave, where the disk may not have all of it yet.
    """
    from isthmus.agent import leave

    if isinstance(error, RolledBack):
        return error
    cause = _as_step(error)
    try:
        if record.closed:
            record = _reload(paths)
        known = enrolled.membership if enrolled else Membership.recall(paths)
        if known is not None:
            credentials = enrolled.credentials if enrolled else Credentials.recall(paths)
            told = leave.tell(known, credentials, record.token_id)
            cause = StepFailed(cause.step, cause.why, f"{cause.hint}; {told.token}")
        taken_back = record.undo()
        record.remove()
    except (CannotUndo, OSError, journal.Busy) as failure:
        hint = f"isthmus leave; {cause.hint}"
        return RolledBack(StepFailed(cause.step, f"{cause.why}; then {failure}", hint), [])
    return RolledBack(cause, [*taken_back, "keys and state removed"])


def _reload(paths: Paths) -> Journal:
    record = Journal.load(paths)
    assert record is not None
    return record


def _as_step(error: BaseException) -> StepFailed:
    """Any failure as a step's: what was not foreseen is told with its own name."""
    if isinstance(error, StepFailed):
        return error
    if isinstance(error, KeyboardInterrupt | SystemExit | asyncio.CancelledError):
        return StepFailed("join", "interrupted", "run it again when you like")
    if isinstance(error, OSError):
        return StepFailed("join", f"the system refused: {error}", "put that right and join again")
    return StepFailed("join", f"{type(error).__name__}: {error}", "this is a bug: please report it")

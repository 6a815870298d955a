"""What a join changed on this host, on disk before each change is made: rollback, `leave` and the next join
read it, whatever happened to the process that wrote it.

    begin ──▶ record(change) ──▶ the change is made ──▶ … ──▶ commit         undo: last change first
              (fsync)                                          (joined)      remove: the journal itself, last
"""

import contextlib
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from isthmus.agent import durable, processes
from isthmus.agent.changes import CannotUndo, Change, Directory, decode, encode, remove
from isthmus.agent.paths import Paths
from isthmus.agent.processes import ProcessId

_VERSION = 1


class Busy(Exception):
    """Another process works on this VM's membership right now."""


class JournalDamaged(Exception):
    """The journal is there but does not say what we wrote."""


class Journal:
    """The open journal of one VM; whoever holds it holds the lock on the state directory."""

    def __init__(self, paths: Paths, document: dict[str, Any], lock: int) -> None:
        self._paths = paths
        self._document = document
        self._lock = lock

    @classmethod
    def begin(cls, paths: Paths, *, mark: str, token_id: str) -> "Journal":
        """Makes the state directory with a journal in it: both are there, or neither."""
        document: dict[str, Any] = {
            "version": _VERSION,
            "mark": mark,
            "token": token_id,
            "phase": "joining",
            "changes": [],
        }
        document["owner"] = str(processes.process(os.getpid()))
        with _locked(paths.state.parent):
            _discard(_staging(paths))
            if paths.state.is_dir():
                # somebody made it (a package, a mount): it stays, with what is in it
                _discard_unfinished(paths)
                document["directory"] = encode(Directory.of(paths.state))
                _write(paths.journal, document)
                paths.state.chmod(0o700)
            else:
                document["directory"] = encode(Directory(str(paths.state), None))
                staging = _staging(paths)
                staging.mkdir(mode=0o700)
                _write(staging / paths.journal.name, document)
                os.rename(staging, paths.state)
                durable.sync_directory(paths.state.parent)
            return cls(paths, document, _take(paths))

    @classmethod
    def load(cls, paths: Paths) -> "Journal | None":
        """The journal of an earlier join, locked; None when this VM has none. Busy if another holds it."""
        if not paths.journal.exists():
            return None
        lock = _take(paths)
        try:
            return cls(paths, read(paths) or {}, lock)
        except BaseException:
            os.close(lock)
            raise

    @property
    def mark(self) -> str:
        """What every process that this join starts carries in its environment."""
        return str(self._document["mark"])

    @property
    def token_id(self) -> str:
        return str(self._document["token"])

    @property
    def directory(self) -> Directory:
        """The state directory as it was before."""
        found = decode(self._document["directory"])
        assert isinstance(found, Directory)
        return found

    @property
    def joined(self) -> bool:
        """Whether the join was proven and committed."""
        return bool(self._document["phase"] == "joined")

    @property
    def changes(self) -> tuple[Change, ...]:
        """What was done so far, oldest first."""
        return tuple(decode(change) for change in self._document["changes"])

    def record(self, change: Change) -> None:
        """Writes the change down; only when this has returned may it be made."""
        if change not in self.changes:
            self._save(changes=[*self._document["changes"], encode(change)])

    def forget(self, change: Change) -> None:
        """Strikes out a change that has been taken back."""
        self._save(changes=[each for each in self._document["changes"] if decode(each) != change])

    def commit(self) -> None:
        """The join is proven: from here on only `leave` takes it back."""
        self._save(phase="joined")

    def reopen(self) -> None:
        """The join starts anew in the same state directory."""
        self._save(phase="joining", owner=str(processes.process(os.getpid())))

    def undo(self, *keep: type[Change]) -> list[str]:
        """Takes every change back, newest first, but for the kinds to keep; says what was done.

        Goes on past a change that cannot be taken back, keeps it on record, and raises CannotUndo at the end.
        """
        done, failed = [], []
        for change in reversed(self.changes):
            if isinstance(change, keep):
                continue
            try:
                said = change.undo()
            except Exception as error:
                failed.append(f"{type(change).__name__}: {error}")
                continue
            if said:
                done.append(said)
            # a full disk must not stop an undo: undoing twice is harmless, not undoing is not
            with contextlib.suppress(OSError):
                self.forget(change)
        if failed:
            raise CannotUndo(
                f"could not take back: {'; '.join(failed)} (taken back: {', '.join(done) or 'nothing'}); "
                "put that right and run: isthmus leave"
            )
        return done

    def remove(self) -> None:
        """Removes the state directory and with it the journal: the VM has nothing of ours any more."""
        directory = self.directory
        with _locked(self._paths.state.parent):
            if directory.kept is None:
                # one rename makes "joined" into "never joined"; what is left after a crash is rubbish by name
                os.rename(self._paths.state, _staging(self._paths))
                durable.sync_directory(self._paths.state.parent)
                _discard(_staging(self._paths))
            else:
                ours = set(os.listdir(self._paths.state)) - set(directory.kept) - {self._paths.journal.name}
                for name in sorted(ours):
                    remove(self._paths.state / name)
                self._paths.state.chmod(directory.mode)
                self._paths.journal.unlink()
                durable.sync_directory(self._paths.state)
        self.close()

    @property
    def closed(self) -> bool:
        return self._lock < 0

    def close(self) -> None:
        """Gives the lock back."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _save(self, **changed: Any) -> None:
        document = self._document | changed
        _write(self._paths.journal, document)
        self._document = document


def read(paths: Paths) -> dict[str, Any] | None:
    """The journal's document without the lock, for a look; None when there is none."""
    try:
        document = json.loads(paths.journal.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise JournalDamaged(
            f"{paths.journal}, which holds what join changed, is damaged ({error}): restore it from a backup"
        ) from None
    if not isinstance(document, dict) or document.get("version") != _VERSION:
        raise JournalDamaged(
            f"{paths.journal} was written by another version of Isthmus: leave with the version that joined"
        )
    return document


def owner(paths: Paths) -> ProcessId | None:
    """The living process that began the join, if it is still at it."""
    document = read(paths)
    return processes.parse_id(str(document.get("owner", ""))) if document else None


def sweep(paths: Paths) -> None:
    """Removes what a crash in the very first or the very last moment of a membership can leave."""
    with _locked(paths.state.parent):
        _discard(_staging(paths))
        if paths.state.is_dir() and not paths.journal.exists():
            _discard_unfinished(paths)


def _staging(paths: Paths) -> Path:
    return paths.state.with_name(f".{paths.state.name}.new")


def _discard(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)


def _discard_unfinished(paths: Paths) -> None:
    paths.journal.with_name(f".{paths.journal.name}.new").unlink(missing_ok=True)


def _write(path: Path, document: Mapping[str, Any]) -> None:
    durable.write(path, json.dumps(document, indent=1).encode(), stat.S_IRUSR | stat.S_IWUSR)


def _take(paths: Paths) -> int:
    descriptor = os.open(paths.state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise Busy(f"another isthmus process holds {paths.state}") from None
    return descriptor


@contextlib.contextmanager
def _locked(parent: Path) -> Iterator[None]:
    """Keeps two joins from making the same directory."""
    parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

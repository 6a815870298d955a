"""Each thing that the agent does to a host, as a value that can be written down and taken back.

`undo()` may be called any number of times, by another process, after a crash at any instruction between
"written down" and "done": it looks at the host, not at what should have happened. It returns what it did
in words, or nothing when there was nothing to do.
"""

import contextlib
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from isthmus.agent import durable, loopback, processes

_OVERWRITTEN = "utf-8", "surrogateescape"


class CannotUndo(Exception):
    """A change could not be taken back; the text says which, why and how a person can."""


@dataclass(frozen=True, slots=True)
class EditedFile:
    """A file that was changed in place, or created when there was none (`original` is None)."""

    path: str
    original: str | None
    written: str
    marker: str
    """Every line of ours holds this word: how they are found when somebody else edited the file since."""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    atime_ns: int = 0
    mtime_ns: int = 0

    @classmethod
    def of(cls, path: Path, written: bytes, *, marker: str) -> Self:
        """The change that makes the file say `written`, with all that is needed to take it back."""
        text = written.decode(*_OVERWRITTEN)
        try:
            original = path.read_bytes().decode(*_OVERWRITTEN)
        except FileNotFoundError:
            return cls(str(path), None, text, marker)
        now = path.stat()
        owner = {"uid": now.st_uid, "gid": now.st_gid, "mode": stat.S_IMODE(now.st_mode)}
        times = {"atime_ns": now.st_atime_ns, "mtime_ns": now.st_mtime_ns}
        return cls(str(path), original, text, marker, **owner, **times)

    def apply(self) -> None:
        """Writes the new text."""
        data = self.written.encode(*_OVERWRITTEN)
        if self.original is None:
            durable.write(Path(self.path), data, self.mode)
        else:
            durable.overwrite(Path(self.path), data)

    def stands(self) -> bool:
        """Whether the file says exactly what we wrote."""
        return self._current() == self.written

    def undo(self) -> str:
        current = self._current()
        if current is None or not self._touched(current):
            if current is not None and current == self.original:
                self._restore_times()
            return ""
        path = Path(self.path)
        if self.original is None:
            path.unlink()
            return f"{self.path} removed"
        if not self._ours(current):
            # somebody else (a DHCP client, a person) wrote the file since: take out our lines, keep theirs
            kept = [line for line in current.splitlines(keepends=True) if self.marker not in line]
            durable.overwrite(path, "".join(kept).encode(*_OVERWRITTEN))
            return f"our lines taken out of {self.path}, which somebody else changed meanwhile"
        durable.overwrite(path, self.original.encode(*_OVERWRITTEN))
        self._restore_times()
        return f"{self.path} restored"

    def _current(self) -> str | None:
        try:
            return Path(self.path).read_bytes().decode(*_OVERWRITTEN)
        except FileNotFoundError:
            return None

    def _touched(self, current: str) -> bool:
        return current != self.original and (self.marker in current or self._ours(current))

    def _ours(self, current: str) -> bool:
        """Our text, or what a crash in the middle of writing or restoring leaves of it."""
        original = self.original or ""
        unfinished = (self.written + original[len(self.written) :], original + self.written[len(original) :])
        return current in unfinished or self.written.startswith(current)

    def _restore_times(self) -> None:
        path = Path(self.path)
        now = path.stat()
        if (now.st_uid, now.st_gid) != (self.uid, self.gid):
            os.chown(path, self.uid, self.gid)
        if stat.S_IMODE(now.st_mode) != self.mode:
            path.chmod(self.mode)
        os.utime(path, ns=(self.atime_ns, self.mtime_ns))


@dataclass(frozen=True, slots=True)
class ReplacedLink:
    """A symbolic link in whose place a regular file of ours stands."""

    path: str
    target: str
    marker: str

    def undo(self) -> str:
        path = Path(self.path)
        if path.is_symlink():
            return ""
        if path.exists() and self.marker not in path.read_text("utf-8", "surrogateescape"):
            return ""
        fresh = path.with_name(f".{path.name}.isthmus")
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        fresh.symlink_to(self.target)
        os.replace(fresh, path)
        return f"{self.path} is a link to {self.target} again"


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory of ours. One that was there before is emptied of what came later, and stays."""

    path: str
    kept: tuple[str, ...] | None
    """What was in it before; None when there was no such directory."""
    mode: int = 0o755
    uid: int = 0
    gid: int = 0

    @classmethod
    def of(cls, path: Path) -> Self:
        """The directory as it is now, before anything is made in it."""
        try:
            now = path.stat()
        except FileNotFoundError:
            return cls(str(path), None)
        kept = tuple(sorted(os.listdir(path)))
        return cls(str(path), kept, stat.S_IMODE(now.st_mode), now.st_uid, now.st_gid)

    def undo(self) -> str:
        path = Path(self.path)
        if not path.is_dir():
            return ""
        if self.kept is None:
            shutil.rmtree(path)
            return f"{self.path} removed"
        for name in sorted(set(os.listdir(path)) - set(self.kept)):
            remove(path / name)
        os.chown(path, self.uid, self.gid)
        path.chmod(self.mode)
        return f"{self.path} emptied"


@dataclass(frozen=True, slots=True)
class NftTable:
    """A table of ours in nftables' `inet` family."""

    name: str

    def undo(self) -> str:
        from isthmus.agent import nft

        if not nft.exists(self.name):
            return ""
        nft.delete(self.name)
        return "capture removed"


@dataclass(frozen=True, slots=True)
class LoopbackAddress:
    """An address that we added to the loopback interface."""

    address: str

    def undo(self) -> str:
        return f"{self.address} taken off lo" if loopback.remove(self.address) else ""


@dataclass(frozen=True, slots=True)
class Processes:
    """Every process that was started with our mark in its environment: found even if nobody saw its id."""

    mark: str

    def undo(self) -> str:
        gone = processes.end_marked(self.mark)
        return f"Envoy stopped (process {', '.join(map(str, gone))})" if gone else ""


@dataclass(frozen=True, slots=True)
class Unit:
    """A systemd unit of ours."""

    name: str
    path: str

    def undo(self) -> str:
        path = Path(self.path)
        if not path.exists():
            return ""
        _systemctl("disable", "--now", self.name)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        _systemctl("daemon-reload")
        _systemctl("reset-failed", self.name)
        return f"{self.name} removed"


Change = EditedFile | ReplacedLink | Directory | NftTable | LoopbackAddress | Processes | Unit

_KINDS: Mapping[str, Callable[..., Change]] = {
    kind.__name__: kind
    for kind in (EditedFile, ReplacedLink, Directory, NftTable, LoopbackAddress, Processes, Unit)
}


def encode(change: Change) -> dict[str, Any]:
    """The change as JSON."""
    return {"change": type(change).__name__, **asdict(change)}


def decode(document: Mapping[str, Any]) -> Change:
    """The change that `encode` wrote."""
    fields = {name: value for name, value in document.items() if name != "change"}
    if isinstance(fields.get("kept"), list):
        fields["kept"] = tuple(fields["kept"])
    return _KINDS[document["change"]](**fields)


def remove(path: Path) -> None:
    """Removes a file or a whole directory, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _systemctl(*arguments: str) -> None:
    # best effort: a unit that never started cannot be stopped, and that is fine
    with contextlib.suppress(FileNotFoundError, subprocess.TimeoutExpired):
        subprocess.run(["systemctl", *arguments], capture_output=True, timeout=30, check=False)

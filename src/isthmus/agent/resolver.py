"""The VM's resolv.conf <-> the same with our DNS stub in front, and all that was there kept behind it.

The original servers stay in the file, so that a program still resolves the world's names when the agent is
gone. The file is changed in place: it may be a bind mount. A link (systemd-resolved, resolvconf) is replaced
by a file and put back as a link.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from isthmus.agent import durable
from isthmus.agent.changes import EditedFile, ReplacedLink
from isthmus.agent.journal import Journal
from isthmus.agent.paths import STUB_ADDRESS, Paths

_COMMENT = f"# {STUB_ADDRESS} is Isthmus: mesh names; it asks the servers below for all others"
_RESOLVED = "/run/systemd/resolve/"
_RESOLVED_UPLINKS = Path("/run/systemd/resolve/resolv.conf")


@dataclass(frozen=True, slots=True)
class Resolver:
    """What a resolv.conf says, as far as the stub needs it."""

    servers: tuple[str, ...]
    search: tuple[str, ...]


def parse(text: str) -> Resolver:
    """Servers and search domains as the C library reads them: last `search` or `domain` wins."""
    servers, search = [], []
    for line in text.splitlines():
        match line.split():
            case ["nameserver", address, *_] if address != STUB_ADDRESS:
                servers.append(address)
            case [("search" | "domain"), *domains]:
                search = [domain.rstrip(".").lower() for domain in domains]
    # the C library asks this host when no server is named
    return Resolver(tuple(dict.fromkeys(servers)) or ("127.0.0.1",), tuple(filter(None, search)))


def with_stub(text: str) -> str:
    """The text with the stub as first server; `options rotate` goes, it would skip the stub at times."""
    kept = [_without_rotate(line) for line in text.splitlines(keepends=True)]
    return f"{_COMMENT}\nnameserver {STUB_ADDRESS}\n" + "".join(kept)


def install(journal: Journal, paths: Paths) -> Resolver:
    """Puts the stub into resolv.conf (again, if it is there already) and returns whom it has to ask."""
    path = paths.resolv_conf
    for change in journal.changes:
        if isinstance(change, ReplacedLink) and not path.is_symlink() and _is_ours(path):
            return parse(_linked(change.target, path))
        if isinstance(change, EditedFile) and change.path == str(path) and change.stands():
            return parse(change.original or "")
    uninstall(journal, paths)
    if path.is_symlink():
        target = os.readlink(path)
        text = _linked(target, path)
        journal.record(ReplacedLink(str(path), target, STUB_ADDRESS))
        durable.write(path, with_stub(text).encode("utf-8", "surrogateescape"), 0o644)
        return parse(text)
    text = path.read_bytes().decode("utf-8", "surrogateescape") if path.exists() else ""
    change = EditedFile.of(path, with_stub(text).encode("utf-8", "surrogateescape"), marker=STUB_ADDRESS)
    journal.record(change)
    change.apply()
    return parse(text)


def uninstall(journal: Journal, paths: Paths) -> None:
    """Takes the stub out of resolv.conf again."""
    for change in reversed(journal.changes):
        if isinstance(change, EditedFile | ReplacedLink) and change.path == str(paths.resolv_conf):
            change.undo()
            journal.forget(change)


def stands(paths: Paths) -> bool:
    """Whether the stub is still the first server that resolv.conf names."""
    lines = (
        paths.resolv_conf.read_text("utf-8", "surrogateescape").splitlines()
        if _is_ours(paths.resolv_conf)
        else []
    )
    first = next((line.split() for line in lines if line.startswith("nameserver")), [])
    return first[1:2] == [STUB_ADDRESS]


def _is_ours(path: Path) -> bool:
    return path.exists() and STUB_ADDRESS in path.read_text("utf-8", "surrogateescape")


def _linked(target: str, path: Path) -> str:
    # asking resolved's own stub would go round in a circle: without its link, resolved reads this very file
    source = path.parent / target
    if str(source).startswith(_RESOLVED) and _RESOLVED_UPLINKS.exists():
        source = _RESOLVED_UPLINKS
    return source.read_text("utf-8", "surrogateescape") if source.exists() else ""


def _without_rotate(line: str) -> str:
    words = line.split()
    if words[:1] != ["options"] or "rotate" not in words:
        return line
    kept = [word for word in words if word != "rotate"]
    return " ".join(kept) + "\n" if len(kept) > 1 else ""

"""A machine's state becomes a value that can be compared: what must be equal before a join and after a leave.

Run as `python -m isthmus.lab.snapshot guest|machine` it prints the state of the place where it runs as JSON.
"""

import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Of a guest: everything below is private to a lab host. Of the machine: only what the lab could have touched.
GUEST_TREES = ("/etc", "/run", "/var/lib", "/dev/shm")
RESOLVER_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/hostname")
SOCKET_TABLES = ("tcp", "tcp6", "udp", "udp6", "raw", "raw6")
LISTENING = {"tcp": "0A", "tcp6": "0A"}
# Numbers that count down by themselves.
VOLATILE = frozenset({"valid_life_time", "preferred_life_time", "expires", "age"})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Facts by name; the names say what they are about, as `file /etc/hosts` or `nftables`."""

    facts: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> "Snapshot":
        """Read what `text()` wrote."""
        return cls(json.loads(text))

    def text(self) -> str:
        """The snapshot as JSON."""
        return json.dumps(self.facts, indent=1, sort_keys=True)

    def differences(self, later: "Snapshot") -> tuple[str, ...]:
        """What is not the same in a later snapshot, one line each, empty when all is as it was."""
        return tuple(
            _difference(name, self.facts.get(name), later.facts.get(name))
            for name in sorted({*self.facts, *later.facts})
            if self.facts.get(name) != later.facts.get(name)
        )


def guest() -> Snapshot:
    """The state of a lab host: rules, names, network, files, processes and listening sockets."""
    return Snapshot(
        {
            **dict(_network()),
            **{f"file {path}": text for path, text in _files(GUEST_TREES)},
            "processes": "\n".join(_processes()),
            "listening": "\n".join(_listening()),
        }
    )


def machine() -> Snapshot:
    """The state of the real machine's network: its links, addresses, routes, rules and resolver."""
    return Snapshot({**dict(_network()), **{f"file {path}": text for path, text in _files(RESOLVER_FILES)}})


def _network() -> Iterator[tuple[str, str]]:
    for name, argv in {
        "links": ["ip", "-j", "link"],
        "addresses": ["ip", "-j", "addr"],
        "routes v4": ["ip", "-j", "route", "show", "table", "all"],
        "routes v6": ["ip", "-j", "-6", "route", "show", "table", "all"],
        "rules v4": ["ip", "-j", "rule"],
        "rules v6": ["ip", "-j", "-6", "rule"],
    }.items():
        items = _steady(json.loads(_output(argv) or "[]"))
        yield name, "\n".join(json.dumps(item, sort_keys=True) for item in items)
    yield "nftables", _output(["nft", "--stateless", "list", "ruleset"])
    for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        yield f"sysctl {name}", _text(Path("/proc/sys/net") / name)


def _files(roots: Iterable[str]) -> Iterator[tuple[str, str]]:
    for root in roots:
        top = Path(root)
        if not top.is_symlink() and top.is_dir():
            for folder, names, files in os.walk(top):
                # .host is the real machine's directory behind a lab host's own.
                names[:] = sorted(name for name in names if name != ".host")
                yield folder, _entry(Path(folder))
                links = [name for name in names if (Path(folder) / name).is_symlink()]
                for name in (*files, *links):
                    path = Path(folder) / name
                    yield str(path), _entry(path)
        elif top.exists():
            yield root, _entry(top)


def _entry(path: Path) -> str:
    try:
        facts = path.lstat()
        kind = stat.filemode(facts.st_mode)
        owner = f"{kind} {facts.st_uid}:{facts.st_gid}"
        if stat.S_ISLNK(facts.st_mode):
            return f"{owner} -> {path.readlink()}"
        if stat.S_ISREG(facts.st_mode):
            return f"{owner} {facts.st_size} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        return owner
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _processes() -> list[str]:
    """The command lines of all processes but this one and the one that brought it here."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) not in (os.getpid(), os.getppid()):
            line = _text(Path("/proc") / entry / "cmdline").replace("\0", " ").strip()
            if line:
                found.append(line)
    return sorted(found)


def _listening() -> list[str]:
    found = set()
    for table in SOCKET_TABLES:
        for line in _text(Path("/proc/net") / table).splitlines()[1:]:
            _, local, remote, state, *_ = line.split()
            if LISTENING.get(table, state) == state and int(remote.split(":")[1], 16) == 0:
                found.add(f"{table} {local}")
    for line in _text(Path("/proc/net/unix")).splitlines()[1:]:
        fields = line.split()
        if int(fields[3], 16) & 0x10000 and len(fields) > 7:  # the flag of a listening socket
            found.add(f"unix {fields[7]}")
    return sorted(found)


def _steady(value: Any) -> Any:
    """The same JSON without the numbers that change while nothing happens."""
    if isinstance(value, dict):
        return {key: _steady(inner) for key, inner in value.items() if key not in VOLATILE}
    return [_steady(inner) for inner in value] if isinstance(value, list) else value


def _output(argv: list[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _difference(name: str, before: str | None, after: str | None) -> str:
    if before is None:
        return f"{name}: new: {_short(after)}"
    if after is None:
        return f"{name}: gone, was: {_short(before)}"
    gone = [line for line in before.splitlines() if line not in after.splitlines()]
    fresh = [line for line in after.splitlines() if line not in before.splitlines()]
    return f"{name}: was {_short(' | '.join(gone))}, is {_short(' | '.join(fresh))}"


def _short(text: str | None) -> str:
    flat = (text or "").replace("\n", " | ")
    return flat if len(flat) <= 300 else f"{flat[:300]}…"


def main() -> None:
    """Print the state of the place where this runs."""
    take = {"guest": guest, "machine": machine}[sys.argv[1]]
    sys.stdout.write(take().text() + "\n")


if __name__ == "__main__":
    main()

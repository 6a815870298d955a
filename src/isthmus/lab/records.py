"""What runs becomes a small file that another process can find: one JSON record for each lab of this user."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from isthmus.lab.processes import ProcessId


class LabError(Exception):
    """The lab cannot do what was asked; the text says which part, what was seen, and what to try."""


@dataclass(frozen=True, slots=True)
class HostRecord:
    """One host of a lab as other processes need to know it."""

    name: str
    holder: ProcessId
    port: str
    v4: str | None
    v6: str | None

    @property
    def addresses(self) -> tuple[str, ...]:
        """The host's addresses, IPv4 first."""
        return tuple(address for address in (self.v4, self.v6) if address)


@dataclass(frozen=True, slots=True)
class LabRecord:
    """One lab: who owns it, its leader, its hosts, and the environment its commands get."""

    name: str
    owner: ProcessId
    leader: ProcessId
    rootless: bool
    hosts: Mapping[str, HostRecord] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def alive(self) -> bool:
        """Whether the lab's namespaces still exist."""
        return self.leader.alive


def directory() -> Path:
    """Where this user's records are: $ISTHMUS_LAB_DIR, else a per-user run directory."""
    if chosen := os.environ.get("ISTHMUS_LAB_DIR"):
        return Path(chosen)
    if os.geteuid() == 0:
        return Path("/run/isthmus-lab")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "isthmus-lab" if runtime else Path.home() / ".cache" / "isthmus-lab"


def lab_directory(name: str) -> Path:
    """The directory of one lab: its record and its logs."""
    return directory() / name


def save(record: LabRecord) -> None:
    """Write a lab's record so that a reader never sees half of it."""
    home = lab_directory(record.name)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = home / ".record.json"
    fresh.write_text(json.dumps(asdict(record), indent=1, sort_keys=True) + "\n")
    fresh.replace(home / "record.json")


def load(name: str) -> LabRecord | None:
    """Read a lab's record; None when there is none, or none that can be read."""
    try:
        document = json.loads((lab_directory(name) / "record.json").read_text())
        return _record(document)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def running() -> tuple[LabRecord, ...]:
    """The labs that stand now; what a crashed lab left behind is removed on the way."""
    home = directory()
    names = sorted(entry.name for entry in home.iterdir() if entry.is_dir()) if home.is_dir() else []
    found = []
    for name in names:
        record = load(name)
        if record is not None and record.alive:
            found.append(record)
        elif record is not None:
            remove(name)
    return tuple(found)


def remove(name: str) -> None:
    """Remove a lab's directory, and the common one when it was the last."""
    shutil.rmtree(lab_directory(name), ignore_errors=True)
    try:
        directory().rmdir()
    except OSError:
        return  # other labs still live there


def choose(name: str | None) -> LabRecord:
    """The running lab with this name, or the only one when no name is given."""
    labs = running()
    if name is not None:
        for record in labs:
            if record.name == name:
                return record
        known = ", ".join(record.name for record in labs) or "none"
        raise LabError(f"no lab named {name!r} is running (running: {known}); try `isthmus lab list`")
    if len(labs) == 1:
        return labs[0]
    if not labs:
        raise LabError("no lab is running; start one with `isthmus lab up`")
    raise LabError(f"{len(labs)} labs are running; say which with --name: {', '.join(r.name for r in labs)}")


def _record(document: dict[str, object]) -> LabRecord:
    hosts = document["hosts"]
    environment = document["environment"]
    owner, leader = document["owner"], document["leader"]
    if not (
        isinstance(hosts, dict)
        and isinstance(environment, dict)
        and isinstance(owner, dict)
        and isinstance(leader, dict)
    ):
        raise TypeError("not a lab record")
    return LabRecord(
        name=str(document["name"]),
        owner=ProcessId(**owner),
        leader=ProcessId(**leader),
        rootless=bool(document["rootless"]),
        hosts={
            name: HostRecord(**{**host, "holder": ProcessId(**host["holder"])})
            for name, host in hosts.items()
        },
        environment=dict(environment),
    )

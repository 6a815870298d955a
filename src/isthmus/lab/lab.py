"""A lab from its owner's side: start it, ask its leader for hosts and relays, capture its cables, end it."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from isthmus.lab import namespaces, processes, records
from isthmus.lab.host import Host, Process
from isthmus.lab.processes import ProcessId, process_id
from isthmus.lab.records import HostRecord, LabError, LabRecord

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?")
LEADER_START_S = 15
REQUEST_S = 30


class Lab:
    """A running lab; the end of this object (or of its process, however it ends) is the end of the lab."""

    def __init__(self, record: LabRecord, popen: "subprocess.Popen[bytes]", channel: socket.socket) -> None:
        self._record = record
        self._popen = popen
        self._channel = channel
        self._hosts: dict[str, Host] = {}
        self._spawned: list[subprocess.Popen[bytes]] = []

    @classmethod
    def start(cls, name: str = "lab") -> Self:
        """Start an empty lab; raises LabError saying what is missing when this machine cannot."""
        if not NAME.fullmatch(name):
            raise LabError(f"lab name {name!r}: use lower-case letters, digits and '-', at most 32")
        rootless = namespaces.require_ready()
        if any(record.name == name for record in records.running()):
            raise LabError(
                f"a lab named {name!r} is running already; end it with `isthmus lab down --name {name}`"
            )
        logs = records.lab_directory(name)
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, (logs / "leader.log").open("wb") as log:
            popen = subprocess.Popen(
                [
                    *namespaces.new_lab(root=not rootless),
                    *(sys.executable, "-P", "-m", "isthmus.lab.leader", str(theirs.fileno())),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # a Ctrl-C in the terminal is for the owner, who then ends the lab
                env=namespaces.environment(sys.executable, {}),
            )
        ours.settimeout(LEADER_START_S)
        try:
            _receive(ours, logs / "leader.log")
            (leader,) = processes.children(popen.pid)
            record = LabRecord(name, process_id(os.getpid()), process_id(leader), rootless)
            records.save(record)
        except BaseException:
            ours.close()
            popen.wait(5)
            records.remove(name)
            raise
        return cls(record, popen, ours)

    @property
    def name(self) -> str:
        """The lab's name."""
        return self._record.name

    @property
    def directory(self) -> Path:
        """Where the lab's record and logs are, outside the lab."""
        return records.lab_directory(self.name)

    @property
    def hosts(self) -> Mapping[str, Host]:
        """The hosts that stand, by name."""
        return dict(self._hosts)

    def host(self, name: str, *, v4: bool = True, v6: bool = True, network: int = 0) -> Host:
        """Bring a host up and return it; a host that stands already is returned as it is."""
        if name in self._hosts:
            return self._hosts[name]
        if not NAME.fullmatch(name):
            raise LabError(f"host name {name!r}: use lower-case letters, digits and '-', at most 32")
        if not (v4 or v6):
            raise LabError(f"host {name}: it needs v4, v6 or both")
        done = self._request({"op": "host", "name": name, "v4": v4, "v6": v6, "network": network})
        holder = self._outside(done["pid"])
        record = HostRecord(name, process_id(holder), done["port"], done["v4"], done["v6"])
        self._hosts[name] = self._entry(record)
        self._record = replace(self._record, hosts={**self._record.hosts, name: record})
        records.save(self._record)
        return self._hosts[name]

    def export(self, environment: Mapping[str, str]) -> None:
        """Give these variables to every command on every host from now on."""
        self._record = replace(self._record, environment={**self._record.environment, **environment})
        self._hosts = {
            name: replace(host, environment=dict(self._record.environment))
            for name, host in self._hosts.items()
        }
        records.save(self._record)

    def forward(self, host: str, port: int, *, listen: int = 0) -> int:
        """Let 127.0.0.1:PORT of the real machine reach a lab host's port; returns PORT."""
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", listen))
            except OSError as error:
                raise LabError(f"port {listen} on 127.0.0.1: {error.strerror}; choose another") from error
            listener.listen()
            listener.setblocking(False)
            self._request(
                {"op": "forward", "address": self._hosts[host].address, "port": port}, (listener.fileno(),)
            )
            return int(listener.getsockname()[1])

    @contextlib.contextmanager
    def wire(self, host: str, path: Path) -> Iterator[Path]:
        """Capture every frame on a host's cable into a pcap file while the block runs."""
        inside = self._entry(HostRecord("lab", self._record.leader, "", None, None))
        # The file is opened out here: the lab's own namespace has another /run.
        tap = inside.spawn(inside.python("isthmus.lab.wire", self._hosts[host].record.port), log=path)
        inside.wait_until(lambda: path.stat().st_size > 0, f"the capture of {host}'s cable", timeout_s=10)
        try:
            yield path
        finally:
            tap.stop()

    def stop(self) -> None:
        """End the lab: every process, every namespace, its record and its logs."""
        self._channel.close()
        try:
            self._popen.wait(10)
        except subprocess.TimeoutExpired:
            os.kill(self._record.leader.pid, signal.SIGKILL)
            self._popen.wait(5)
        for popen in self._spawned:
            popen.wait(5)
        records.remove(self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _request(self, document: Mapping[str, Any], descriptors: tuple[int, ...] = ()) -> dict[str, Any]:
        self._channel.settimeout(REQUEST_S)
        try:
            socket.send_fds(self._channel, [json.dumps(document).encode()], descriptors)
        except OSError as error:
            raise LabError(
                f"lab {self.name}: its leader is gone ({error.strerror}); start a new lab"
            ) from error
        return _receive(self._channel, self.directory / "leader.log")

    def _entry(self, record: HostRecord) -> Host:
        environment = dict(self._record.environment)
        return Host(record, self._record.rootless, self.directory, environment, self._spawned)

    def _outside(self, inner: int) -> int:
        """The pid that a process known to the leader as `inner` has out here."""
        for parent in processes.children(self._record.leader.pid):
            for child in processes.children(parent):
                if processes.inner_pid(child, -2) == inner:
                    return child
        raise LabError(f"lab {self.name}: the holder with inner pid {inner} is gone")


def attach(name: str | None, host: str) -> Host:
    """A host of a lab that another process owns."""
    record = records.choose(name)
    if host not in record.hosts:
        known = ", ".join(sorted(record.hosts)) or "none"
        raise LabError(f"lab {record.name} has no host {host!r} (hosts: {known})")
    return Host(
        record.hosts[host], record.rootless, records.lab_directory(record.name), dict(record.environment)
    )


def down(name: str | None, *, timeout_s: float = 15) -> LabRecord:
    """End a lab that another process owns: ask the owner, and kill the leader if it does not answer."""
    record = records.choose(name)
    if record.owner.alive:
        os.kill(record.owner.pid, signal.SIGTERM)
        if _gone(record.leader, timeout_s):
            return record
    if record.leader.alive:
        os.kill(record.leader.pid, signal.SIGKILL)
        _gone(record.leader, 5)
    records.remove(record.name)
    return record


def _gone(process: ProcessId, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while process.alive:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _receive(channel: socket.socket, log: Path) -> dict[str, Any]:
    try:
        packet = channel.recv(65536)
    except TimeoutError:
        raise LabError(f"the lab's leader does not answer; its log:\n{_tail(log)}") from None
    if not packet:
        raise LabError(f"the lab's leader ended; its log:\n{_tail(log)}")
    document = json.loads(packet)
    if "error" in document:
        raise LabError(str(document["error"]))
    done: dict[str, Any] = document["done"]
    return done


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:].rstrip() if log.exists() else "(none)"


__all__ = ["Host", "Lab", "LabError", "Process", "attach", "down"]

"""The agent as a systemd unit, where systemd runs the machine."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from isthmus.agent import durable, story
from isthmus.agent.changes import Unit
from isthmus.agent.journal import Journal
from isthmus.agent.paths import Paths
from isthmus.agent.story import Say, StepFailed

NAME = "isthmus-agent.service"
_JOIN_S, _POLL_S = 60.0, 0.02
_ENDED = ("inactive", "failed")
_NOT_BEGUN = ("inactive", "")
"""A start is only queued at first, and waits there for what the unit comes after."""
JOIN_FAILED = 3
"""The agent's exit code when a join did not succeed: systemd must not try again, `join` rolls back."""


def rules_here() -> bool:
    """Whether systemd runs this machine."""
    return Path("/run/systemd/system").is_dir()


def unit(python: str) -> str:
    """The unit file. Envoy outlives the agent, so only the agent itself is stopped by its unit."""
    return f"""\
[Unit]
Description=Isthmus agent: this VM in the service mesh
Documentation=man:isthmus(1)
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={python} -m isthmus.agent
Restart=always
RestartSec=1
RestartPreventExitStatus={JOIN_FAILED}
KillMode=process
TimeoutStartSec=infinity
TimeoutStopSec=15
LimitNOFILE=65536

[Install]
WantedBy=multi-user.target
"""


def install(paths: Paths, journal: Journal) -> None:
    """Writes and enables the unit."""
    path = paths.units / NAME
    journal.record(Unit(NAME, str(path)))
    durable.write(path, unit(sys.executable).encode(), 0o644)
    _systemctl("daemon-reload")
    _systemctl("enable", NAME)


def state() -> str:
    """What systemd says of the agent: active, activating, inactive, failed, …"""
    done = subprocess.run(
        ["systemctl", "is-active", NAME], capture_output=True, text=True, timeout=10, check=False
    )
    return done.stdout.strip()


def notify(*lines: str) -> None:
    """Tells systemd how the agent is; says nothing where nobody listens (sd_notify(3))."""
    where = os.environ.get("NOTIFY_SOCKET")
    if not where:
        return
    address = "\0" + where[1:] if where.startswith("@") else where
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
            notifier.sendto("\n".join(lines).encode(), address)
    except OSError:
        return


def stop() -> None:
    """Stops the agent, if systemd runs it."""
    with contextlib.suppress(FileNotFoundError, subprocess.TimeoutExpired):
        subprocess.run(["systemctl", "stop", NAME], capture_output=True, timeout=30, check=False)


def follow(paths: Paths, journal: Journal, say: Say) -> None:
    """Lets systemd run the agent, and repeats what it tells until it has joined; else StepFailed."""
    (paths.story).unlink(missing_ok=True)
    if journal.joined:
        journal.close()
        _systemctl("start", NAME)
        return
    install(paths, journal)
    # the agent needs the journal now; it is taken again if this has to be rolled back
    journal.close()
    _systemctl("start", "--no-block", NAME)
    seen, begun, deadline = 0, False, time.monotonic() + _JOIN_S
    while time.monotonic() < deadline:
        now = state()
        begun = begun or now not in _NOT_BEGUN
        for step, text in story.read_along(paths.story, seen):
            seen += 1
            if step == "failed":
                stop()
                raise StepFailed(*json.loads(text))
            say(step, text)
            if step == "joined":
                return
        if begun and now in _ENDED:
            break
        time.sleep(_POLL_S)
    stop()
    raise StepFailed("agent", "systemd's agent did not come up", f"journalctl -u {NAME} tells why")


def _systemctl(*arguments: str) -> None:
    done = subprocess.run(["systemctl", *arguments], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        words = " ".join(done.stderr.split())
        raise StepFailed("systemd", f"systemctl {' '.join(arguments)}: {words}", f"systemctl status {NAME}")

"""The agent as a systemd unit, where systemd runs the machine."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from isthmus.agent import durable
from isthmus.agent.changes import Unit
from isthmus.agent.journal import Journal
from isthmus.agent.paths import Paths
from isthmus.agent.story import StepFailed

NAME = "isthmus-agent.service"
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
    """Writes, enables and starts the unit without waiting for it."""
    path = paths.units / NAME
    journal.record(Unit(NAME, str(path)))
    durable.write(path, unit(sys.executable).encode(), 0o644)
    for arguments in (("daemon-reload",), ("enable", NAME), ("start", "--no-block", NAME)):
        done = subprocess.run(
            ["systemctl", *arguments], capture_output=True, text=True, timeout=30, check=False
        )
        if done.returncode:
            words = " ".join(done.stderr.split())
            raise StepFailed(
                "systemd", f"systemctl {' '.join(arguments)}: {words}", f"systemctl status {NAME}"
            )


def running() -> bool:
    """Whether systemd still runs, or tries to run, the agent."""
    done = subprocess.run(
        ["systemctl", "is-active", NAME], capture_output=True, text=True, timeout=10, check=False
    )
    return done.stdout.strip() in ("active", "activating", "reloading")


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

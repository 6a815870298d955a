"""The story that systemd's agent leaves for `join`, and what systemd is told."""

import socket
from pathlib import Path

import pytest

from isthmus.agent import story, systemd
from isthmus.agent.story import StepFailed, Story


def test_a_recorded_story_is_read_along(tmp_path: Path) -> None:
    path = tmp_path / "story"
    assert story.read_along(path, 0) == []
    say = story.recorder(path)
    say("envoy", "live")
    say(*story.failure_line(StepFailed("dns", "why", "hint")))
    assert story.read_along(path, 0)[0] == ("envoy", "live")
    assert story.read_along(path, 1) == [("failed", '["dns", "why", "hint"]')]


def test_each_line_has_its_step_and_its_time() -> None:
    lines: list[str] = []
    Story(lines.append)("preflight", "ok")
    assert lines[0].startswith("preflight    ok ")
    assert lines[0].endswith(" s")


def test_systemd_is_told_where_it_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    systemd.notify("READY=1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        systemd.notify("READY=1", "STATUS=fine")
        assert listener.recv(100) == b"READY=1\nSTATUS=fine"


def test_the_unit_leaves_envoy_alone_and_does_not_repeat_a_failed_join() -> None:
    unit = systemd.unit("/opt/isthmus/bin/python")
    for line in (
        "Type=notify",
        "KillMode=process",
        "Restart=always",
        f"RestartPreventExitStatus={systemd.JOIN_FAILED}",
        "ExecStart=/opt/isthmus/bin/python -m isthmus.agent",
    ):
        assert line in unit.splitlines()


def test_systemd_never_gives_up() -> None:
    section = systemd.unit("python").partition("[Service]")[0]
    assert "StartLimitIntervalSec=0" in section.splitlines()

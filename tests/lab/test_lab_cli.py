"""`isthmus lab` from a shell: up, list, exec, down."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from isthmus.lab import namespaces

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(
        bool(namespaces.preflight(root=os.geteuid() == 0)), reason="this machine can run no lab"
    ),
]


def isthmus(home: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", "from isthmus.cli.main import main; main()", "lab", *arguments]
    environment = {**os.environ, "ISTHMUS_LAB_DIR": str(home)}
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=15,
        env=environment,
        stdin=subprocess.DEVNULL,
    )


def test_a_detached_lab_lives_until_it_is_ended(tmp_path: Path) -> None:
    up = isthmus(tmp_path, "up", "--detach", "--no-control-plane", "--name", "cli", "--hosts", "a,six:v6")
    try:
        assert up.returncode == 0, up.stderr
        assert "lab cli is up" in up.stdout
        listed = isthmus(tmp_path, "list").stdout
        assert "cli  (leader " in listed
        assert "six           fd99::11\n" in listed
        ran = isthmus(tmp_path, "exec", "a", "--", "sh", "-c", "hostname; exit 5")
        assert (ran.stdout, ran.returncode) == ("a\n", 5)
        wrong = isthmus(tmp_path, "exec", "b", "true")
        assert (wrong.returncode, wrong.stderr) == (1, "Error: lab cli has no host 'b' (hosts: a, six)\n")
    finally:
        down = isthmus(tmp_path, "down")
    assert down.stdout == "lab cli is gone\n"
    assert isthmus(tmp_path, "list").stdout == ""


def test_a_wrong_wish_leaves_no_lab(tmp_path: Path) -> None:
    up = isthmus(tmp_path, "up", "--no-control-plane", "--hosts", "a:v5")
    assert up.returncode == 1
    assert "after the colon comes v4 or v6" in up.stderr
    assert isthmus(tmp_path, "list").stdout == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_foreground_lab_ends_with_its_signal(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", "from isthmus.cli.main import main; main()", "lab", "up"]
    with subprocess.Popen(
        [*command, "--no-control-plane", "--hosts", "a"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "ISTHMUS_LAB_DIR": str(tmp_path / "labs")},
    ) as up:
        assert up.stdout is not None
        for line in up.stdout:
            if "is up" in line:
                break
        up.send_signal(number)
        assert up.wait(60) == 0
    assert not (tmp_path / "labs").exists()

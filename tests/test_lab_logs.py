"""A failing test is shown with what the hosts of its lab wrote while it ran, and with nothing older."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(60)

CONFTEST = """
import pytest
from lab_logs import LabLogs
def pytest_configure(config): config.pluginmanager.register(LabLogs(config.rootpath / "tmp"))
"""
SUITE = """
from pathlib import Path
LOG = Path("tmp/labs0/town/control.log")
def write(text):
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("a") as log: log.write(text)
def test_a_calm_one(): write("calm words\\n")
def test_that_fails():
    write("".join(f"line {number}\\n" for number in range(60)))
    assert False
def test_that_fails_with_nothing_written(): assert False
"""


def test_a_failure_is_shown_with_the_new_lines_of_its_lab(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_a.py").write_text(SUITE)
    plain = {
        "PYTHONPATH": str(Path(__file__).parent),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_ADDOPTS": "",
    }
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", str(tmp_path)]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | plain, capture_output=True, text=True, check=False
    )
    told = done.stdout.splitlines()
    assert "2 failed, 1 passed" in done.stdout
    assert [line.strip("- ") for line in told if "control.log" in line] == ["lab town: control.log"]
    # the last forty of sixty lines, and none of the calm test
    shown = [line for line in told if line.startswith("line ")]
    assert shown == [f"line {number}" for number in range(20, 60)]
    assert "calm words" not in done.stdout

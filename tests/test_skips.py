"""A run in which something was skipped: told in a line, or failed where nothing may be skipped."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from skips import NO_SKIPS

pytestmark = pytest.mark.timeout(60)

CONFTEST = "from skips import Skips\ndef pytest_configure(config): config.pluginmanager.register(Skips())\n"
SUITE = """
import pytest
@pytest.mark.skipif(True, reason="needs a moon")
@pytest.mark.parametrize("number", range(3))
def test_tides(number): pass
def test_early(): pytest.skip("too early")
def test_fine(): pass
@pytest.mark.xfail(reason="known")
def test_known(): assert False
"""
IMPORTING = "import pytest\npytest.importorskip('isthmus_of_the_moon')\ndef test_it(): pass\n"
ALLOWED = "import pytest\n@pytest.mark.parametrize('case', [])\ndef test_istio_cases(case): pass\n"
_PLAIN = {
    "PYTHONPATH": str(Path(__file__).parent),
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTEST_ADDOPTS": "",
}


def run(directory: Path, files: dict[str, str], no_skips: str = "") -> "subprocess.CompletedProcess[str]":
    """pytest on some files, with our plugin and nothing else of ours."""
    for name, text in {"conftest.py": CONFTEST, **files}.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q"],
        cwd=directory,
        env=os.environ | {**_PLAIN, NO_SKIPS: no_skips},
        capture_output=True,
        text=True,
        check=False,
    )


def test_skips_are_summarised(tmp_path: Path) -> None:
    done = run(tmp_path, {"test_a.py": SUITE})
    assert done.returncode == 0, done
    assert "not tested here: 3: needs a moon; 1: too early\n" in done.stdout


def test_skips_fail_a_run_that_may_have_none(tmp_path: Path) -> None:
    done = run(tmp_path, {"test_a.py": SUITE, "test_b.py": IMPORTING}, "1")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done
    assert "test_a.py::test_tides: 3: needs a moon\n" in done.stdout
    assert "test_a.py::test_early: 1: too early\n" in done.stdout
    assert "test_b.py: 1: could not import 'isthmus_of_the_moon'" in done.stdout
    assert "known" not in done.stdout.partition(NO_SKIPS)[2]


def test_what_may_be_skipped_does_not(tmp_path: Path) -> None:
    done = run(
        tmp_path, {"tests/api/test_api_public_cases.py": ALLOWED, "test_a.py": "def test(): pass"}, "1"
    )
    assert done.returncode == 0, done
    assert "not tested here: 1: got empty parameter set" in done.stdout

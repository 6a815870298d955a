"""What all tests share: `--update-goldens`, a standing clock, an authority."""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from isthmus.identity.ca import Authority
from lab_logs import LabLogs
from skips import Skips
from standing_clock import Clock

# speed is measured by `make bench`: a busy machine must not fail a property
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# what failed there fails again here: the Makefile fixes the order in the same case
settings.register_profile("ci", settings.get_profile("patient"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-goldens", action="store_true", help="write what is made now as what is expected"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Skips())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    seed = terminalreporter.config.getoption("randomly_seed", None)
    if exitstatus and seed is not None:
        terminalreporter.line(f"the same tests in the same order: --randomly-seed={seed}")


@pytest.fixture(scope="session", autouse=True)
def no_default_loop() -> None:
    """Nobody gets an event loop by asking the policy: pytest-asyncio would leave that one unclosed."""
    asyncio.set_event_loop(None)


@pytest.fixture(scope="session", autouse=True)
def lab_logs(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Failures are shown with what the hosts of labs wrote meanwhile."""
    pytestconfig.pluginmanager.register(LabLogs(tmp_path_factory.getbasetemp()))


@pytest.fixture
def update_goldens(request: pytest.FixtureRequest) -> bool:
    """Whether goldens are to be written instead of compared."""
    return bool(request.config.getoption("--update-goldens"))


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime.now(UTC).replace(microsecond=0))


@pytest.fixture
def authority(tmp_path: Path, clock: Clock) -> Authority:
    return Authority.open(tmp_path / "ca", "cluster.local", clock)

"""What the hosts of a lab wrote during a failing test -> shown with the failure: the labs are gone then.

---- lab scenarios: control.log ----
14:02:11 WARNING xds late node=vm …
"""

from collections.abc import Generator
from pathlib import Path

import pytest

LINES = 40
"""So many of each log's last lines."""


class LabLogs:
    """A plugin: where the logs under `directory` stood when a test began, and what came after."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._began: dict[Path, int] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        self._began = {path: path.stat().st_size for path in self._logs()}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if report.failed:
            report.sections += [
                (f"lab {path.parent.name}: {path.name}", text)
                for path in self._logs()
                if (text := self._written(path))
            ]
        return report

    def _logs(self) -> list[Path]:
        return sorted({*self._directory.glob("labs*/*/*.log"), *self._directory.glob("*/labs/*/*.log")})

    def _written(self, path: Path) -> str:
        with path.open("rb") as log:
            log.seek(self._began.get(path, 0))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-LINES:])

"""Skipped tests -> one line with their reasons; where nothing may be skipped, a failed run.

A machine without root, namespaces or a network skips what needs them. Where everything is there, as in
`.ci/run` (ISTHMUS_TEST_NO_SKIPS=1), a skip means that something was not tested, and fails the run.
"""

import os
from collections import Counter

import pytest

NO_SKIPS = "ISTHMUS_TEST_NO_SKIPS"
ALLOWED = {
    "tests/api/test_api_public_cases.py::test_istio_cases": "a sample of Istio's cases beside the checkout",
    "tests/api/test_api_samples.py": "a copy of Istio's samples, named by ISTHMUS_SAMPLES",
    "tests/routing/test_routing_sample.py": "a sample of Istio's cases beside the checkout",
}
"""Tests that may be skipped even then, and what they need."""


class Skips:
    """A plugin: notes every skip, and tells of them at the end."""

    def __init__(self) -> None:
        self._reasons: Counter[tuple[str, str]] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._untested and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._untested:
            terminalreporter.section(f"{NO_SKIPS} is set, and these were skipped", red=True)
            for (file, reason), count in sorted(self._untested.items()):
                terminalreporter.line(f"{file}: {count}: {reason}", red=True)
        elif self._reasons:
            by_reason: Counter[str] = Counter()
            for (_, reason), count in self._reasons.items():
                by_reason[reason] += count
            told = "; ".join(f"{count}: {reason}" for reason, count in by_reason.most_common())
            terminalreporter.line(f"not tested here: {told}")

    @property
    def _untested(self) -> dict[tuple[str, str], int]:
        return {
            where: count
            for where, count in self._reasons.items()
            if os.environ.get(NO_SKIPS) and not where[0].startswith(tuple(ALLOWED))
        }

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            where = report.nodeid.partition("[")[0]
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self._reasons[where, reason.removeprefix("Skipped: ").partition("\n")[0]] += 1

"""Istio's own cases, where the folder with the sample stands beside the repository.

A case that needs what translation does not have yet is marked as failing, strictly: a mark goes with its gap.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from routing_cases import judge

SAMPLE = Path(__file__).parents[3] / "shared" / "cases" / "routing_sample.json"


def _cases() -> Sequence[Any]:
    if not SAMPLE.exists():
        return [pytest.param({}, id="none", marks=pytest.mark.skip(f"{SAMPLE} is not there"))]
    return [pytest.param(case, id=case["id"]) for case in json.loads(SAMPLE.read_text())]


@pytest.mark.parametrize("case", _cases())
def test_sample(case: dict[str, Any]) -> None:
    verdict = judge(case)
    assert verdict.passed, f"{case['call']}: {dict(verdict.differences)}, decided {verdict.got}"

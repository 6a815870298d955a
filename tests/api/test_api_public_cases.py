"""Istio's own cases, where a copy of them lies beside the checkout: what it refuses and accepts, so do we.

Ours, which a clone has, are in test_api_cases.py.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from isthmus.api.codec import decode, encode
from isthmus.api.inspection import inspected

CASES = Path(__file__).parents[3] / "shared" / "cases"


def cases() -> list[Any]:
    """Every case of the samples, none without them."""
    return [
        pytest.param(case["object"], case["expect"], id=case["id"])
        for name in ("webhook_sample.json", "crd_sample.json")
        if (CASES / name).exists()
        for case in json.loads((CASES / name).read_text())
    ]


@pytest.mark.parametrize(("doc", "expect"), cases())
def test_istio_cases(doc: dict[str, Any], expect: dict[str, Any]) -> None:
    problems, (obj, _) = inspected(doc), decode(doc)
    refused = [problem for problem in problems if problem.severity == "error"]
    assert bool(refused) != expect["valid"], problems
    assert (expect["errorContains"] or "").lower() in " ".join(map(str, refused)).lower()
    if refused:
        return
    told = [str(problem) for problem in problems]
    if expect.get("warning") is not None:
        assert bool(told) == expect["warning"], told
    assert (expect.get("warningContains") or "").lower() in " ".join(told).lower()
    assert obj is not None
    assert encode(obj, doc["apiVersion"])["spec"] == doc["spec"]

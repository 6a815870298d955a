"""Documents of each kind, right and wrong: what is refused or told, at which field, in which words.

A file of cases/ holds the cases of a kind. `refused` and `warned` have each field of which something is said,
and part of what is said; nothing else may be said.
"""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from isthmus.api.codec import decode, encode
from isthmus.api.inspection import inspected
from isthmus.api.meta import Problem

CASES = Path(__file__).with_name("cases")


def cases() -> list[Any]:
    """Every case of every file."""
    yaml = YAML(typ="safe", pure=True)
    return [
        pytest.param(whole | case, id=f"{path.stem}: {case['what']}")
        for path in sorted(CASES.glob("*.yaml"))
        for whole in [yaml.load(path)]
        for case in whole["cases"]
    ]


@pytest.mark.parametrize("case", cases())
def test_cases(case: dict[str, Any]) -> None:
    metadata = {"name": "a", "namespace": "kitchen", **case.get("metadata", {})}
    document = {"apiVersion": case["apiVersion"], "kind": case["kind"], "metadata": metadata}
    document["spec"] = {**case["spec"]}
    problems, (obj, _) = inspected(document), decode(document)
    for severity, expected in (("error", case.get("refused", {})), ("warning", case.get("warned", {}))):
        told = [problem for problem in problems if problem.severity == severity]
        assert {problem.field for problem in told} == expected.keys(), [*map(str, told)]
        for field, words in expected.items():
            assert any(words in text(problem) for problem in told if problem.field == field), told
    if obj is not None:
        assert encode(obj, case["apiVersion"])["spec"] == document["spec"]


def text(problem: Problem) -> str:
    """All that is said of a field."""
    return f"{problem.text} ({problem.hint})"


def test_every_kind_has_right_and_wrong_ones() -> None:
    by_kind: dict[str, list[bool]] = {}
    for parameters in cases():
        (case,) = parameters.values
        by_kind.setdefault(case["kind"], []).append("refused" in case)
    assert len(by_kind) >= 10
    assert all(refused.count(False) >= 2 and refused.count(True) >= 5 for refused in by_kind.values())

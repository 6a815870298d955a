"""`python tests/routing/run_cases.py CASES.json… [-k NAME] [-v]`: each case, passed or not, and a summary."""

import argparse
import json
import sys
import traceback
from collections import Counter
from pathlib import Path

from routing_cases import Case, Verdict, judge


def main() -> int:
    """Runs the cases; 0 when all of them passed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("files", nargs="+", type=Path, metavar="CASES.json")
    arguments.add_argument("-k", default="", metavar="NAME", help="only cases with this in their id or names")
    arguments.add_argument("-v", action="store_true", help="tell what was decided, and the configuration")
    given = arguments.parse_args()
    cases: list[Case] = [case for path in given.files for case in json.loads(path.read_text())]
    passed: Counter[str] = Counter()
    total: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for case in cases:
        name = " ".join(filter(None, (case["id"], case.get("case"), case.get("call_name"))))
        if given.k.lower() not in name.lower():
            continue
        group = case.get("area") or case["id"].split("/")[0]
        total[group] += 1
        try:
            verdict = judge(case)
        except Exception:
            _say(f"FAIL  {name}\n      " + traceback.format_exc(limit=-3).replace("\n", "\n      "))
            continue
        passed[group] += verdict.passed
        _say(f"{'pass' if verdict.passed else 'FAIL'}  {name}")
        for fault in verdict.faults:
            refused[fault] += 1
        if not verdict.passed:
            _explain(case, verdict)
        if given.v:
            _say(f"      decided: {verdict.got}\n      wanted: {case['result']}")
            _say(f"{case.get('config') or ''}\n---\n{case.get('kubeConfig') or ''}")
    if refused:
        _say("\nrefused by validation, rendered all the same (cases, what):")
    for fault, count in refused.most_common():
        _say(f"{count:4}  {fault}")
    _say("")
    for group in total:
        _say(f"{passed[group]:4} of {total[group]:4}  {group}")
    _say(f"{passed.total():4} of {total.total():4}")
    return 0 if passed.total() == total.total() else 1


def _explain(case: Case, verdict: Verdict) -> None:
    _say(f"      call: {json.dumps({k: v for k, v in case['call'].items() if v})}")
    for field, (wanted, got) in verdict.differences.items():
        _say(f"      {field}: wanted {wanted!r}, got {got!r}")
    for fault in verdict.faults:
        _say(f"      refused: {fault}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())

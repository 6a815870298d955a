"""How much the canary may hold, where the control plane has a limit of its own."""

import os
from pathlib import Path

from isthmus.server.canary_memory import MOST, allowed, resident


def _groups(directory: Path, **limits: str) -> tuple[Path, Path]:
    """A process in the group /machine/serve, with these limits by level."""
    own, tree = directory / "cgroup", directory / "tree"
    own.write_text("0::/machine/serve\n")
    (tree / "machine" / "serve").mkdir(parents=True)
    for level, text in limits.items():
        path = {"machine": tree / "machine", "serve": tree / "machine" / "serve"}[level]
        (path / "memory.max").write_text(f"{text}\n")
    return own, tree


def test_half_of_the_smallest_limit_above(tmp_path: Path) -> None:
    own, tree = _groups(tmp_path, machine=str(300 << 20), serve=str(1 << 30))
    assert allowed(MOST, own, tree) == 150 << 20


def test_no_limit_leaves_the_usual_one(tmp_path: Path) -> None:
    assert allowed(MOST, *_groups(tmp_path, machine="max")) == MOST
    assert allowed(MOST, tmp_path / "none", tmp_path) == MOST


def test_what_a_process_holds() -> None:
    assert resident(os.getpid()) > 1 << 20
    assert resident(0) == 0

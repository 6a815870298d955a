"""What a join tells while it happens, and how it fails: a line a step, each with its time."""

import json
import time
from collections.abc import Callable
from pathlib import Path

Say = Callable[[str, str], None]
"""Tells one step: its name and what came of it."""


class StepFailed(Exception):
    """A step of join or leave did not succeed: which, why, and what a person can do about it."""

    def __init__(self, step: str, why: str, hint: str) -> None:
        super().__init__(f"{step}: {why}")
        self.step, self.why, self.hint = step, why, hint


class Story:
    """Says lines through `write`, with the seconds since it began."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._began = time.monotonic()

    def __call__(self, step: str, text: str) -> None:
        self._write(f"{step:<12} {text:<74} {self.elapsed_s:5.2f} s")

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._began


def recorder(path: Path) -> Say:
    """Says into a file, from which another process (`join`, while systemd runs the agent) reads along."""

    def say(step: str, text: str) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([step, text]) + "\n")

    return say


def failure_line(error: StepFailed) -> tuple[str, str]:
    """A failure as a recorded line."""
    return "failed", json.dumps([error.step, error.why, error.hint])


def read_along(path: Path, seen: int) -> list[tuple[str, str]]:
    """The recorded lines after the first `seen`."""
    try:
        lines = path.read_text("utf-8").splitlines()[seen:]
    except FileNotFoundError:
        return []
    return [(step, text) for step, text in map(json.loads, lines)]

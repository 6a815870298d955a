"""What happens becomes lines with the time at which it happened."""

import time
from collections.abc import Callable, Iterable


class Narration:
    """Tells a story through `write`, each line with the seconds since it began."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._began = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the story began."""
        return time.monotonic() - self._began

    def chapter(self, number: int, title: str) -> None:
        """Begin one of the story's steps."""
        self._write(f"\n{self._clock()}  {number}. {title}")

    def line(self, text: str) -> None:
        """Tell one thing that has happened."""
        self._write(f"{self._clock()}     {text}")

    def quote(self, lines: Iterable[str]) -> None:
        """Show what a command printed, as it printed it."""
        for text in lines:
            self._write(f"{'':10}     │ {text}")

    def _clock(self) -> str:
        return f"[{self.elapsed_s:6.1f} s]"

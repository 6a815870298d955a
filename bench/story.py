"""The demonstration, from nothing to its last sentence."""

import time
from collections.abc import Iterator

from bench.distribution import Bar, row
from isthmus.demo import story
from isthmus.demo.narration import Narration
from isthmus.lab.lab import Lab


def run() -> Iterator[str]:
    """The row of this section."""
    started = time.monotonic()
    with Lab.start("bench-story") as lab:
        story.tell(lab, Narration(lambda text: None))
        yield row("demonstration: start to last sentence", [time.monotonic() - started], "s", Bar(90))

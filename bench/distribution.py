"""Samples -> one line of a table, judged by what was aimed at."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bar:
    """What the median is to be, in the unit of the samples: no more than this, or at least this."""

    limit: float
    at_least: bool = False

    def verdict(self, median: float) -> str:
        """The bar, and whether it was held."""
        held = median >= self.limit if self.at_least else median <= self.limit
        return f"{'>=' if self.at_least else '<='} {self.limit:g} {'held' if held else 'MISSED'}"


def row(name: str, samples: Sequence[float], unit: str, bar: Bar | None = None, *, note: str = "") -> str:
    """`name`, count, minimum, median, 90th percentile, maximum; whether the median holds the bar."""
    ordered = sorted(samples)
    median = statistics.median(ordered)
    p90 = ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
    cells = "  ".join(f"{figure:9.1f}" for figure in (ordered[0], median, p90, ordered[-1]))
    judged = "; ".join(filter(None, (bar.verdict(median) if bar else "", note)))
    return f"{name:<52} {len(ordered):>5}  {cells}  {unit:<4} {judged}"


HEADER = f"{'':<52} {'n':>5}  {'min':>9}  {'median':>9}  {'p90':>9}  {'max':>9}"
"""The head over rows."""

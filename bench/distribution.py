"""Samples -> one line of a table."""

import statistics
from collections.abc import Sequence


def row(name: str, samples: Sequence[float], unit: str, target: str = "") -> str:
    """`name`, count, minimum, median, 90th percentile, maximum; the target only stands beside."""
    ordered = sorted(samples)
    p90 = ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
    figures = (ordered[0], statistics.median(ordered), p90, ordered[-1])
    cells = "  ".join(f"{figure:9.1f}" for figure in figures)
    return f"{name:<52} {len(ordered):>5}  {cells}  {unit:<4} {target}"


HEADER = f"{'':<52} {'n':>5}  {'min':>9}  {'median':>9}  {'p90':>9}  {'max':>9}"
"""The head over rows."""

"""Commits -> the problems of all objects, a few milliseconds at a time.

    commit ─▶ what it touched ─▶ rehearsal: small questions, as many as a turn has time for ┐
    others have the event loop ◀── next turn ◀──────────────────────────────────────────────┤
                                                  the whole answer, mostly known by then ◀──┘

Analysis looks at everything together. When thousands of objects come at once it is seconds of work, in which
nobody would be answered if it were one piece. What a commit changes between two turns is rehearsed, too.
Where others keep the event loop busy, they have twice the time of a turn before the next.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from isthmus.api.meta import Key, Problem
from isthmus.clock import rest_s
from isthmus.engine import Engine, Reader

Problems = Mapping[Key, tuple[Problem, ...]]
ProblemsQuery = Callable[[Reader], Problems]
Rehearsal = Callable[[Reader, Collection[Key]], Iterator[None]]
"""Asks for what the problems of these objects are made of, and yields between one question and the next."""

SHARE = 0.1
"""Of the time, at most, for what analysis makes of one commit after the other."""
TURN_S = 0.01
"""After this long, the rest is for later turns of the event loop."""
BUSY_SHARE = 1 / 3
"""Of the time, for turns of one pass while others have something to do."""
_LATE_S = 0.002
"""A turn that begins so much later than it may had to wait for others."""
_FEW = 100
"""So many objects that changed meanwhile need no rehearsal."""


class Analysis:
    """What is known to be wrong: `problems`, which are of `revision`."""

    def __init__(
        self,
        engine: Engine,
        query: ProblemsQuery,
        rehearsal: Rehearsal,
        *,
        now: Callable[[], float],
        failed: Callable[[str], None],
    ) -> None:
        """`failed` hears, while the exception is handled, of queries that raised."""
        self.problems: Problems = {}
        self.revision = -1
        self.spent_s = 0.0
        self._engine = engine
        self._query = query
        self._rehearsal = rehearsal
        self._now = now
        self._failed = failed
        self._touched: dict[Key, None] = {}
        self._pass: Iterator[None] | None = None
        self._took_s = 0.0
        """By the pass that is under way."""
        self._begin_at = 0.0

    def touch(self, keys: Iterable[Key]) -> None:
        """These objects came, changed or went."""
        self._touched.update(dict.fromkeys(keys))

    def turn(self) -> None:
        """Goes on for one turn, if there is something to find out and the last pass has been rested from."""
        began = self._now()
        if began < self._begin_at:
            return
        busy = self._pass is not None and began - self._begin_at > _LATE_S
        if self._pass is None:
            if self._engine.revision == self.revision:
                return
            self._pass, self._took_s = self._whole_pass(), 0.0
        try:
            over = not any(self._now() - began >= TURN_S for _ in self._pass)
        except Exception:  # a bug of ours: what was known last is still the best answer
            self._failed("analysis")
            self.revision, over = self._engine.revision, True
        took = self._now() - began
        self.spent_s += took
        self._took_s += took
        if over:
            self._pass = None
        rest = rest_s(self._took_s, SHARE) if over else rest_s(took, BUSY_SHARE, free_s=0) if busy else 0.0
        self._begin_at = self._now() + rest

    def next_in_s(self) -> float | None:
        """How long until the next turn; None when everything committed has been seen."""
        if self._pass is None and self.revision == self._engine.revision:
            return None
        return max(0.0, self._begin_at - self._now())

    def _whole_pass(self) -> Iterator[None]:
        while True:
            touched, self._touched = self._touched, {}
            yield from self._rehearsal(self._engine, touched)
            if len(self._touched) <= _FEW:
                break
        self.problems, self.revision = self._engine(self._query), self._engine.revision

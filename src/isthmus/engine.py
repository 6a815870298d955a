"""Committed inputs + pure queries -> answers, with as little work as possible.

    commit(inputs) -- marks every transitive reader "maybe stale", and tells it by which of its reads
    engine(query, *args) -- pulls the truth: re-checks those reads, re-runs only where one changed
    an equal result keeps its old revision, so nothing above it runs (early cutoff)
    collect() -- forgets the cells that no root has reached since the last collection

A query is a synchronous, deterministic, total function of a `Reader` and small hashable arguments.
It sees nothing but what it reads through the reader, so every dependency is recorded and none can be
forgotten. One task owns an engine; it is not thread-safe.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

ABSENT: None = None
"""What an input reads as before its first commit and after its removal."""


class Reader(Protocol):
    """What a query may do: read inputs and ask other queries. Nothing else."""

    def input(self, *args: Hashable) -> Any:
        """The committed value under these arguments, None when there is none."""

    def __call__(self, query: "Callable[Concatenate[Reader, P], T]", *args: P.args, **kwargs: P.kwargs) -> T:
        """The query's answer for these arguments (positional and hashable; keywords are refused)."""


class CycleError(RuntimeError):
    """A query asked, through others, for its own answer: a bug in the queries."""


@dataclass(slots=True, eq=False)
class Cell:
    """One answer: an input (query is None), or a pure query applied to arguments."""

    query: Callable[..., Any] | None
    args: tuple[Hashable, ...]
    value: Any = None
    changed: int = 0
    """Revision in which the value last became different."""
    checked: int = -1
    """Revision in which it was last known to be right; -1 = never computed."""
    stale: bool = False
    running: bool = False
    reads: dict["Cell", int] = field(default_factory=dict)
    """What the last run asked for, numbered in that order."""
    suspects: set["Cell"] | None = None
    """Those of its reads that may have changed since, if any: the others need not be looked at."""
    readers: set["Cell"] = field(default_factory=set)

    def __repr__(self) -> str:
        name = "input" if self.query is None else self.query.__name__
        return f"{name}{self.args!r}"


class _Frozen:
    """The reader handed to queries: exposes reads only, so that no query can commit."""

    __slots__ = ("_engine",)

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine

    def input(self, *args: Hashable) -> Any:
        return self._engine.input(*args)

    def __call__(self, query: Callable[Concatenate[Reader, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return self._engine(query, *args, **kwargs)


class Engine:
    """Memoised queries over versioned inputs.

    `revision` counts commits, `runs` queries that ran, `checks` answers that might have changed.
    """

    def __init__(self) -> None:
        self.revision = 0
        self.runs = 0
        self.checks = 0
        self._cells: dict[tuple[Callable[..., Any] | None, tuple[Hashable, ...]], Cell] = {}
        self._running: list[Cell] = []
        self._reader = _Frozen(self)

    def commit(self, inputs: Mapping[tuple[Hashable, ...], Any]) -> int:
        """Sets inputs (None removes) in one new revision, and marks their readers. Returns the revision.

        A value equal to the committed one changes nothing.
        """
        assert not self._running, f"commit from inside a query: {self._running}"
        self.revision += 1
        for args, value in inputs.items():
            cell = self._cell(None, args)
            if cell.value != value:
                cell.value, cell.changed = value, self.revision
                self._mark_readers(cell)
        return self.revision

    def input(self, *args: Hashable) -> Any:
        """The committed value under these arguments, None when there is none."""
        return self._read(self._cell(None, args)).value

    def __call__(self, query: Callable[Concatenate[Reader, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The query's answer for these arguments."""
        assert not kwargs, "queries take positional arguments only: they are the key"
        value: T = self._read(self._cell(query, args)).value
        return value

    def changed_at(
        self, query: Callable[Concatenate[Reader, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> int:
        """The revision in which the query's answer last became different (settles it first)."""
        assert not kwargs, "queries take positional arguments only: they are the key"
        return self._read(self._cell(query, args)).changed

    def collect(self, roots: Iterable[tuple[Callable[..., Any], tuple[Hashable, ...]]]) -> int:
        """Forgets every answer that no root reads, directly or not. Returns how many were forgotten.

        Inputs stay while they hold a value: they are the world, not a cache.
        """
        assert not self._running, "collect from inside a query"
        frontier = [cell for root in roots if (cell := self._cells.get(root)) is not None]
        reached = set(frontier)
        while frontier:
            fresh = [read for read in frontier.pop().reads if read not in reached]
            reached.update(fresh)
            frontier += fresh
        dead = [
            (key, cell)
            for key, cell in self._cells.items()
            if cell not in reached and (cell.query is not None or cell.value is None)
        ]
        for key, cell in dead:
            del self._cells[key]
            for read in cell.reads:
                read.readers.discard(cell)
        return len(dead)

    def __len__(self) -> int:
        return len(self._cells)

    def _cell(self, query: Callable[..., Any] | None, args: tuple[Hashable, ...]) -> Cell:
        cell = self._cells.get((query, args))
        if cell is None:
            cell = self._cells[query, args] = Cell(query, args, stale=query is not None)
        return cell

    @staticmethod
    def _mark_readers(cell: Cell) -> None:
        frontier = [cell]
        while frontier:
            read = frontier.pop()
            for reader in read.readers:
                if reader.suspects is None:
                    reader.suspects = set()
                reader.suspects.add(read)
                if not reader.stale:
                    reader.stale = True
                    frontier.append(reader)

    def _read(self, cell: Cell) -> Cell:
        if self._running:
            reader = self._running[-1]
            if cell not in reader.reads:
                reader.reads[cell] = len(reader.reads)
                cell.readers.add(reader)
        return self._settle(cell)

    def _settle(self, cell: Cell) -> Cell:
        if cell.running:
            raise CycleError(" -> ".join(map(repr, [*self._running, cell])))
        if cell.stale:
            self.checks += 1
            if cell.checked < 0 or self._outdated(cell):
                self._run(cell)
            cell.suspects = None
            cell.stale, cell.checked = False, self.revision
        return cell

    def _outdated(self, cell: Cell) -> bool:
        # reads are re-checked in the order they were made: an earlier one decides whether a later one would
        # still be asked for, so a query never runs with arguments that no longer exist
        suspects: Collection[Cell] = cell.suspects or ()
        if len(suspects) > 1:
            suspects = sorted(suspects, key=cell.reads.__getitem__)
        return any(self._settle(read).changed > cell.checked for read in suspects)

    def _run(self, cell: Cell) -> None:
        before, cell.reads = cell.reads, {}
        self._running.append(cell)
        cell.running = True
        self.runs += 1
        assert cell.query is not None
        try:
            value = cell.query(self._reader, *cell.args)
        except BaseException:
            cell.checked = -1  # never computed: the next read runs it again
            raise
        finally:
            cell.running = False
            self._running.pop()
            for read in before.keys() - cell.reads.keys():
                read.readers.discard(cell)
        if cell.checked < 0 or value != cell.value:
            cell.value, cell.changed = value, self.revision

"""What proxies answered + what analysis found -> the conditions of every object.

    Programmed  True     every connected proxy has taken this generation, or none is connected
                         (after a start those that were count too, until they have had time to come back)
                False    a proxy, or the canary, refused a resource made from the object: its own words
                Unknown  answers are outstanding
    Resolved    True, or False with the problems that analysis found

An answer counts by revision: a proxy whose watermark is at or past the revision that brought the object's
generation into the engine has answered for all of it. An answer once given is kept: neither a proxy that
connects later nor a neighbour that spoils a shared resource (whose last good version stays) takes it back.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from isthmus.api.meta import Fact, Key, Problem
from isthmus.xds.delta import Refusal

PROGRAMMED = "Programmed"
RESOLVED = "Resolved"
_STRENGTH = {"Pending": 0, "NoProxies": 1, "Rejected": 2, "Programmed": 3}
"""What may replace what at one generation; a refusal weighs 3 that leaves a proxy without any version, or for
which the object has been set aside."""
_TOLD = 3
"""How many proxies or problems a message names before it only counts them."""


class Committed(Protocol):
    """An object as the engine has it: which generation, since which revision."""

    @property
    def uid(self) -> str: ...
    @property
    def generation(self) -> int: ...
    @property
    def revision(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Condition:
    """One Kubernetes condition, without the times."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Aside:
    """An object that everybody does without: the word for it, and what it was before, which is in force."""

    refusal: Refusal
    in_force: Fact | None
    """None: nothing of it is."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said about one generation of one object."""

    uid: str
    generation: int
    programmed: Condition
    resolved: Condition | None
    """None as long as analysis has not seen this generation."""
    strength: int = 0
    """Of `programmed`."""
    aside: Aside | None = None

    @property
    def complete(self) -> bool:
        """Whether nothing is outstanding. What an object was before is analysed while it is set aside."""
        return self.programmed.status != "Unknown" and (self.resolved is not None or self.aside is not None)


@dataclass(frozen=True, slots=True)
class Answers:
    """How far one proxy is: it has answered for every revision up to `watermark`."""

    node: str
    watermark: int
    refusals: tuple[Refusal, ...] = ()


def outweighs(new: Verdict, old_reason: str, old_generation: int) -> bool:
    """Whether the new Programmed condition may replace an old one: waiting never hides an answer."""
    if new.generation != old_generation:
        return new.generation > old_generation
    return new.strength >= _STRENGTH.get(old_reason, 0)


def verdict_on(
    committed: Committed,
    proxies: Sequence[Answers],
    refused: Sequence[tuple[str, Refusal]],
    problems: Sequence[Problem] | None,
    *,
    floor: int,
    aside: Aside | None = None,
) -> Verdict:
    """The verdict on one object: what proxies refused of it, what is wrong with it (None: not known yet).

    `floor` is the lowest watermark of the proxies. An object that is set aside is refused, whatever they say.
    """
    if aside is not None:
        refused = [(aside.refusal.by, aside.refusal)]
    programmed = _programmed(committed, proxies, refused, floor)
    bare = any(refusal.alone or not refusal.kept for _, refusal in refused)
    return Verdict(
        uid=committed.uid,
        generation=committed.generation,
        programmed=programmed,
        resolved=None if problems is None or aside is not None else _resolved(problems),
        strength=max(_STRENGTH.values()) if bare else _STRENGTH[programmed.reason],
        aside=aside,
    )


def _programmed(
    committed: Committed, proxies: Sequence[Answers], refused: Sequence[tuple[str, Refusal]], floor: int
) -> Condition:
    if refused:
        return Condition(PROGRAMMED, "False", "Rejected", _rejection(refused))
    if not proxies:
        return Condition(PROGRAMMED, "True", "NoProxies", "no proxy is connected; the next one gets it")
    if floor >= committed.revision:
        return _ALL_ANSWERED
    return Condition(PROGRAMMED, "Unknown", "Pending", waiting(committed.revision, proxies))


def waiting(revision: int, proxies: Sequence[Answers]) -> str:
    """For whom an object of this revision waits."""
    late = [proxy.node for proxy in proxies if proxy.watermark < revision]
    return f"waiting for {len(late)} of {len(proxies)} proxies: {_listed(late)}"


def _rejection(refused: Sequence[tuple[str, Refusal]]) -> str:
    node, refusal = refused[0]
    others = len({node for node, _ in refused}) - 1
    who = f"{node} and {others} more proxies" if others else node
    what = f"{refusal.type_url.rpartition('.')[2]} {refusal.name!r}"
    if refusal.alone:
        left = "what stood before stays" if refusal.kept else "it is left out"
        return f"{who} refused {what} because of this object alone ({left}): {refusal.text}"
    made_from = _listed([str(source) for source in refusal.sources])
    left = "the last good version stays" if refusal.kept else "there is no earlier version to keep"
    return f"{who} refused {what} (made from {made_from}; {left}): {refusal.text}"


def _resolved(problems: Sequence[Problem]) -> Condition:
    if not problems:
        return _ALL_RESOLVED
    return Condition(RESOLVED, "False", "Problems", _listed([str(problem) for problem in problems], "; "))


def refused_by_source(proxies: Iterable[Answers]) -> Mapping[Key, list[tuple[str, Refusal]]]:
    """What proxies refused, by the objects that it was made from."""
    found: dict[Key, list[tuple[str, Refusal]]] = defaultdict(list)
    for proxy in proxies:
        for refusal in proxy.refusals:
            for source in refusal.sources:
                found[source].append((refusal.by or proxy.node, refusal))
    return found


def _listed(texts: Sequence[str], separator: str = ", ") -> str:
    more = f"{separator}and {len(texts) - _TOLD} more" if len(texts) > _TOLD else ""
    return separator.join(texts[:_TOLD]) + more


_ALL_ANSWERED = Condition(PROGRAMMED, "True", "Programmed", "every connected proxy has taken it")
_ALL_RESOLVED = Condition(RESOLVED, "True", "Resolved", "everything it points at exists")

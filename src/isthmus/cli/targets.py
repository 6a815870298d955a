"""Words such as `vs,dr`, `vs reviews ratings`, `vs/reviews dr/reviews` -> kinds and names."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from isthmus.api.kinds import Kind


@dataclass(frozen=True, slots=True)
class Targets:
    """What is meant, in the order in which it was said; an empty name: all objects of the kind."""

    pairs: "tuple[tuple[Kind, str], ...]"

    @property
    def names(self) -> bool:
        """Whether objects are meant by their names."""
        return any(name for _, name in self.pairs)


def targets_of(words: Sequence[str]) -> Targets:
    """What people mean; UsageError where that is nothing."""
    if any("/" in word for word in words):
        if not all(word.count("/") == 1 and all(word.split("/")) for word in words):
            raise click.UsageError("either KIND NAME…, or KIND/NAME everywhere")
        return Targets(tuple((kind_of(word.split("/")[0]), word.split("/")[1]) for word in words))
    kinds, names = [kind for word in words[0].split(",") for kind in kinds_of(word)], words[1:]
    if names:
        return Targets(tuple((kind, name) for kind in kinds for name in names))
    return Targets(tuple((kind, "") for kind in kinds))


def kinds_of(word: str) -> "list[Kind]":
    """The kinds that a word stands for: one, or all of a category such as `istio-io`."""
    from isthmus.api.kinds import KINDS

    found = [kind for kind in KINDS.values() if word in kind.categories]
    return found or [kind_of(word)]


def kind_of(word: str) -> "Kind":
    """The kind that a person means; a refusal with a hint when there is none."""
    from isthmus.api.fields import nearest
    from isthmus.api.kinds import KINDS, kind_by_word

    kind = kind_by_word(word)
    if kind is None:
        hint = nearest(word, KINDS) or f"kinds are {', '.join(KINDS)}"
        raise click.UsageError(f"{word!r} is no kind: {hint}")
    return kind

"""One object -> everything about it that is wrong or doubtful, with field paths."""

from isthmus.api.meta import Object, Problem


def validate(obj: Object) -> list[Problem]:
    """The problems of one object by itself: errors refuse it, warnings are told."""
    return []

"""Host names with wildcards -> which of them cover others, as Istio reads them: by their ends.

Looking up each end of a name in a set keeps this linear, however many hosts an object lists.
"""

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet


def covering(patterns: AbstractSet[str], name: str) -> str | None:
    """One of the patterns that every host of `name` (maybe a wildcard itself) belongs to."""
    return name if name in patterns else _wider(patterns, name)


def _wider(patterns: AbstractSet[str], name: str) -> str | None:
    end = name.removeprefix("*")
    begin = 1 if name.startswith("*") else 0
    return next((found for i in range(begin, len(end) + 1) if (found := f"*{end[i:]}") in patterns), None)


def overlapping(hosts: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The hosts that stand twice or belong to another's wildcard, by index, with that other one."""
    known = set(hosts)
    first: dict[str, int] = {}
    for index, host in enumerate(hosts):
        if first.setdefault(host, index) != index:
            yield index, host
        elif other := _wider(known, host):
            yield index, other

"""Rules in their order -> warnings about those that no request reaches, as Istio finds them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, takewhile

from isthmus.api.meta import Problem
from isthmus.api.networking.virtual_service import (
    HTTPMatchRequest,
    HTTPRoute,
    L4MatchAttributes,
    TCPRoute,
    TLSMatchAttributes,
    TLSRoute,
)
from isthmus.api.rules import short, warning
from isthmus.api.shapes import StringMatch

Route = HTTPRoute | TCPRoute | TLSRoute
Match = HTTPMatchRequest | L4MatchAttributes | TLSMatchAttributes
_MOST_PAIRS = 100_000
"""Pairs of matches that are compared: enough for 447 rules, and no object takes long."""


def http(routes: Sequence[HTTPRoute]) -> Iterator[Problem]:
    """Warnings about HTTP rules."""
    yield from matches("spec.http", routes)
    yield from _overlapping(routes)


def matches(at: str, routes: Sequence[Route]) -> Iterator[Problem]:
    """Warnings about rules behind one that always matches, and about matches that were asked before."""
    catch_all: int | None = None
    rule_by_match: dict[str, int] = {}
    for index, route in enumerate(routes):
        if not route.match:
            if catch_all is not None:
                yield _unused(at, routes, index, "only the last rule can have no matches")
            catch_all = index
            continue
        repeated = 0
        asked_for: Sequence[Match] = route.match
        for number, match in enumerate(asked_for):
            if catch_all is not None:
                yield _unused(at, routes, index, "route without matches defined before")
                continue
            asked = _asked(match)
            if asked in rule_by_match:
                repeated += 1
                earlier = _name(routes, rule_by_match[asked])
                name = f"{_name(routes, index)} match {_match_name(match, number)}"
                yield _ineffective(f"{at}[{index}].match[{number}]", name, earlier)
            else:
                rule_by_match[asked] = index
        if repeated == len(route.match):
            yield _unused(at, routes, index, "all matches used by prior rules")


def _unused(at: str, routes: Sequence[Route], index: int, reason: str) -> Problem:
    text = f"is never reached: virtualService rule {_name(routes, index)} not used ({reason})"
    return warning(f"{at}[{index}]", text, "the first rule that matches wins: move it up")


def _ineffective(field: str, name: str, by: str) -> Problem:
    text = f"virtualService rule {name} is not used (duplicate/overlapping match in rule {by})"
    return warning(field, text)


def _name(routes: Sequence[Route], index: int) -> str:
    name = getattr(routes[index], "name", "")
    return f'"{short(name)}"' if name else f"#{index}"


def _match_name(match: Match, number: int) -> str:
    name = getattr(match, "name", "")
    return f'"{short(name)}"' if name else f"#{number}"


def _asked(match: Match) -> str:
    return json.dumps(match.model_dump(exclude={"name"}, exclude_defaults=True), sort_keys=True)


@dataclass(frozen=True, slots=True)
class _Prefix:
    """A match by the beginning of the path, with what else it asks."""

    index: int
    number: int
    name: str
    prefix: str
    port: int
    texts: tuple[str, ...]
    maps: tuple[dict[str, str], ...]

    def covers(self, later: "_Prefix") -> bool:
        """Whether a request that the later one asks for never gets past this one."""
        return (
            later.prefix.startswith(self.prefix)
            and later.port == self.port
            and all(mine.startswith(theirs) for mine, theirs in zip(self.texts, later.texts, strict=True))
            and all(
                mine.keys() == theirs.keys() and all(mine[key].startswith(theirs[key]) for key in mine)
                for mine, theirs in zip(self.maps, later.maps, strict=True)
            )
        )


def _overlapping(routes: Sequence[HTTPRoute]) -> Iterator[Problem]:
    for earlier, later in islice(combinations(_prefixes(routes), 2), _MOST_PAIRS):
        if later.prefix != earlier.prefix and earlier.covers(later):
            name = f"{_name(routes, later.index)} match {later.name} of prefix {short(later.prefix)}"
            by = f"{earlier.name} of prefix {short(earlier.prefix)} on {_name(routes, earlier.index)}"
            yield _ineffective(f"spec.http[{later.index}].match[{later.number}]", name, by)


def _prefixes(routes: Sequence[HTTPRoute]) -> Iterator[_Prefix]:
    seen: set[str] = set()
    for index, route in enumerate(takewhile(lambda route: route.match, routes)):
        for number, match in enumerate(route.match):
            asked = _asked(match)
            if asked in seen or match.uri is None or not match.uri.prefix:
                seen.add(asked)
                continue
            seen.add(asked)
            maps = (match.headers, match.query_params, match.without_headers)
            yield _Prefix(
                index=index,
                number=number,
                name=_match_name(match, number),
                prefix=match.uri.prefix,
                port=match.port or 0,
                texts=(_text(match.method) or "exact:GET", _text(match.authority)),
                maps=tuple({key: _text(value) for key, value in asked_of.items()} for asked_of in maps),
            )


def _text(match: StringMatch | None) -> str:
    if match and match.exact:
        return f"exact:{match.exact}"
    return f"prefix:{match.prefix}" if match and match.prefix else ""

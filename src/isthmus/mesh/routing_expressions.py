"""A regular expression -> why RE2 refuses it, as far as that can be told without RE2.

Envoy refuses a whole route table for one expression that it cannot take, so we look first. What cannot be
told here is Envoy's to say, and is reported in its words.
https://github.com/google/re2/wiki/Syntax
"""

import re

_MOST_REPEATS = 1000
"""RE2 counts nested repeats as their product."""
_LONGEST = 64 * 1024

_BEYOND_RE2 = re.compile(r"\(\?(?:[=!>(#|]|<[=!]|P[=>]|R|\d)|\\[1-9Z]|\\k[<{']|(?<!\\)(?:\\\\)*[*+?}]\+")
_TOKEN = re.compile(
    r"\\Q.*?(?:\\E|\Z)|\\.|\[\^?\]?(?:\[:\w+:\]|\\.|[^\]\\])*\]|\{\d+(?:,\d*)?\}|.", re.DOTALL
)
_REPEAT = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_CLASS_ONLY = re.compile(r"\[\^?\]?(?:\[:\w+:\]|\\.|[^\]\\])*\]", re.DOTALL)


def unusable(pattern: str) -> str:
    """Why RE2 would refuse the expression; empty when it would not, as far as can be told here."""
    if not pattern:
        return "the regular expression is empty"
    if len(pattern) > _LONGEST:
        return f"the regular expression has {len(pattern)} characters, more than {_LONGEST}"
    # a character class may hold what is special elsewhere
    found = _BEYOND_RE2.search(_CLASS_ONLY.sub("x", pattern))
    if found:
        return f"RE2 has no look-around, back references or possessive repeats: {_shown(pattern)}"
    return _repeats(pattern) or _syntax(pattern)


def _repeats(pattern: str) -> str:
    """Whether a repeat, or repeats inside one another, count more than RE2 allows."""
    # `inner[-1]` is the largest product of repeats inside the group that is open, `last` of what a repeat
    # that follows would multiply
    inner, last, opened = [1], 1, 0
    for token in _TOKEN.findall(pattern):
        if token == "(":
            inner.append(1)
            opened, last = opened + 1, 1
        elif token == ")" and opened:
            last, opened = inner.pop(), opened - 1
            inner[-1] = max(inner[-1], last)
        elif counted := _REPEAT.fullmatch(token):
            low, high = int(counted[1]), int(counted[2] or counted[1])
            if high < low:
                return f"the repeat {token} ends before it begins: {_shown(pattern)}"
            last *= max(low, high, 1)
            if last > _MOST_REPEATS:
                return f"RE2 repeats at most {_MOST_REPEATS} times: {_shown(pattern)}"
            inner[-1] = max(inner[-1], last)
        elif token not in {"*", "+", "?"}:
            last = 1
    return ""


def _syntax(pattern: str) -> str:
    translated = re.sub(r"\\Q(.*?)(?:\\E|\Z)", lambda found: re.escape(found[1]), pattern, flags=re.DOTALL)
    translated = re.sub(r"\[:\^?\w+:\]", "a", translated)
    translated = re.sub(r"\(\?P?<", "(?P<", translated).replace(r"\z", r"\Z").replace(r"\C", ".")
    translated = re.sub(r"\\x\{[0-9a-fA-F]+\}|\\[pP](?:\{\^?\w+\}|\w)", "a", translated)
    translated = re.sub(r"\(\?([imsU]+)(?:-[imsU]+)?(:|\))", _flags, translated)
    try:
        re.compile(translated)
    except re.error as error:
        # what RE2 knows under other names than Python is let through
        known = "bad escape" in str(error) or "global flags" in str(error)
        return "" if known else f"{error}: {_shown(pattern)}"
    except (RecursionError, OverflowError):
        return f"the regular expression is too large: {_shown(pattern)}"
    return ""


def _flags(found: re.Match[str]) -> str:
    return "(?:" if found[2] == ":" else ""


def _shown(pattern: str) -> str:
    return repr(pattern if len(pattern) <= 100 else f"{pattern[:100]}…")

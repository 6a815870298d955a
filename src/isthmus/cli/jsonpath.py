"""kubectl's JSON path templates: `{.items[*].metadata.name}`, `{range .items[*]}{.spec.host}{"\\n"}{end}`.

template ─▶ texts and paths ─▶ over a document ─▶ text. It reads: fields, ['fields'], [n], [a:b], [*], `..`,
`?(@.a=="b")`, range and end, "texts" (https://kubernetes.io/docs/reference/kubectl/jsonpath/).
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_PART = re.compile(r'\{((?:"(?:\\.|[^"\\])*"|\'[^\']*\'|[^{}"\'])*)\}|([^{]+)')
_STEP = re.compile(
    r"(?P<deep>\.\.)?\.?(?P<name>(?:[A-Za-z0-9_/-]|\\\.)+)|\[(?P<index>-?\d+)\]|\[(?P<from>-?\d*):(?P<to>-?\d*)\]"
    r"|\.?(?:\[\*\]|\*)(?P<all>)|\[['\"](?P<quoted>[^'\"]*)['\"]\]"
    r"|\[\?\(@(?P<path>[^=!<>)]*?)\s*(?:(?P<op>==|!=|<=|>=|<|>)\s*(?P<value>[^)]*?))?\s*\)\]"
)
Step = Callable[[Any], Iterator[Any]]
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    "<": lambda a, b: type(a) is type(b) and bool(a < b),
    "<=": lambda a, b: type(a) is type(b) and bool(a <= b),
    ">": lambda a, b: type(a) is type(b) and bool(a > b),
    ">=": lambda a, b: type(a) is type(b) and bool(a >= b),
}


class NoJsonPath(ValueError):
    """The template cannot be read; the message says where."""


def filled(template: str, document: Any) -> str:
    """The template with what its paths find; NoJsonPath."""
    parts = list(_parts(template if "{" in template else "{" + template + "}"))
    text, end = _filled(parts, 0, document, document)
    if end != len(parts):
        raise NoJsonPath("{end} without {range}")
    return text


def _parts(template: str) -> Iterator[tuple[str, str]]:
    end = 0
    for match in _PART.finditer(template):
        if match.start() != end:
            break
        end = match.end()
        yield ("text", match[2]) if match[2] is not None else ("path", match[1].strip())
    if end != len(template):
        raise NoJsonPath(f"cannot read {template[end:]!r}")


def _filled(parts: list[tuple[str, str]], begin: int, root: Any, here: Any) -> tuple[str, int]:
    text, index = "", begin
    while index < len(parts):
        sort, said = parts[index]
        index += 1
        if sort == "text":
            text += said
        elif said == "end":
            return text, index - 1
        elif said.startswith("range ") or said == "range":
            inside, end = "", index
            for item in found(said.removeprefix("range").strip(), root, here):
                part, end = _filled(parts, index, root, item)
                inside += part
            if end == index:
                _, end = _filled(parts, index, {}, {})
            if end >= len(parts):
                raise NoJsonPath("{range} without {end}")
            text, index = text + inside, end + 1
        elif said[:1] in {'"', "'"}:
            text += said[1:-1].encode().decode("unicode_escape")
        else:
            text += " ".join(map(_shown, found(said, root, here)))
    return text, index


def found(path: str, root: Any, here: Any) -> list[Any]:
    """Everything that a path leads to. A field that is not there leads nowhere."""
    values = [root if path.startswith("$") else here]
    plain = path[1:] if path[:1] in {"$", "@"} else path
    end = 0
    while end < len(plain) and plain != ".":
        match = _STEP.match(plain, end)
        if match is None or match.end() == end:
            raise NoJsonPath(f"cannot read {plain[end:]!r} of {path!r}")
        end = match.end()
        values = [item for value in values for item in _step(match, value)]
    return values


def _step(match: "re.Match[str]", value: Any) -> Iterator[Any]:
    name = match["name"].replace("\\.", ".") if match["name"] is not None else match["quoted"]
    if match["deep"]:
        yield from (each[name] for each in _every(value) if isinstance(each, Mapping) and name in each)
    elif name is not None:
        if isinstance(value, Mapping) and name in value:
            yield value[name]
    elif match["all"] is not None:
        yield from value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    elif not isinstance(value, list):
        return
    elif match["index"] is not None:
        index = int(match["index"])
        if -len(value) <= index < len(value):
            yield value[index]
    elif match["path"] is not None:
        yield from (item for item in value if _holds(match, item))
    else:
        yield from value[slice(*(int(match[end]) if match[end] else None for end in ("from", "to")))]


def _holds(match: "re.Match[str]", item: Any) -> bool:
    values = found("@" + match["path"], item, item)
    if match["op"] is None:
        return bool(values)
    try:
        wanted = json.loads(match["value"].replace("'", '"'))
    except ValueError:
        raise NoJsonPath(f"{match['value']!r} is neither a text in quotes nor a number") from None
    return bool(values) and _COMPARE[match["op"]](values[0], wanted)


def _every(value: Any) -> Iterator[Any]:
    yield value
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _every(item)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)

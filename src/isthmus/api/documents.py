"""The text of a YAML or JSON file -> its documents, and where it cannot be read, why and in which line."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from isthmus.api.plain_yaml import PlainConstructor

LARGEST = 16 << 20
"""Most values and characters of one document, its aliases written out."""
DEEPEST = 128
"""Most objects and lists inside each other."""
TOO_DEEP = f"is nested too deeply: at most {DEEPEST} levels"

_NODE = 8
"""What a value that is no text counts for."""
_MARKER = re.compile(r"^(---|\.\.\.)(?=\s|$)")
_SAYS = re.compile(r"\s*[^\s#]").match
"""Whether a line is more than a comment."""
_LINE_BREAK = re.compile(r"\r\n|\n|\r")
"""YAML's line breaks; `splitlines` knows more, which belong to texts."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file, with the line it begins in."""

    data: Mapping[str, Any]
    source: str
    line: int

    @property
    def place(self) -> str:
        """Where the document is, as editors understand it."""
        return f"{self.source}:{self.line}"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A place in a file that could not be read as a document."""

    source: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.text}"


def read_documents(text: str, source: str) -> tuple[list[Document], list[Unreadable]]:
    """All documents of a file (a `List` counts as its items), and every document that cannot be read."""
    documents: list[Document] = []
    unreadable: list[Unreadable] = []
    for line, part in _parts(text):
        try:
            data = _Plain().made(_value(part)).value
        except MarkedYAMLError as error:
            unreadable.append(_marked(error, source, line, part))
        except RecursionError:
            unreadable.append(Unreadable(source, line, TOO_DEEP))
        except (YAMLError, ValueError) as error:
            unreadable.append(Unreadable(source, line, str(error) or type(error).__name__))
        else:
            if isinstance(data, dict):
                documents += [Document(item, source, line) for item in _items(data)]
            elif data is not None:
                unreadable.append(
                    Unreadable(source, line, f"should be an object with apiVersion and kind, is {data!r:.60}")
                )
    return documents, unreadable


def _value(text: str) -> Any:
    """The value of one document. What is JSON is read as such: that is a hundred times as fast."""
    if text.lstrip()[:1] == "{":
        try:
            return json.loads(text, object_pairs_hook=_unique)
        except ValueError:
            pass  # YAML then, which can tell what is wrong and where
    return _yaml().load(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a field is given twice")
    return found


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = PlainConstructor
    return yaml


def _parts(text: str) -> Iterator[tuple[int, str]]:
    # `---` at the beginning of a line ends a document wherever it stands, so each document can be read alone
    # and a syntax error in one does not hide the mistakes of the next
    begin, lines = 1, list[str]()
    for number, line in enumerate(_LINE_BREAK.split(text.removeprefix("\ufeff")), start=1):
        marker = _MARKER.match(line)
        if marker is None:
            lines.append("" if line.startswith("%") and not any(lines) else line)
            continue
        if any(map(_SAYS, lines)):
            yield begin, "\n".join([*lines, ""])
        # what follows the marker on its line belongs to the next document
        begin, lines = number, [" " * marker.end() + line[marker.end() :]]
    yield begin, "\n".join(lines)


def _items(data: dict[str, Any]) -> list[Mapping[str, Any]]:
    items = data.get("items")
    if data.get("kind") == "List" and data.get("apiVersion") == "v1" and isinstance(items, list):
        return items
    return [data]


def _marked(error: MarkedYAMLError, source: str, begin: int, part: str) -> Unreadable:
    mark = error.problem_mark or error.context_mark
    # what is missing at the end is missing in the last line, not in the one after it
    line = begin + min(mark.line if mark else 0, part.rstrip("\n").count("\n"))
    if isinstance(error, DuplicateKeyError):
        found = re.search(r'found duplicate key "(.*?)"', str(error.problem))
        key = found[1] if found else "a key"
        return Unreadable(source, line, f"{key} is given twice in the same object: keep one of them")
    text = ", ".join(str(part) for part in (error.context, error.problem) if part)
    return Unreadable(source, line, f"not YAML: {text}")


@dataclass(frozen=True, slots=True)
class _Made:
    """A value that JSON has, with what it comes to when all aliases in it are written out."""

    value: Any
    size: int = _NODE
    height: int = 0


class _Plain:
    """Makes what JSON can say out of what YAML said. What an alias stands for is made once."""

    def __init__(self) -> None:
        self._known: dict[int, _Made] = {}

    def made(self, value: Any, depth: int = 0) -> _Made:
        """The value without YAML's own types; ValueError when it is too much, or is none that JSON has."""
        if isinstance(value, dict | list):
            found = self._known.get(id(value)) or self._of_many(value, depth)
            self._known[id(value)] = found
        elif value is None or isinstance(value, str | int | float | bool):
            found = _Made(value, _NODE + (len(value) if isinstance(value, str) else 0))
        else:
            raise ValueError(f"{value!r:.60} ({type(value).__name__}) cannot be written as JSON")
        if depth + found.height > DEEPEST:
            raise ValueError(TOO_DEEP)
        if found.size > LARGEST:
            raise ValueError(
                f"its aliases stand for more than {LARGEST >> 20} MiB: write less, or more files"
            )
        return found

    def _of_many(self, value: dict[Any, Any] | list[Any], depth: int) -> _Made:
        if depth > DEEPEST:
            raise ValueError(TOO_DEEP)
        if isinstance(value, list):
            inside = [self.made(item, depth + 1) for item in value]
            plain: Any = [item.value for item in inside]
            keys = 0
        else:
            by_name = {_key(key): self.made(item, depth + 1) for key, item in value.items()}
            inside, keys = [*by_name.values()], sum(map(len, by_name))
            plain = {name: item.value for name, item in by_name.items()}
        size = _NODE + keys + sum(item.size for item in inside)
        return _Made(plain, size, 1 + max((item.height for item in inside), default=0))


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, int | float):
        return str(key)
    raise ValueError(f"{key!r:.60} cannot be the name of a field")

"""The text of a YAML or JSON file -> its documents, and where it cannot be read, why and in which line."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError

_MARKER = re.compile(r"^(---|\.\.\.)(?=\s|$)")


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


class _PlainConstructor(SafeConstructor):
    """Times stay text: in Kubernetes' documents they are strings."""


_PlainConstructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)


def read_documents(text: str, source: str) -> tuple[list[Document], list[Unreadable]]:
    """All documents of a file (a `List` counts as its items), and every document that cannot be read."""
    documents: list[Document] = []
    unreadable: list[Unreadable] = []
    for line, part in _parts(text):
        try:
            data = _jsonable(_yaml().load(part))
        except MarkedYAMLError as error:
            unreadable.append(_marked(error, source, line))
        except (YAMLError, ValueError, RecursionError) as error:
            unreadable.append(Unreadable(source, line, str(error) or type(error).__name__))
        else:
            if isinstance(data, dict):
                documents += [Document(item, source, line) for item in _items(data)]
            elif data is not None:
                unreadable.append(
                    Unreadable(source, line, f"should be an object with apiVersion and kind, is {data!r:.60}")
                )
    return documents, unreadable


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _PlainConstructor
    return yaml


def _parts(text: str) -> Iterator[tuple[int, str]]:
    # `---` at the beginning of a line ends a document wherever it stands, so each document can be read alone
    # and a syntax error in one does not hide the mistakes of the next
    begin, lines = 1, list[str]()
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        marker = _MARKER.match(line)
        if marker is None:
            lines.append("" if line.startswith("%") and not any(lines) else line)
            continue
        yield begin, "\n".join(lines)
        # what follows the marker on its line belongs to the next document
        begin, lines = number, [" " * marker.end() + line[marker.end() :]]
    yield begin, "\n".join(lines)


def _items(data: dict[str, Any]) -> list[Mapping[str, Any]]:
    items = data.get("items")
    if data.get("kind") == "List" and data.get("apiVersion") == "v1" and isinstance(items, list):
        return items
    return [data]


def _marked(error: MarkedYAMLError, source: str, begin: int) -> Unreadable:
    mark = error.problem_mark or error.context_mark
    line = begin + (mark.line if mark else 0)
    if isinstance(error, DuplicateKeyError):
        found = re.search(r'found duplicate key "(.*?)"', str(error.problem))
        key = found[1] if found else "a key"
        return Unreadable(source, line, f"{key} is given twice in the same object: keep one of them")
    text = ", ".join(str(part) for part in (error.context, error.problem) if part)
    return Unreadable(source, line, f"not YAML: {text}")


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {_key(key): _jsonable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_jsonable(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise ValueError(f"{value!r:.60} ({type(value).__name__}) cannot be written as JSON")


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, int | float):
        return str(key)
    raise ValueError(f"{key!r:.60} cannot be the name of a field")

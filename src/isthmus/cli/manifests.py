"""Paths that a person gave -> the documents in them, and every place that cannot be read."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from isthmus.api.documents import Document, Unreadable, read_documents
from isthmus.api.kinds import KINDS

_SUFFIXES = {".yaml", ".yml", ".json"}


@dataclass(frozen=True, slots=True)
class Manifests:
    """What was read, in the order in which it was given."""

    documents: Sequence[Document]
    unreadable: Sequence[Unreadable]


def read_manifests(sources: Iterable[str], namespace: str, *, recursive: bool = False) -> Manifests:
    """All documents of files, directories (their YAML and JSON files) and `-`.

    A document without a namespace gets the given one. `recursive` takes directories with those in them.
    """
    documents: list[Document] = []
    unreadable: list[Unreadable] = []
    for source in sources:
        for name, text in _texts(source, unreadable, recursive=recursive):
            found, faults = read_documents(text, name)
            documents += [_placed(document, namespace) for document in found]
            unreadable += faults
    return Manifests(documents, unreadable)


def _texts(source: str, unreadable: list[Unreadable], *, recursive: bool) -> Iterable[tuple[str, str]]:
    if source == "-":
        yield "stdin", sys.stdin.read()
        return
    path = Path(source)
    paths = [path]
    if path.is_dir():
        inside = path.rglob("*") if recursive else path.iterdir()
        paths = sorted(child for child in inside if child.suffix in _SUFFIXES and child.is_file())
        if not paths:
            unreadable.append(Unreadable(source, 1, "the directory has no .yaml, .yml or .json file"))
    for each in paths:
        try:
            yield str(each), each.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            unreadable.append(
                Unreadable(str(each), 1, f"is not UTF-8 text: {error.reason} at byte {error.start}")
            )
        except OSError as error:
            unreadable.append(Unreadable(str(each), 1, f"cannot be read: {error.strerror}"))


def _placed(document: Document, namespace: str) -> Document:
    data = document.data
    kind = KINDS.get(data.get("kind", "")) if isinstance(data.get("kind"), str) else None
    metadata = data.get("metadata")
    if kind is None or not kind.namespaced or not isinstance(metadata, dict) or metadata.get("namespace"):
        return document
    return replace(document, data={**data, "metadata": {**metadata, "namespace": namespace}})

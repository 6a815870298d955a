"""The demo's YAML: every document is valid, by itself and together with the others."""

from importlib import resources
from importlib.resources.abc import Traversable

import pytest

from isthmus.api.codec import decode
from isthmus.api.documents import read_documents
from isthmus.api.validate import validate
from isthmus.demo.stage import BOOKINFO, manifest

ROOT = resources.files("isthmus.demo.bookinfo")


def names(folder: Traversable, prefix: str = "") -> list[str]:
    return sorted(f"{prefix}{entry.name}" for entry in folder.iterdir() if entry.name.endswith(".yaml"))


EVERY = [*names(ROOT), *names(ROOT.joinpath("rules"), "rules/")]


@pytest.mark.parametrize("name", EVERY)
def test_every_document_is_valid(name: str) -> None:
    documents, problems = read_documents(manifest(name), name)
    assert not problems
    assert documents
    for document in documents:
        decoded, wrong = decode(document.data)
        assert decoded is not None, wrong
        assert not [*wrong, *validate(decoded)]


def test_every_part_of_bookinfo_has_its_group() -> None:
    documents, _ = read_documents(manifest("mesh.yaml"), "mesh.yaml")
    groups = {
        f"{document.data['metadata']['namespace']}/{document.data['metadata']['name']}"
        for document in documents
        if document.data["kind"] == "WorkloadGroup"
    }
    assert groups == {part.group for part in BOOKINFO}

"""Finalizers and owners in an object's metadata -> their problems, as Kubernetes finds them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from isthmus.api.meta import Problem
from isthmus.api.rules import wrong
from isthmus.api.syntax import label_key

_STANDARD = ("orphan", "foregroundDeletion", "kubernetes")
"""Finalizers without a domain: Kubernetes' own."""


def finalizers(field: str, words: Sequence[str]) -> Iterator[Problem]:
    """Words of the form `domain/name`."""
    for word in words:
        fault = label_key(word)
        yield from wrong(field, word, fault)
        if not fault and "/" not in word and word not in _STANDARD:
            yield Problem(field, f'"{word}" has no domain', "write domain/name", "warning")
    if {"orphan", "foregroundDeletion"} <= set(words):
        yield from wrong(field, list(words), "orphan and foregroundDeletion exclude each other")


def owners(field: str, references: Sequence[Mapping[str, Any]]) -> Iterator[Problem]:
    """At most one controller, and no Event."""
    controllers = [f"{one.get('kind')}/{one.get('name')}" for one in references if one.get("controller")]
    if len(controllers) > 1:
        yield from wrong(field, controllers, "only one owner may be the controller")
    for one in references:
        if one.get("kind") == "Event" and one.get("apiVersion") in {"v1", "events.k8s.io/v1"}:
            yield from wrong(field, f"Event/{one.get('name')}", "an Event owns nothing")

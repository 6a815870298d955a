"""Documents -> YAML for people: what they write, without what only the server keeps."""

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.resolver import implicit_resolvers

_KEPT_BY_THE_SERVER = (
    "managedFields",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)


def written(document: Mapping[str, Any], *, keep: tuple[str, ...] = ()) -> dict[str, Any]:
    """The part of a document that people write; `keep` are fields of the metadata that stay."""
    metadata = {
        name: value
        for name, value in (document.get("metadata") or {}).items()
        if name not in _KEPT_BY_THE_SERVER or name in keep
    }
    return {
        name: metadata if name == "metadata" else value
        for name, value in document.items()
        if name != "status"
    }


class _Texts(RoundTripRepresenter):
    """Quotes texts that some version of YAML takes for something else: `yes`, `22:22`, `1e3`, `0o14`."""


def _text(representer: _Texts, text: str) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=_style(text))


def _style(text: str) -> str | None:
    if not text.replace("\n", "").isprintable():
        return '"'
    if "\n" in text:
        # as a block, where no line's own spaces make that hard to read
        plain = text.strip("\n") and all(line == line.strip() for line in text.split("\n"))
        return "|" if plain and text[0] != "\n" and not text.endswith("\n\n") else '"'
    if any(pattern.match(text) for _, _, pattern, _ in implicit_resolvers):
        return "'"
    return None


_Texts.add_representer(str, _text)


def as_yaml(document: Mapping[str, Any]) -> str:
    """A document as YAML that every reader of YAML, old or new, reads as the same."""
    out = io.StringIO()
    yaml = YAML()
    yaml.Representer = _Texts
    yaml.width = 1 << 20
    yaml.indent(mapping=2, sequence=2, offset=0)
    yaml.dump(dict(document), out)
    return out.getvalue()

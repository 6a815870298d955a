"""Documents -> YAML for people: what they write, without what only the server keeps."""

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML

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


def as_yaml(document: Mapping[str, Any]) -> str:
    """A document as YAML."""
    out = io.StringIO()
    yaml = YAML()
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=2, offset=0)
    yaml.dump(dict(document), out)
    return out.getvalue()

"""The kinds' models and the marks on them -> docs/support.md: every field, and what becomes of it.

python -m isthmus.api.support_page > docs/support.md
"""

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pydantic.fields import FieldInfo

from isthmus.api.codec import Metadata
from isthmus.api.fields import fields, path
from isthmus.api.kinds import KINDS, Kind
from isthmus.api.meta import Kept, Later, Model, Preserving, Refused, Telling
from isthmus.api.support import UNKNOWN_SETTING, mark

State = Literal["supported", "warning", "kept", "refused"]

_HEAD = """# What is supported: every field of every kind

Each field is in one of four states:

* **supported**: it does what Istio's (or Kubernetes') documentation says.
* **warning**: it is checked and stored, but does not change yet what proxies do. The request that writes it
  is answered with a warning, and the object's condition `Translated` is `False` and names the field.
* **kept**: it means nothing to a mesh. It is stored and given back, for other tools, without a word.
* **refused**: an object that sets it is not taken; the answer names the field.

Fields that are not listed are refused with their path ("unknown field"), except in Kubernetes' own kinds,
which keep them. Nothing is dropped silently. An object that stands in several places is listed once.

This page is made from the models and their marks: `python -m isthmus.api.support_page > docs/support.md`.
"""
_STATES: tuple[State, ...] = ("supported", "warning", "kept", "refused")


@dataclass(frozen=True, slots=True)
class Row:
    """One field of a kind."""

    field: str
    state: State
    text: str = ""
    same_as: str = ""
    """Where the fields of this object are listed, when that is somewhere else."""


def page() -> str:
    """The whole of docs/support.md."""
    sections = [line for kind in KINDS.values() for line in _section(kind)]
    return "\n".join([_HEAD, *_summary(), *_metadata(), *sections])


def rows(kind: Kind) -> list[Row]:
    """Every field of a kind, beside `apiVersion`, `kind`, `metadata` and `status`."""
    found = [*_rows(kind.spec_model, "spec" if kind.has_spec else "", {}, ())]
    return [Row(row.field, "warning", "", row.same_as) for row in found] if kind.later else found


def _rows(
    model: type[Model], prefix: str, listed: dict[type[Model], str], refused: tuple[Refused, ...]
) -> Iterator[Row]:
    listed[model] = prefix
    for name, info in model.model_fields.items():
        plain = info.alias or name
        found = fields(model)[plain]
        field = path(prefix, [plain])
        state, text = _state(plain, info, refused)
        below = field + {"one": "", "list": "[]", "map": "[*]"}[found.container]
        if found.model is None or state == "refused":
            yield Row(field, state, text)
        elif found.model in listed:
            yield Row(field, state, text, listed[found.model])
        else:
            yield Row(field, state, text)
            narrowed = mark(info.metadata, Refused)
            # below a field that does nothing, nothing does; elsewhere the same object may
            known = listed if state == "supported" and narrowed is None else dict(listed)
            inner = _rows(found.model, below, known, (narrowed,) if narrowed else ())
            yield from inner if state == "supported" else (Row(r.field, state, "", r.same_as) for r in inner)
    if issubclass(model, Telling):
        yield Row(path(prefix, ["…"]), "warning", UNKNOWN_SETTING.text)
    elif issubclass(model, Preserving):
        yield Row(path(prefix, ["…"]), "kept")


def _state(plain: str, info: FieldInfo, refused: tuple[Refused, ...]) -> tuple[State, str]:
    for above in refused:
        if plain in above.below:
            return "refused", above.text
    own = mark(info.metadata, Refused)
    if own is not None and not own.below:
        return "refused", own.text
    if (later := mark(info.metadata, Later)) is not None:
        return "warning", "; ".join(filter(None, (_when(later), later.text)))
    if (kept := mark(info.metadata, Kept)) is not None:
        return "kept", kept.text
    return "supported", ""


def _when(later: Later) -> str:
    if later.values:
        return f"with {', '.join(map(str, later.values))} only"
    return f"with anything but {', '.join(map(str, later.unless))}" if later.unless else ""


def _summary() -> Iterator[str]:
    yield "| kind | versions | supported | warning | kept | refused | |"
    yield "|---|---|---|---|---|---|---|"
    for kind in KINDS.values():
        count = Counter(row.state for row in rows(kind) if not row.field.endswith("…"))
        cells = [str(count[state] or "") for state in _STATES]
        note = f"stored only: {kind.later}" if kind.later else ""
        link = f"[{kind.kind}](#{kind.kind.lower()})"
        yield f"| {link} | {', '.join(kind.api_versions)} | {' | '.join(cells)} | {note} |"
    yield ""


def _metadata() -> Iterator[str]:
    yield "## Metadata\n"
    yield "Of every kind; `status` is the control plane's own.\n"
    yield from _table(list(_rows(Metadata, "metadata", {}, ())))


def _section(kind: Kind) -> Iterator[str]:
    found = rows(kind)
    yield f"## {kind.kind}\n"
    if kind.later:
        yield f"Stored only: {kind.later}.\n"
    told = [row for row in found if row.state in {"warning", "refused"} and row.text]
    if told and not kind.later:
        yield "| not as documented | state | what happens instead |"
        yield "|---|---|---|"
        yield from (f"| `{row.field}` | {row.state} | {row.text} |" for row in told)
        yield ""
    yield "<details>\n<summary>all fields</summary>\n"
    yield from _table(found)
    yield "</details>\n"


def _table(found: list[Row]) -> Iterator[str]:
    yield "| field | state | |"
    yield "|---|---|---|"
    for row in found:
        same = f"fields as below `{row.same_as}`" if row.same_as else ""
        yield f"| `{row.field}` | {row.state} | {'; '.join(filter(None, (row.text, same)))} |"
    yield ""


if __name__ == "__main__":
    sys.stdout.write(page())

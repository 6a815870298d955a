"""`isthmus validate`: files -> what the API would say about each object in them, with no server.

A document that cannot be read is an entry too: invalid, with the place where reading ended.
"""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from isthmus.api.documents import Document, Unreadable
    from isthmus.api.meta import Problem

Entry = dict[str, Any]


@click.command()
@click.option("-f", "--file", "files", multiple=True, metavar="PATH", help="File, directory or - for stdin.")
@click.argument("more", nargs=-1, metavar="[PATH]…")
@click.option(
    "-n", "--namespace", default="default", show_default=True, help="Namespace of objects that name none."
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def validate(files: tuple[str, ...], more: tuple[str, ...], namespace: str, output: str) -> None:
    """Check files as the control plane would, without one.

    Exits 0 when every object is valid, 1 when anything is refused.
    """
    from isthmus.cli.manifests import read_manifests

    if not files and not more:
        raise click.UsageError("give -f PATH: a file, a directory, or - for standard input")
    manifests = read_manifests((*files, *more), namespace)
    entries = [*(judged(document) for document in manifests.documents), *map(_unread, manifests.unreadable)]
    if output == "json":
        click.echo(json.dumps(entries, indent=2, ensure_ascii=False))
    else:
        _tell(entries)
    if not all(entry["valid"] for entry in entries):
        sys.exit(1)


def judged(document: "Document") -> Entry:
    """What there is to say about one document: every mistake, those of decoding and those of meaning."""
    from isthmus.api.inspection import inspected

    return _entry(document.place, document.data, inspected(document.data))


def _entry(source: str, data: Any, problems: "Sequence[Problem]") -> Entry:
    metadata = data.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    errors = [_row(problem) for problem in problems if problem.severity == "error"]
    return {
        "source": source,
        "apiVersion": _text(data.get("apiVersion")),
        "kind": _text(data.get("kind")),
        "namespace": _text(metadata.get("namespace")),
        "name": _text(metadata.get("name") or metadata.get("generateName")),
        "valid": not errors,
        "errors": errors,
        "warnings": [_row(problem) for problem in problems if problem.severity == "warning"],
    }


def _row(problem: "Problem") -> dict[str, str]:
    message = problem.text + (f" ({problem.hint})" if problem.hint else "")
    return {"field": problem.field, "message": message}


def _unread(place: "Unreadable") -> Entry:
    entry = _entry(f"{place.source}:{place.line}", {}, ())
    return entry | {"valid": False, "errors": [{"field": "", "message": place.text}]}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _tell(entries: Sequence[Entry]) -> None:
    refused = 0
    for entry in entries:
        name = "/".join(filter(None, (entry["kind"], entry["namespace"], entry["name"]))) or "unreadable"
        refused += not entry["valid"]
        click.echo(f"{entry['source']}: {name} {'valid' if entry['valid'] else 'invalid'}")
        for word in ("error", "warning"):
            for row in entry[f"{word}s"]:
                at = f"{row['field']}: " if row["field"] else ""
                click.echo(f"  {word}: {at}{row['message']}")
    verdict = f"{refused} refused" if refused else "all valid"
    click.echo(f"{len(entries)} {'object' if len(entries) == 1 else 'objects'}, {verdict}")

"""`isthmus apply`, `get` and `delete`: objects in files and in the control plane."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from isthmus.cli.connection import connect, kubeconfig_option, told

if TYPE_CHECKING:
    from isthmus.api.kinds import Kind
    from isthmus.cli.client import Client
    from isthmus.cli.manifests import Manifests
    from isthmus.cli.waiting import Verdict

_files = click.option(
    "-f", "--file", "files", multiple=True, metavar="FILE", help="File, directory or - ; repeat for several."
)
_namespace = click.option(
    "-n", "--namespace", default="default", show_default=True, help="Namespace of objects that name none."
)


class _Faulty(click.ClickException):
    """Many mistakes, one a line."""

    def show(self, file: Any = None) -> None:
        click.echo(self.message, err=True)


@click.command()
@_files
@_namespace
@click.option("--dry-run", is_flag=True, help="Check everything, change nothing.")
@click.option("--wait", "waits", is_flag=True, help="Return when all proxies have it, or one refuses it.")
@click.option("--timeout", default="30s", show_default=True, help="How long --wait waits.")
@kubeconfig_option
@told
def apply(
    files: tuple[str, ...], namespace: str, dry_run: bool, waits: bool, timeout: str, kubeconfig: str | None
) -> None:
    """Make the control plane hold what files say: all of it, or nothing and every mistake told."""
    from isthmus.cli.client import Refused
    from isthmus.cli.waiting import named

    manifests = read_files(files, namespace)
    timeout_s = _seconds(timeout)
    client = connect(kubeconfig)
    try:
        # with an unreadable document nothing is applied, but the others are checked all the same
        results = client.apply(
            [dict(document.data) for document in manifests.documents],
            dry_run=dry_run or bool(manifests.unreadable),
        )
    except Refused as refused:
        raise faulty(manifests, refused.status.get("errors") or (), refused) from None
    if manifests.unreadable:
        raise faulty(manifests, (), None)
    for result in results:
        click.echo(f"{named(result['object'])} {result['action']}" + (" (dry run)" if dry_run else ""))
        for text in result["warnings"]:
            click.echo(f"warning: {named(result['object'])}: {text}", err=True)
    if waits and not dry_run:
        _wait(client, [result["object"] for result in results], timeout_s)


@click.command()
@click.argument("kinds", metavar="KIND[,KIND…]")
@click.argument("name", required=False)
@_namespace
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="In all namespaces.")
@click.option("-o", "--output", type=click.Choice(["table", "yaml", "json"]), default="table")
@kubeconfig_option
@told
def get(
    kinds: str, name: str | None, namespace: str, everywhere: bool, output: str, kubeconfig: str | None
) -> None:
    """Show objects: all of a kind, or one by its name."""
    if name is None and "/" in kinds:
        kinds, name = kinds.split("/", 1)
    wanted = [kind_of(word) for word in kinds.split(",")]
    if name is not None and (everywhere or len(wanted) > 1):
        raise click.UsageError("a name goes with one kind and one namespace")
    client = connect(kubeconfig)
    if name is not None:
        found = [(wanted[0], [client.get(wanted[0], namespace, name)])]
    else:
        found = [(kind, [*client.list(kind, None if everywhere else namespace)]) for kind in wanted]
    if output == "table":
        _show_tables(found, everywhere=everywhere)
    else:
        documents = [document for _, group in found for document in group]
        _show(documents, output, one=name is not None)


@click.command()
@click.argument("kind", required=False)
@click.argument("names", nargs=-1)
@_files
@_namespace
@click.option("--ignore-not-found", is_flag=True, help="What is not there counts as deleted.")
@kubeconfig_option
@told
def delete(
    kind: str | None,
    names: tuple[str, ...],
    files: tuple[str, ...],
    namespace: str,
    ignore_not_found: bool,
    kubeconfig: str | None,
) -> None:
    """Delete objects by kind and name, or those that files name."""
    from isthmus.cli.client import Refused

    targets: list[tuple[Kind, str, str]] = []
    if files:
        if kind:
            raise click.UsageError("give KIND and NAME, or -f, not both")
        targets = _named_in(read_files(files, namespace))
    elif kind and "/" in kind and not names:
        word, _, one = kind.partition("/")
        targets = [(kind_of(word), namespace, one)]
    elif kind and names:
        targets = [(kind_of(kind), namespace, one) for one in names]
    else:
        raise click.UsageError("give KIND and NAME, or -f FILE")
    client, missing = connect(kubeconfig), False
    for found, where, one in targets:
        label = "/".join(part for part in (found.kind, where if found.namespaced else "", one) if part)
        try:
            client.delete(found, where, one)
        except Refused as refused:
            if refused.code != 404:
                raise
            missing = missing or not ignore_not_found
            click.echo(f"{label} not found", err=True)
        else:
            click.echo(f"{label} deleted")
    if missing:
        sys.exit(1)


def read_files(files: Sequence[str], namespace: str) -> "Manifests":
    """The documents of `-f`; a refusal when there are none."""
    from isthmus.cli.manifests import read_manifests

    if not files:
        raise click.UsageError("give -f FILE, a directory, or - for standard input")
    manifests = read_manifests(files, namespace)
    if not manifests.documents:
        if manifests.unreadable:
            raise faulty(manifests, (), None)
        raise click.ClickException(f"{', '.join(files)}: no objects in it")
    return manifests


def faulty(
    manifests: "Manifests", errors: Sequence[dict[str, Any]], refused: Exception | None
) -> click.ClickException:
    """Every mistake with its place; what cannot be placed as the server said it."""
    lines = [str(place) for place in manifests.unreadable]
    for error in errors:
        place = manifests.documents[error["index"]].place
        parts = (place, error["key"], error["field"], error["message"])
        lines.append(": ".join(part for part in parts if part))
    if refused is not None and not errors:
        lines.append(f"Error: {refused}")
    return _Faulty("\n".join([*lines, "nothing was applied"]))


def _wait(client: "Client", documents: Sequence[dict[str, Any]], timeout_s: float) -> None:
    from isthmus.cli.waiting import wait

    def tell(verdict: "Verdict") -> None:
        if verdict.state == "programmed":
            click.echo(f"{verdict.name} programmed")
        else:
            what = "refused" if verdict.state == "refused" else f"not programmed after {timeout_s:g} s"
            click.echo(f"{verdict.name} {what}: {verdict.text}", err=True)

    if not wait(client, documents, timeout_s, tell):
        sys.exit(1)


def _seconds(text: str) -> float:
    from isthmus.api.duration import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--timeout") from error


def kind_of(word: str) -> "Kind":
    """The kind that a person means; a refusal with a hint when there is none."""
    from isthmus.api.fields import nearest
    from isthmus.api.kinds import KINDS, kind_by_word

    kind = kind_by_word(word)
    if kind is None:
        hint = nearest(word, KINDS) or f"kinds are {', '.join(KINDS)}"
        raise click.UsageError(f"{word!r} is no kind: {hint}")
    return kind


def _named_in(manifests: "Manifests") -> "list[tuple[Kind, str, str]]":
    from isthmus.api.kinds import KINDS

    found = []
    for document in reversed(manifests.documents):
        metadata = document.data.get("metadata")
        kind = KINDS.get(str(document.data.get("kind")))
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if kind is None or not isinstance(metadata, dict) or not isinstance(name, str):
            raise click.ClickException(f"{document.place}: names no object: kind or metadata.name is missing")
        found.append((kind, str(metadata.get("namespace", "")), name))
    if manifests.unreadable:
        raise _Faulty("\n".join([*map(str, manifests.unreadable), "nothing was deleted"]))
    return found


def _show_tables(found: "Sequence[tuple[Kind, Sequence[dict[str, Any]]]]", *, everywhere: bool) -> None:
    from isthmus.cli.tables import table

    shown = [(kind, group) for kind, group in found if group]
    if not shown:
        click.echo(f"no {' or '.join(kind.plural for kind, _ in found)}", err=True)
    for index, (kind, group) in enumerate(shown):
        if len(found) > 1:
            click.echo(("\n" if index else "") + kind.plural)
        click.echo(table(kind, group, namespaces=everywhere))


def _show(documents: Sequence[dict[str, Any]], output: str, *, one: bool) -> None:
    shown: Any = documents[0] if one else {"apiVersion": "v1", "kind": "List", "items": [*documents]}
    if output == "json":
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
        return
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 4096
    yaml.dump(shown, sys.stdout)

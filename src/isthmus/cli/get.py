"""`isthmus get`: objects as tables, documents, names or what a JSON path finds; once, or as they change."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from isthmus.cli.connection import connect, kubeconfig_option, told
from isthmus.cli.targets import Targets, targets_of

if TYPE_CHECKING:
    from isthmus.api.kinds import Kind
    from isthmus.cli.client import Client

Document = dict[str, Any]
_JSONPATH = "jsonpath="


@dataclass(frozen=True, slots=True)
class _Shown:
    """How objects are to be shown."""

    output: str
    namespaces: bool
    managed_fields: bool
    headers: bool


@click.command()
@click.argument("what", nargs=-1, required=True, metavar="KIND[,KIND…] [NAME…] | KIND/NAME…")
@click.option("-n", "--namespace", default="default", show_default=True)
@click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="In all namespaces.")
@click.option("-l", "--selector", default="", help="Only objects with these labels: app=web,tier!=db.")
@click.option("--field-selector", default="", help="Only objects with these fields: metadata.name=a.")
@click.option("-o", "--output", default="table", help="wide, yaml, json, name, or jsonpath=TEMPLATE.")
@click.option("-w", "--watch", "watches", is_flag=True, help="Go on with every change.")
@click.option("--show-managed-fields", "managed_fields", is_flag=True, help="In yaml and json.")
@click.option("--no-headers", is_flag=True, help="Tables without a head.")
@click.option("--ignore-not-found", is_flag=True, help="What is not there is no mistake.")
@kubeconfig_option
@told
def get(
    what: tuple[str, ...],
    namespace: str,
    everywhere: bool,
    selector: str,
    field_selector: str,
    output: str,
    watches: bool,
    managed_fields: bool,
    no_headers: bool,
    ignore_not_found: bool,
    kubeconfig: str | None,
) -> None:
    """Show objects: all of a kind, or some by their names."""
    if output not in {"table", "wide", "yaml", "json", "name"} and not output.startswith(_JSONPATH):
        raise click.UsageError(f"-o {output}: there are wide, yaml, json, name and jsonpath=TEMPLATE")
    found = targets_of(what)
    if everywhere and found.names:
        raise click.UsageError("a name is not looked for in all namespaces: give -n")
    if found.names and (selector or field_selector):
        raise click.UsageError("give names or a selector, not both")
    if watches and len(found.pairs) > 1:
        raise click.UsageError("one kind, or one object, can be watched at a time")
    client = connect(kubeconfig)
    query = {"labelSelector": selector, "fieldSelector": field_selector}
    query = {name: text for name, text in query.items() if text}
    where = None if everywhere else namespace
    shown = _Shown(output, everywhere, managed_fields, not no_headers)
    if output in {"table", "wide"}:
        revision = _show_tables(client, found, where, query, shown, ignore_not_found=ignore_not_found)
    else:
        revision = _show_documents(client, found, where, query, shown, ignore_not_found=ignore_not_found)
    if watches:
        _watch(client, found, where, query | {"resourceVersion": revision}, shown)


def _show_tables(
    client: "Client",
    found: Targets,
    where: str | None,
    query: Mapping[str, str],
    shown: _Shown,
    *,
    ignore_not_found: bool,
) -> str:
    from isthmus.cli.client import Refused
    from isthmus.cli.tables import aligned, rows

    tables: list[tuple[Kind, Document]] = []
    failures, revision = list[Refused](), ""
    for kind, name in found.pairs:
        try:
            table = client.table(kind, where, name, query)
        except Refused as refused:
            failures += [] if ignore_not_found and refused.code == 404 else [refused]
            continue
        revision = str((table.get("metadata") or {}).get("resourceVersion", ""))
        if tables and name and tables[-1][0] is kind:
            tables[-1][1]["rows"] += table["rows"]
        else:
            tables.append((kind, table))
    filled = [(kind, table) for kind, table in tables if table["rows"]]
    many = len({kind.kind for kind, _ in found.pairs}) > 1
    for index, (kind, table) in enumerate(filled):
        lines = rows(
            table,
            namespaces=shown.namespaces and kind.namespaced,
            wide=shown.output == "wide",
            prefix=f"{_typed(kind)}/" if many else "",
        )
        text = aligned(lines if shown.headers else lines[1:])
        click.echo(("\n" if index else "") + text)
    if not filled and not failures and not ignore_not_found:
        inside = where and any(kind.namespaced for kind, _ in found.pairs)
        click.echo(f"No resources found in {where} namespace." if inside else "No resources found", err=True)
    _fail(failures)
    return revision


def _show_documents(
    client: "Client",
    found: Targets,
    where: str | None,
    query: Mapping[str, str],
    shown: _Shown,
    *,
    ignore_not_found: bool,
) -> str:
    from isthmus.cli.client import Refused

    documents: list[Document] = []
    failures, revision = list[Refused](), ""
    for kind, name in found.pairs:
        try:
            if name:
                documents.append(client.get(kind, where or "", name))
                revision = str(documents[-1]["metadata"].get("resourceVersion", ""))
            else:
                listed = client.listing(kind, where, query)
                revision = str(listed["metadata"].get("resourceVersion", ""))
                documents += listed["items"]
        except Refused as refused:
            failures += [] if ignore_not_found and refused.code == 404 else [refused]
    one = len(found.pairs) == 1 and bool(found.names)
    if documents or not one:
        _show(documents, shown, one=one)
    _fail(failures)
    return revision


def _show(documents: Sequence[Document], shown: _Shown, *, one: bool) -> None:
    from isthmus.cli.documents import as_yaml
    from isthmus.cli.jsonpath import NoJsonPath, filled

    if shown.output == "name":
        for document in documents:
            click.echo(_named(document))
        return
    for document in documents:
        if not shown.managed_fields:
            document["metadata"].pop("managedFields", None)
    head = {"apiVersion": "v1", "items": [*documents], "kind": "List", "metadata": {"resourceVersion": ""}}
    whole = documents[0] if one else head
    if shown.output == "yaml":
        click.echo(as_yaml(whole), nl=False)
    elif shown.output == "json":
        click.echo(json.dumps(whole, indent=4, ensure_ascii=False))
    else:
        try:
            click.echo(filled(shown.output.removeprefix(_JSONPATH), whole), nl=False)
        except NoJsonPath as error:
            raise click.UsageError(f"-o jsonpath: {error}") from None


def _watch(
    client: "Client", found: Targets, where: str | None, query: Mapping[str, str], shown: _Shown
) -> None:
    from isthmus.cli.tables import aligned, rows

    ((kind, name),) = found.pairs
    tabular = shown.output in {"table", "wide"}
    if name:
        query = {**query, "fieldSelector": f"metadata.name={name}"}
    head: Any = None
    for event in client.watch(kind, where, query, table=tabular):
        item = event["object"]
        if event["type"] == "ERROR":
            raise click.ClickException(str(item.get("message", "the watch ended")))
        if not tabular:
            _show([item], shown, one=True)
            continue
        head = item.get("columnDefinitions") or head
        lines = rows(
            item | {"columnDefinitions": head},
            namespaces=shown.namespaces and kind.namespaced,
            wide=shown.output == "wide",
        )
        click.echo(aligned(lines).split("\n", 1)[1])
        sys.stdout.flush()


def _fail(failures: Sequence[Exception]) -> None:
    for failure in failures:
        click.echo(f"Error: {failure}", err=True)
    if failures:
        sys.exit(1)


def _typed(kind: "Kind") -> str:
    return f"{kind.singular}.{kind.group}" if kind.group else kind.singular


def _named(document: Document) -> str:
    from isthmus.api.kinds import KINDS

    return f"{_typed(KINDS[document['kind']])}/{document['metadata']['name']}"

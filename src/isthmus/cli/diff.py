"""`isthmus diff`: what an apply of these files would change, as a patch for people."""

import difflib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from isthmus.cli.connection import connect, kubeconfig_option, told
from isthmus.cli.objects import faulty, files_options, read_files

if TYPE_CHECKING:
    from isthmus.cli.client import Client


@click.command()
@files_options
@click.option(
    "-n", "--namespace", default="default", show_default=True, help="Namespace of objects that name none."
)
@kubeconfig_option
@told
def diff(files: tuple[str, ...], recursive: bool, namespace: str, kubeconfig: str | None) -> None:
    """Show what an apply would change. Exits 0 when that is nothing, 1 when it is something."""
    from isthmus.cli.client import Refused

    manifests = read_files(files, namespace, recursive=recursive)
    if manifests.unreadable:
        raise faulty(manifests, (), None)
    client = connect(kubeconfig)
    try:
        results = client.apply([dict(document.data) for document in manifests.documents], dry_run=True)
    except Refused as refused:
        raise faulty(manifests, refused.status.get("errors") or (), refused) from None
    lines = [line for result in results for line in _changes(client, result["object"])]
    for line in lines:
        click.echo(line)
    if lines:
        sys.exit(1)


def _changes(client: "Client", wanted: dict[str, Any]) -> Iterator[str]:
    from isthmus.api.kinds import KINDS
    from isthmus.cli.client import Refused
    from isthmus.cli.documents import as_yaml, written
    from isthmus.cli.waiting import named

    kind, metadata = KINDS[wanted["kind"]], wanted["metadata"]
    try:
        live = client.get(kind, metadata.get("namespace", ""), metadata["name"])
        live["apiVersion"] = wanted["apiVersion"]
        before = as_yaml(written(live))
    except Refused as refused:
        if refused.code != 404:
            raise
        before = ""
    name = named(wanted)
    after = as_yaml(written(wanted))
    yield from difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"live/{name}", f"files/{name}", lineterm=""
    )

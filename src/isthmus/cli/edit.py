"""`isthmus edit`: one object in the editor, and back into the control plane."""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

import click

from isthmus.cli.connection import connect, kubeconfig_option, told


@click.command()
@click.argument("kind")
@click.argument("name", required=False)
@click.option("-n", "--namespace", default="default", show_default=True)
@kubeconfig_option
@told
def edit(kind: str, name: str | None, namespace: str, kubeconfig: str | None) -> None:
    """Change one object in $EDITOR. Nothing is written when nothing was changed."""
    from isthmus.api.documents import read_documents
    from isthmus.cli.client import Refused
    from isthmus.cli.documents import as_yaml, written
    from isthmus.cli.objects import kind_of
    from isthmus.cli.waiting import named

    if name is None:
        kind, _, name = kind.partition("/")
    wanted = kind_of(kind)
    client = connect(kubeconfig)
    live = client.get(wanted, namespace, name)
    # with its resourceVersion: what another one writes meanwhile is not overwritten
    before = as_yaml(written(live, keep=("resourceVersion", "uid")))
    descriptor, file = tempfile.mkstemp(prefix=f"isthmus-{name}-", suffix=".yaml")
    path = Path(file)
    with os.fdopen(descriptor, "w") as out:
        out.write(before)
    _run_editor(path)
    after = path.read_text()
    if after == before:
        path.unlink()
        click.echo("nothing was changed")
        return
    documents, unreadable = read_documents(after, str(path))
    if unreadable or len(documents) != 1:
        raise click.ClickException(f"{unreadable[0] if unreadable else f'{path}: holds not one object'}")
    try:
        answer = client.replace(wanted, namespace, name, dict(documents[0].data))
    except Refused as refused:
        raise click.ClickException(f"{refused}\nyour text is kept in {path}") from None
    path.unlink()
    click.echo(f"{named(answer.document)} edited")
    for text in answer.warnings:
        click.echo(f"warning: {named(answer.document)}: {text}", err=True)


def _run_editor(path: Path) -> None:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        code = subprocess.call([*shlex.split(editor), str(path)])
    except OSError as error:
        raise click.ClickException(f"editor {editor}: {error.strerror}; set $EDITOR") from None
    if code:
        raise click.ClickException(f"editor {editor} ended with {code}: nothing was changed")

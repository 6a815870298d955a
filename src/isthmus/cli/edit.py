"""`isthmus edit`: one object in the editor, and back into the control plane.

live object ─▶ editor ─▶ changed? ─▶ taken: done
                 ▲                └▶ refused: the same text again, with the reasons as comments on top
"""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from isthmus.cli.connection import connect, kubeconfig_option, told

if TYPE_CHECKING:
    from isthmus.api.kinds import Kind
    from isthmus.cli.client import Answer, Client

_HEAD = """# Change the object below. Lines that begin with # are left out; an empty file ends the edit.
# What is refused comes back here, with the reasons.
#
"""


@click.command()
@click.argument("kind")
@click.argument("name", required=False)
@click.option("-n", "--namespace", default="default", show_default=True)
@kubeconfig_option
@told
def edit(kind: str, name: str | None, namespace: str, kubeconfig: str | None) -> None:
    """Change one object in $EDITOR. Nothing is written when nothing was changed.

    When it is refused, the editor opens again with the reasons; leave it unchanged to give up. Your text is
    kept in a file then.
    """
    from isthmus.cli.documents import as_yaml, written
    from isthmus.cli.targets import kind_of
    from isthmus.cli.waiting import named

    if name is None:
        kind, slash, name = kind.partition("/")
        if not slash or not name:
            raise click.UsageError("give KIND NAME, or KIND/NAME")
    wanted = kind_of(kind)
    client = connect(kubeconfig)
    live = client.get(wanted, namespace, name)
    # with its resourceVersion: what another one writes meanwhile is not overwritten
    before = as_yaml(written(live, keep=("resourceVersion", "uid")))
    descriptor, file = tempfile.mkstemp(prefix=f"isthmus-{name}-", suffix=".yaml")
    os.close(descriptor)
    answer = _edited(client, wanted, live["metadata"], before, Path(file))
    if answer is not None:
        click.echo(f"{named(answer.document)} edited")
        for text in answer.warnings:
            click.echo(f"warning: {named(answer.document)}: {text}", err=True)


def _edited(
    client: "Client", kind: "Kind", metadata: Mapping[str, Any], before: str, path: Path
) -> "Answer | None":
    """What the server took, None when nothing was to be done; ClickException when the user gave up."""
    from isthmus.cli.client import ClientError, Refused

    shown, text, reasons = "", before, list[str]()
    while True:
        shown = _HEAD + _comments(reasons) + text
        path.write_text(shown)
        _run_editor(path, keep=bool(reasons))
        after = path.read_text()
        text = _without_comments(after)
        if not text.strip():
            path.unlink()
            click.echo("Edit cancelled, saved file was empty.", err=True)
            return None
        if reasons and after == shown:
            raise click.ClickException(f"{'; '.join(reasons)}\n{_kept(path)}")
        if text == before:
            path.unlink()
            click.echo("Edit cancelled, no changes made.", err=True)
            return None
        document, reasons = _read(text)
        if document is None:
            continue
        try:
            answer = client.replace(kind, metadata.get("namespace", ""), metadata["name"], document)
        except Refused as refused:
            if refused.code in {400, 422}:
                reasons = _reasons(refused)
                continue
            raise click.ClickException(f"{refused}\n{_kept(path)}") from None
        except ClientError as error:
            raise click.ClickException(f"{error}\n{_kept(path)}") from None
        path.unlink()
        return answer


def _read(text: str) -> tuple[dict[str, Any] | None, list[str]]:
    from isthmus.api.documents import read_documents

    documents, unreadable = read_documents(text, "line")
    if unreadable:
        return None, [str(place) for place in unreadable]
    if len(documents) != 1:
        return None, [f"it should hold one object, and holds {len(documents)}"]
    return dict(documents[0].data), []


def _reasons(refused: "Exception") -> list[str]:
    """All that is wrong, one a line, as the server listed it."""
    status: Mapping[str, Any] = getattr(refused, "status", {})
    causes = (status.get("details") or {}).get("causes") or ()
    lines = [": ".join(filter(None, (cause.get("field"), cause.get("message")))) for cause in causes]
    return lines or [str(refused)]


def _comments(reasons: Sequence[str]) -> str:
    if not reasons:
        return ""
    lines = ["This was refused:", *(f"* {line}" for reason in reasons for line in reason.splitlines()), ""]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


def _without_comments(text: str) -> str:
    """The text below the comments on top: a # further down may belong to a text of several lines."""
    lines = text.splitlines(keepends=True)
    first = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "".join(lines[first:])


def _kept(path: Path) -> str:
    return f"your text is kept in {path}"


def _run_editor(path: Path, *, keep: bool) -> None:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        code = subprocess.call([*shlex.split(editor), str(path)])
    except OSError as error:
        path.unlink()
        raise click.ClickException(f"editor {editor}: {error.strerror}; set $EDITOR") from None
    if code and not keep:
        path.unlink()
        raise click.ClickException(f"editor {editor} ended with {code}: nothing was changed")
    if code:
        raise click.ClickException(f"editor {editor} ended with {code}: nothing was changed\n{_kept(path)}")

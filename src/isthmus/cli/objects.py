"""`isthmus apply` and `delete`: objects in files and in the control plane."""

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from isthmus.cli.connection import connect, kubeconfig_option, told
from isthmus.cli.targets import targets_of

if TYPE_CHECKING:
    from isthmus.api.kinds import Kind
    from isthmus.cli.client import Client
    from isthmus.cli.manifests import Manifests
    from isthmus.cli.waiting import Verdict

F = TypeVar("F", bound=Callable[..., Any])


def files_options(command: F) -> F:
    """`-f` and `-R`: what to read, and whether directories are read with those in them. `-k` is told."""
    options = (
        click.option(
            "-f", "--filename", "--file", "files", multiple=True, metavar="FILE",
            help="File, directory or - ; repeat for several.",
        ),
        click.option("-R", "--recursive", is_flag=True, help="Directories with those in them."),
        click.option("-k", "--kustomize", hidden=True, expose_value=False, callback=_no_kustomize),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def _no_kustomize(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        name = context.info_name or "apply"
        raise click.UsageError(
            f"-k is not built in: pipe it in, kubectl kustomize {value} | isthmus {name} -f -"
        )


_namespace = click.option(
    "-n", "--namespace", default="default", show_default=True, help="Namespace of objects that name none."
)


class _Faulty(click.ClickException):
    """Many mistakes, one a line."""

    def show(self, file: Any = None) -> None:
        click.echo(self.message, err=True)


@click.command()
@files_options
@_namespace
@click.option("--dry-run", is_flag=True, help="Check everything, change nothing.")
@click.option("--wait", "waits", is_flag=True, help="Return when all proxies have it, or one refuses it.")
@click.option("--timeout", default="30s", show_default=True, help="How long --wait waits.")
@kubeconfig_option
@told
def apply(
    files: tuple[str, ...],
    recursive: bool,
    namespace: str,
    dry_run: bool,
    waits: bool,
    timeout: str,
    kubeconfig: str | None,
) -> None:
    """Make the control plane hold what files say: all of it, or nothing and every mistake told."""
    from isthmus.cli.client import Refused
    from isthmus.cli.waiting import named

    manifests = read_files(files, namespace, recursive=recursive)
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
@click.argument("what", nargs=-1, metavar="[KIND[,KIND…] NAME… | KIND/NAME…]")
@files_options
@_namespace
@click.option("-l", "--selector", default="", help="Those of the kinds that have these labels.")
@click.option("--all", "every", is_flag=True, help="All of the kinds.")
@click.option(
    "-A", "--all-namespaces", "everywhere", is_flag=True, help="With -l or --all: in all namespaces."
)
@click.option("--ignore-not-found", is_flag=True, help="What is not there counts as deleted.")
@kubeconfig_option
@told
def delete(
    what: tuple[str, ...],
    files: tuple[str, ...],
    recursive: bool,
    namespace: str,
    selector: str,
    every: bool,
    everywhere: bool,
    ignore_not_found: bool,
    kubeconfig: str | None,
) -> None:
    """Delete objects by kind and name, by their labels, or those that files name."""
    from isthmus.cli.client import Refused

    targets: Sequence[tuple[Kind, str, str]]
    if files:
        if what or selector or every:
            raise click.UsageError("give KIND and NAME, or -f, not both")
        targets = _named_in(read_files(files, namespace, recursive=recursive))
        client = connect(kubeconfig)
    else:
        found = targets_of(what) if what else None
        if found is None or found.names == (bool(selector) or every) or (every and selector):
            raise click.UsageError("give KIND and NAME, KIND with -l SELECTOR or --all, or -f FILE")
        client = connect(kubeconfig)
        targets = [(kind, namespace, one) for kind, one in found.pairs]
        if not found.names:
            where = None if everywhere else namespace
            targets = [each for kind, _ in found.pairs for each in _selected(client, kind, where, selector)]
    missing = False
    for kind, where, one in targets:
        label = "/".join(part for part in (kind.kind, where if kind.namespaced else "", one) if part)
        try:
            client.delete(kind, where or "", one)
        except Refused as refused:
            if refused.code != 404:
                raise
            missing = missing or not ignore_not_found
            click.echo(f"{label} not found", err=True)
        else:
            click.echo(f"{label} deleted")
    if not targets:
        click.echo("No resources found", err=True)
    if missing:
        sys.exit(1)


def _selected(
    client: "Client", kind: "Kind", namespace: str | None, selector: str
) -> "list[tuple[Kind, str, str]]":
    listed = client.listing(kind, namespace, {"labelSelector": selector} if selector else {})
    found = (document["metadata"] for document in listed["items"])
    return [(kind, metadata.get("namespace", ""), metadata["name"]) for metadata in found]


def read_files(files: Sequence[str], namespace: str, *, recursive: bool = False) -> "Manifests":
    """The documents of `-f`; a refusal when there are none."""
    from isthmus.cli.manifests import read_manifests

    if not files:
        raise click.UsageError("give -f FILE, a directory, or - for standard input")
    manifests = read_manifests(files, namespace, recursive=recursive)
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

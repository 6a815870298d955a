"""`isthmus token`: the one string with which a VM joins."""

import click

from isthmus.cli.connection import connect, kubeconfig_option, told


@click.group()
def token() -> None:
    """Make tokens with which VMs join."""


@token.command()
@click.option("--group", required=True, metavar="NS/NAME", help="The WorkloadGroup that the VM joins.")
@click.option("--ttl", default="15m", show_default=True, help="How long the token may be used, at most 24h.")
@kubeconfig_option
@told
def create(group: str, ttl: str, kubeconfig: str | None) -> None:
    """Print a token for one VM: it is shown once, and works once."""
    from isthmus.api.kinds import KINDS

    namespace, slash, name = group.partition("/")
    if not slash or not namespace or not name or "/" in name:
        raise click.BadParameter(f"{group!r} is not NAMESPACE/NAME", param_hint="--group")
    kind = KINDS["JoinToken"]
    document = {
        "apiVersion": kind.api_versions[0],
        "kind": kind.kind,
        "metadata": {"generateName": f"{name[:40].rstrip('-.')}-"},
        "spec": {"group": name, "ttl": ttl},
    }
    answer = connect(kubeconfig).create(kind, namespace, document)
    click.echo(answer.document["status"]["token"])

"""`isthmus user`: people and robots that may use the API, each with a kubeconfig of their own."""

import base64
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from isthmus.cli.connection import connect, kubeconfig_option, told

if TYPE_CHECKING:
    from isthmus.cli.client import Client

_PATH = "/apis/isthmus.dev/v1alpha1/users"


@click.group()
def user() -> None:
    """Let people and robots in, and out."""


@user.command()
@click.argument("name")
@click.option("--role", type=click.Choice(["admin", "editor", "viewer", "agent"]), required=True)
@click.option(
    "-n", "--namespace", "namespaces", multiple=True, help="Where the role holds; repeat for several."
    " Default: everywhere.",
)  # fmt: skip
@click.option("--certificate", is_flag=True, help="Known by a certificate (one year) instead of a token.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Default: NAME.kubeconfig.")
@kubeconfig_option
@told
def create(
    name: str,
    role: str,
    namespaces: tuple[str, ...],
    certificate: bool,
    output: str | None,
    kubeconfig: str | None,
) -> None:
    """Make a user and write their kubeconfig: it is made once, keep it safe."""
    path = Path(output or f"{name}.kubeconfig")
    if path.exists():
        raise click.ClickException(f"{path} exists already: give another --output")
    client = connect(kubeconfig)
    grants = [{"role": role, "namespace": namespace} for namespace in namespaces] or [{"role": role}]
    body: dict[str, Any] = {"name": name, "grants": grants}
    if certificate:
        from isthmus.identity import keys

        key = keys.new_key()
        made = client.request("POST", _PATH, body | {"request": keys.request_pem(key)}).document
        credentials = {
            "client-certificate-data": _base64(made["certificate"].encode()),
            "client-key-data": _base64(keys.key_pem(key)),
        }
    else:
        credentials = {"token": client.request("POST", _PATH, body).document["token"]}
    _write(path, _kubeconfig(client, name, credentials, namespaces))
    click.echo(f"user {name} created, {role} {'in ' + ', '.join(namespaces) if namespaces else 'everywhere'}")
    click.echo(f"kubeconfig {path}")


@user.command("list")
@kubeconfig_option
@told
def list_(kubeconfig: str | None) -> None:
    """Show users and their roles."""
    for row in connect(kubeconfig).request("GET", _PATH).document["items"]:
        grants = (f"{grant['role']} {_where(grant)}" for grant in row["grants"])
        click.echo(f"{row['name']}  {', '.join(grants)}  by {row['knownBy']}")


@user.command()
@click.argument("name")
@kubeconfig_option
@told
def delete(name: str, kubeconfig: str | None) -> None:
    """Let a user out: their kubeconfig is worth nothing from now on."""
    connect(kubeconfig).request("DELETE", f"{_PATH}/{name}")
    click.echo(f"user {name} deleted")


def _where(grant: dict[str, str]) -> str:
    return f"in {grant['namespace']}" if grant.get("namespace") else "everywhere"


def _kubeconfig(
    client: "Client", name: str, credentials: dict[str, str], namespaces: tuple[str, ...]
) -> dict[str, Any]:
    context = {"cluster": "isthmus", "user": name, **({"namespace": namespaces[0]} if namespaces else {})}
    host = f"[{client.host}]" if ":" in client.host else client.host
    cluster = {
        "server": f"https://{host}:{client.port}",
        "certificate-authority-data": _base64(client.authority.encode()),
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "isthmus", "cluster": cluster}],
        "users": [{"name": name, "user": credentials}],
        "contexts": [{"name": "isthmus", "context": context}],
        "current-context": "isthmus",
    }


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _write(path: Path, document: dict[str, Any]) -> None:
    # JSON is YAML, too
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(document, file, indent=2)
        file.write("\n")

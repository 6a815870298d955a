"""`isthmus gateway`: a host becomes an ingress, egress or east-west gateway.

create, where the kubeconfig is:   a WorkloadGroup of gateways, and a token for one host
run, on that host:                 joins, and lets Envoy listen as Gateways say that select its labels
"""

import click

from isthmus.cli.connection import connect, kubeconfig_option, told

_DEFAULT_LABEL = "istio=ingressgateway"


@click.group()
def gateway() -> None:
    """Run Envoy as ingress, egress or east-west gateway."""


@gateway.command()
@click.argument("name", metavar="NS/NAME")
@click.option(
    "--label",
    "labels",
    multiple=True,
    default=(_DEFAULT_LABEL,),
    show_default=True,
    metavar="K=V",
    help="A label by which Gateways select it; may be given several times.",
)
@click.option("--network", default="", metavar="N", help="The network that it stands in.")
@click.option("--service-account", default="", metavar="SA", help="Its identity; NAME when left out.")
@click.option("--ttl", default="15m", show_default=True, help="How long the token may be used, at most 24h.")
@kubeconfig_option
@told
def create(
    name: str, labels: tuple[str, ...], network: str, service_account: str, ttl: str, kubeconfig: str | None
) -> None:
    """Make a group of gateways, and print the token with which one host becomes one of them.

    A group that is there already is brought up to date; each further host needs a token of its own.
    """
    from isthmus.api.kinds import KINDS

    namespace, slash, group = name.partition("/")
    if not slash or not namespace or not group or "/" in group:
        raise click.BadParameter(f"{name!r} is not NAMESPACE/NAME", param_hint="NS/NAME")
    wanted = [_group(namespace, group, _pairs(labels), network, service_account or group)]
    client = connect(kubeconfig)
    if not any(
        d["metadata"]["name"] == namespace for d in client.listing(KINDS["Namespace"], None, {})["items"]
    ):
        wanted.insert(0, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    client.apply(wanted)
    kind = KINDS["JoinToken"]
    document = {
        "apiVersion": kind.api_versions[0],
        "kind": kind.kind,
        "metadata": {"generateName": f"{group[:40].rstrip('-.')}-"},
        "spec": {"group": group, "ttl": ttl},
    }
    click.echo(client.create(kind, namespace, document).document["status"]["token"])


@gateway.command()
@click.argument("token")
@click.option("--address", metavar="IP", help="The address under which other hosts reach this one.")
@click.option("--foreground", is_flag=True, help="Stay in the foreground even where systemd runs.")
def run(token: str, address: str | None, foreground: bool) -> None:
    """Make this host a gateway with TOKEN (`-`: read it from standard input, `@FILE`: from a file).

    Nothing is captured and no names are answered here: Envoy listens on the ports of the Gateways that select
    this host, and changes with them. `isthmus leave` takes it back.
    """
    from isthmus.agent.join import Wish
    from isthmus.cli.vm import bring_in

    bring_in(token, Wish(address, foreground, gateway=True))


def _pairs(labels: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in labels:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise click.BadParameter(f"{text!r} should be name=value", param_hint="--label")
        found[name] = value
    return found


def _group(
    namespace: str, name: str, labels: dict[str, str], network: str, account: str
) -> dict[str, object]:
    """A WorkloadGroup whose workloads are gateways."""
    template: dict[str, object] = {"serviceAccount": account}
    if network:
        template["network"] = network
        labels = {**labels, "topology.istio.io/network": network}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadGroup",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "metadata": {"labels": labels, "annotations": {"isthmus.dev/proxy": "gateway"}},
            "template": template,
        },
    }

"""`isthmus render`: files of objects -> the Envoy configuration of one proxy, for reviews and CI."""

import json
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isthmus.api.meta import Object
    from isthmus.envoy.resource import ProxyId
    from isthmus.mesh.model import MeshSettings

_NAMESPACE = "default"
"""Where objects stand that name no namespace, as with a fresh kubeconfig."""


class _Faulty(click.ClickException):
    """Many mistakes, one a line."""

    def show(self, file: Any = None) -> None:
        click.echo(self.message, err=True)


def _labels(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in value.split(","))):
        name, sign, text = part.partition("=")
        if not sign or not name:
            raise click.BadParameter(f"{part!r} should be name=value")
        found[name] = text
    return tuple(sorted(found.items()))


def _addresses(_ctx: click.Context, _param: click.Parameter, value: str) -> tuple[str, ...]:
    try:
        return tuple(str(ip_address(part.strip())) for part in value.split(",") if part.strip())
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.option("-f", "--file", "files", multiple=True, metavar="PATH", help="File, directory or - for stdin.")
@click.argument("more", nargs=-1, metavar="[PATH]…")
@click.option("--proxy", "named", metavar="KIND/NS/NAME", help="The proxy of workloadentry/NAMESPACE/NAME.")
@click.option("--type", "role", type=click.Choice(["sidecar", "router"]), help="Or any proxy, described:")
@click.option("--namespace", default=_NAMESPACE, show_default=True, help="its namespace,")
@click.option("--labels", default="", callback=_labels, metavar="K=V,…", help="the labels of its workload,")
@click.option("--ip", "addresses", default="", callback=_addresses, metavar="IP[,IP]", help="its addresses,")
@click.option("--service-account", default="", metavar="SA", help="its service account,")
@click.option("--network", default="", metavar="N", help="and its network.")
@click.option(
    "--mesh-config", type=click.Path(exists=True, dir_okay=False), help="Istio MeshConfig, as YAML."
)
def render(
    *,
    files: tuple[str, ...],
    more: tuple[str, ...],
    named: str | None,
    role: str | None,
    namespace: str,
    labels: tuple[tuple[str, str], ...],
    addresses: tuple[str, ...],
    service_account: str,
    network: str,
    mesh_config: str | None,
) -> None:
    """Print the Envoy configuration that one proxy would get from files, with no server running.

    The files are the whole world: Istio's kinds, Kubernetes Services, Pods and EndpointSlices, mixed.
    Objects that name no namespace stand in `default`. All mistakes are told, and the exit status is 1: what
    is printed is made of what could be understood, while a server would take nothing of it.
    """
    from isthmus.mesh.proxies import Proxy, ProxyType
    from isthmus.render import rendered

    if not files and not more:
        raise click.UsageError("give -f PATH: a file, a directory, or - for standard input")
    if (named is None) == (role is None):
        raise click.UsageError("name the proxy with --proxy, or describe it with --type; one of the two")
    objects, faults = _read((*files, *more))
    wanted: ProxyId | Proxy
    if named is not None:
        wanted = _named(named, objects)
    else:
        wanted = Proxy(
            namespace=namespace,
            type=ProxyType(role),
            addresses=addresses,
            labels=labels,
            service_account=service_account,
            network=network,
        )
    found = rendered(objects, wanted, _settings(mesh_config, objects))
    click.echo(json.dumps(found, indent=2, sort_keys=True, ensure_ascii=False))
    if faults:
        raise _Faulty("\n".join(faults))


def _read(paths: "Sequence[str]") -> "tuple[list[Object], list[str]]":
    """The objects in files, and what is wrong there; warnings are told at once."""
    from isthmus.cli.manifests import read_manifests
    from isthmus.render import read

    manifests = read_manifests(paths, _NAMESPACE)
    objects, problems = read(manifests.documents)
    faults = [str(place) for place in manifests.unreadable]
    for document, problem in problems:
        metadata = document.data.get("metadata")
        name = metadata.get("name", "") if isinstance(metadata, dict) else ""
        line = f"{document.place}: {document.data.get('kind', '')}/{name}: {problem}"
        if problem.severity == "warning":
            click.echo(f"warning: {line}", err=True)
        else:
            faults.append(line)
    return objects, faults


def _named(text: str, objects: "Sequence[Object]") -> "ProxyId":
    from isthmus.api.kinds import kind_by_word
    from isthmus.envoy.resource import ProxyId

    word, _, rest = text.partition("/")
    namespace, _, name = rest.partition("/")
    kind = kind_by_word(word)
    if kind is None or kind.kind != "WorkloadEntry" or not namespace or not name:
        raise click.BadParameter(f"{text!r} should be workloadentry/NAMESPACE/NAME", param_hint="--proxy")
    known = sorted(f"{o.key.namespace}/{o.key.name}" for o in objects if o.key.kind == "WorkloadEntry")
    if f"{namespace}/{name}" not in known:
        there = ", ".join(known[:10]) or "none"
        raise click.BadParameter(
            f"no WorkloadEntry {namespace}/{name} in the files; there is: {there}", param_hint="--proxy"
        )
    return ProxyId(namespace, name)


def _settings(path: str | None, objects: "Sequence[Object]") -> "MeshSettings":
    from pathlib import Path

    from isthmus.api.documents import read_documents
    from isthmus.render import settings_from

    if path is None:
        return settings_from({}, objects)[0]
    documents, unreadable = read_documents(Path(path).read_text(encoding="utf-8"), path)
    if unreadable or len(documents) != 1:
        raise _Faulty("\n".join(map(str, unreadable)) or f"{path}: should hold one MeshConfig")
    settings, problems = settings_from(documents[0].data, objects)
    if problems:
        raise _Faulty("\n".join(f"{path}: {problem}" for problem in problems))
    return settings

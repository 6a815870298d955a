"""kubectl with the kubeconfig of somebody who may do less: a viewer, an editor of one namespace."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from kubectl_client import Kubectl

from documents import namespace, workload_entry
from isthmus.cli.main import main

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(300)]


def user(kube: Kubectl, directory: Path, name: str, *options: str) -> Kubectl:
    """kubectl of a new user, whose home is their own."""
    kubeconfig = directory / f"{name}.kubeconfig"
    environment = {"ISTHMUS_KUBECONFIG": str(kube.server.kubeconfig)}
    command = ["user", "create", name, "-o", str(kubeconfig), *options]
    made = CliRunner().invoke(main, command, env=environment)
    assert made.exit_code == 0, made.output
    (directory / name).mkdir()
    return replace(kube, home=directory / name, kubeconfig=kubeconfig)


def denial(name: str, verb: str, namespace: str) -> str:
    """How Kubernetes refuses."""
    return (
        f'is forbidden: User "{name}" cannot {verb} resource "workloadentries" in API group '
        f'"networking.istio.io" in the namespace "{namespace}"'
    )


def test_a_viewer_reads_and_writes_nothing(kube: Kubectl, tmp_path: Path) -> None:
    kube.server.apply(workload_entry("a"))
    viewer = user(kube, tmp_path, f"viewer-{kube.version}", "--role", "viewer")
    name = f"viewer-{kube.version}"
    assert viewer.fine("get", "we", "-A", "-o", "name") == "workloadentry.networking.istio.io/a\n"
    assert viewer.fine("get", "ns", "bookinfo", "-o", "name") == "namespace/bookinfo\n"
    assert "10.0.0.1" in viewer.fine("describe", "we", "a")
    text = json.dumps(workload_entry("b"))
    for verb, command in {
        "create": ("create", "-f", "-"),
        "patch": ("label", "we", "a", "x=y"),
        "delete": ("delete", "we", "a"),
    }.items():
        refused = viewer(*command, stdin=text)
        assert refused.code == 1
        assert refused.err.startswith("Error from server (Forbidden): ")
        assert denial(name, verb, "bookinfo") in refused.err
    secrets = viewer("get", "secrets")
    assert (secrets.code, f'User "{name}" cannot list resource "secrets"' in secrets.err) == (1, True)
    may = [viewer("auth", "can-i", verb, "we").out.split()[0] for verb in ("list", "delete")]
    assert may == ["yes", "no"]
    assert kube.fine("get", "we", "-o", "name") == "workloadentry.networking.istio.io/a\n"


def test_an_editor_of_one_namespace(kube: Kubectl, tmp_path: Path) -> None:
    kube.server.apply(namespace("other"))
    name = f"editor-{kube.version}"
    editor = user(kube, tmp_path, name, "--role", "editor", "-n", "bookinfo")
    here, there = (json.dumps(workload_entry("a", namespace=where)) for where in ("bookinfo", "other"))
    assert editor.fine("apply", "-f", "-", stdin=here) == "workloadentry.networking.istio.io/a created\n"
    assert editor.fine("label", "we", "a", "x=y") == "workloadentry.networking.istio.io/a labeled\n"
    assert editor.fine("get", "we", "-l", "x=y", "-o", "name") == "workloadentry.networking.istio.io/a\n"
    refused = editor("create", "-f", "-", stdin=there, namespace="other")
    assert (refused.code, denial(name, "create", "other") in refused.err) == (1, True)
    listed = editor("get", "we", "-A")
    assert "Error from server (Forbidden)" in listed.err
    assert "at the cluster scope" in listed.err
    assert editor("delete", "ns", "bookinfo").code == 1
    assert editor.fine("delete", "we", "a").startswith('workloadentry.networking.istio.io "a" deleted')

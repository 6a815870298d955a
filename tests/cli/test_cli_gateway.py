"""`isthmus gateway create` against a real server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from isthmus.cli.main import main
from isthmus.identity.jointoken import parse
from kube_server import KubeServer, kube_server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[KubeServer]:
    with kube_server(tmp_path / "server") as running:
        yield running


def create(server: KubeServer, *arguments: str) -> Result:
    words = ["gateway", "create", *arguments, "--kubeconfig", str(server.kubeconfig)]
    return CliRunner().invoke(main, words)


def group(server: KubeServer, namespace: str, name: str) -> dict[str, object]:
    path = f"/apis/networking.istio.io/v1/namespaces/{namespace}/workloadgroups/{name}"
    spec: dict[str, object] = server.request("GET", path).document["spec"]
    return spec


def test_it_makes_a_group_of_gateways_and_prints_a_token(server: KubeServer) -> None:
    done = create(server, "edge/ingress")
    assert done.exit_code == 0, done.output
    assert parse(done.output.strip()).id.startswith("edge/ingress-")
    assert group(server, "edge", "ingress") == {
        "metadata": {
            "labels": {"istio": "ingressgateway"},
            "annotations": {"isthmus.dev/proxy": "gateway"},
        },
        "template": {"serviceAccount": "ingress"},
    }


def test_labels_network_and_account_are_as_said(server: KubeServer) -> None:
    words = ("--label", "istio=east", "--label", "app=x", "--network", "far", "--service-account", "gate")
    assert create(server, "edge/east-west", *words).exit_code == 0
    assert group(server, "edge", "east-west") == {
        "metadata": {
            "labels": {"istio": "east", "app": "x", "topology.istio.io/network": "far"},
            "annotations": {"isthmus.dev/proxy": "gateway"},
        },
        "template": {"serviceAccount": "gate", "network": "far"},
    }


def test_a_namespace_that_is_there_stays_as_it_is(server: KubeServer) -> None:
    assert create(server, "edge/one").exit_code == 0
    path = "/api/v1/namespaces/edge"
    before = server.request("GET", path).document["metadata"]["uid"]
    assert create(server, "edge/two").exit_code == 0
    assert server.request("GET", path).document["metadata"]["uid"] == before


@pytest.mark.parametrize("name", ["ingress", "a/b/c", "/x", "x/"])
def test_a_name_needs_a_namespace(server: KubeServer, name: str) -> None:
    done = create(server, name)
    assert done.exit_code == 2
    assert "is not NAMESPACE/NAME" in done.output


def test_a_label_needs_a_value(server: KubeServer) -> None:
    done = create(server, "edge/x", "--label", "istio")
    assert done.exit_code == 2
    assert "should be name=value" in done.output

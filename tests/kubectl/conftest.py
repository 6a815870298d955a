"""One API server and both kubectls for all tests of this folder."""

from collections.abc import Iterator

import pytest
from kubectl_binary import SUITES_BY_VERSION, Unavailable, kubectl
from kubectl_client import Kubectl

from documents import namespace
from kube_server import KubeServer, kube_server


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    """One server for all tests of a module."""
    with kube_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module", params=SUITES_BY_VERSION)
def client(
    request: pytest.FixtureRequest, running: KubeServer, tmp_path_factory: pytest.TempPathFactory
) -> Kubectl:
    """One kubectl; discovery is asked for once a module, as on a person's machine."""
    try:
        binary = kubectl(request.param)
    except Unavailable as error:
        pytest.skip(f"kubectl {request.param} CANNOT BE TESTED HERE: {error}")
    return Kubectl(binary, running, tmp_path_factory.mktemp("home"), request.param)


@pytest.fixture
def kube(client: Kubectl) -> Kubectl:
    """kubectl on a server with nothing but the namespace bookinfo."""
    for item in client.get("/api/v1/namespaces")["items"]:
        client.server.request("DELETE", f"/api/v1/namespaces/{item['metadata']['name']}")
    assert client.server.request("POST", "/api/v1/namespaces", namespace()).code == 201
    return client

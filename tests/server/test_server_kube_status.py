"""What clients may write into a status, and what stays the server's own."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from documents import document, namespace, service_entry
from kube_server import KubeServer, kube_server

ISTIO = "/apis/networking.istio.io"
MERGE = {"Content-Type": "application/merge-patch+json"}
APPLY = {"Content-Type": "application/apply-patch+yaml"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    """A server with the namespace bookinfo."""
    with kube_server(tmp_path_factory.mktemp("server")) as found:
        found.apply(namespace())
        yield found


def wiped(server: KubeServer, path: str, how: str) -> dict[str, Any]:
    """The status after a client took everything out of it."""
    document = server.request("GET", path).document
    if how == "patch":
        reply = server.request("PATCH", f"{path}/status", {"status": None}, headers=MERGE)
    elif how == "replace":
        reply = server.request("PUT", f"{path}/status", {**document, "status": {"mine": "x"}})
    else:
        config = {"apiVersion": document["apiVersion"], "kind": document["kind"]}
        config |= {"metadata": {"name": document["metadata"]["name"]}, "status": {"addresses": []}}
        query = "?fieldManager=me&force=true"
        reply = server.request("PATCH", f"{path}/status{query}", json.dumps(config).encode(), headers=APPLY)
    assert reply.code == 200, reply
    found: dict[str, Any] = server.request("GET", path).document["status"]
    return found


@pytest.mark.parametrize("how", ["patch", "replace", "apply"])
def test_virtual_addresses_are_not_the_clients(server: KubeServer, how: str) -> None:
    path = f"{ISTIO}/v1/namespaces/bookinfo/serviceentries/mysql"
    server.apply(service_entry("mysql"))
    before = server.request("GET", path).document["status"]["addresses"]
    assert len(before) == 2
    assert wiped(server, path, how)["addresses"] == before


@pytest.mark.parametrize("how", ["patch", "replace", "apply"])
def test_what_is_not_translated_is_told_whatever_clients_write(server: KubeServer, how: str) -> None:
    path = f"{ISTIO}/v1alpha3/namespaces/bookinfo/envoyfilters/a"
    server.apply(document(f"{ISTIO[6:]}/v1alpha3", "EnvoyFilter", "a", "bookinfo", {}))
    (condition,) = wiped(server, path, how)["conditions"]
    assert (condition["type"], condition["status"]) == ("Translated", "False")


def test_to_apply_the_same_later_is_no_change(server: KubeServer) -> None:
    """A list that merges whole gets defaults: what is applied differs from what stands, but comes to it."""
    body = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "a"},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"]}],
        "ports": [{"port": 80}],
    }
    path = "/apis/discovery.k8s.io/v1/namespaces/bookinfo/endpointslices/a?fieldManager=me"
    first = server.request("PATCH", path, json.dumps(body).encode(), headers=APPLY).document
    for _ in range(2):
        wait_for_the_next_second()
        again = server.request("PATCH", path, json.dumps(body).encode(), headers=APPLY).document
        assert again == first


def wait_for_the_next_second() -> None:
    """Times are told in whole seconds."""
    now = int(time.time())
    while int(time.time()) == now:
        time.sleep(0.01)

"""What may not be changed: Secrets and ConfigMaps that say so, and the type of a Secret."""

from collections.abc import Iterator
from typing import Any

import pytest

from documents import Document, namespace
from kube_server import KubeServer, Reply, kube_server

FROZEN = "Forbidden: field is immutable when `immutable` is set"
MERGE = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    """A server with the namespace bookinfo."""
    with kube_server(tmp_path_factory.mktemp("server")) as found:
        found.apply(namespace())
        yield found


def holder(kind: str, **body: Any) -> Document:
    """A Secret or a ConfigMap."""
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "a", "namespace": "bookinfo"}, **body}


def patched(server: KubeServer, kind: str, **change: Any) -> Reply:
    """What a merge patch of it is answered."""
    path = f"/api/v1/namespaces/bookinfo/{kind.lower()}s/a"
    return server.request("PATCH", path, change, headers=MERGE)


def causes(reply: Reply) -> dict[str, str]:
    """What is wrong, by field."""
    assert (reply.code, reply.document["reason"]) == (422, "Invalid"), reply
    return {one["field"]: one["message"] for one in reply.document["details"]["causes"]}


@pytest.mark.parametrize("kind", ["Secret", "ConfigMap"])
def test_immutable_data_stays(server: KubeServer, kind: str) -> None:
    body = holder(kind, data={"k": "Yg=="}, immutable=True)
    assert server.apply(body).code == 200
    refused = patched(server, kind, data={"k": "Yw=="})
    assert causes(refused) == {"data": FROZEN}
    assert refused.document["message"] == f'{kind} "a" is invalid: data: {FROZEN}'
    assert causes(patched(server, kind, immutable=None)) == {"immutable": FROZEN}
    assert causes(patched(server, kind, immutable=False, data={"k": None})).keys() == {"immutable", "data"}
    # in a batch, too, and when nothing is to be written
    for dry_run in (True, False):
        reply = server.apply(holder(kind, data={"k": "Yw=="}, immutable=True), dry_run=dry_run)
        assert (reply.code, FROZEN in str(reply.document)) == (422, True)
    assert patched(server, kind, metadata={"labels": {"x": "y"}}).code == 200
    path = f"/api/v1/namespaces/bookinfo/{kind.lower()}s"
    assert server.request("GET", f"{path}/a").document["data"] == {"k": "Yg=="}
    assert server.request("DELETE", f"{path}/a").code == 200
    assert server.apply(holder(kind, data={"k": "Yw=="})).code == 200


def test_what_is_not_immutable_may_become_so(server: KubeServer) -> None:
    server.apply(holder("ConfigMap", data={"k": "a"}))
    assert patched(server, "ConfigMap", data={"k": "b"}, immutable=True).code == 200
    assert causes(patched(server, "ConfigMap", binaryData={"l": "Yg=="})) == {"binaryData": FROZEN}


def test_a_secrets_type_stays(server: KubeServer) -> None:
    server.apply(holder("Secret", data={"k": "Yg=="}))
    assert causes(patched(server, "Secret", type="example.org/x")) == {
        "type": 'Invalid value: "example.org/x": field is immutable'
    }
    assert patched(server, "Secret", type="Opaque").code == 200


def test_a_secret_of_type_tls_has_both_its_parts(server: KubeServer) -> None:
    path = "/api/v1/namespaces/bookinfo/secrets"
    body = holder("Secret", type="kubernetes.io/tls", data={"tls.crt": ""})
    assert causes(server.request("POST", path, body)) == {"data[tls.key]": "Required value"}
    body["data"] = {"tls.crt": "", "tls.key": ""}
    assert server.request("POST", path, body).code == 201
    assert causes(patched(server, "Secret", data={"tls.crt": None})) == {"data[tls.crt]": "Required value"}

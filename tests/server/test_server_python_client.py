"""The `kubernetes` package from PyPI as a client: list, watch, create, patch, server-side apply, delete."""

from collections.abc import Iterator
from typing import Any

import pytest

from documents import namespace, service, service_entry, virtual_service
from kube_server import KubeServer, kube_server

kubernetes = pytest.importorskip("kubernetes")

GROUP = {"group": "networking.istio.io", "version": "v1", "namespace": "bookinfo"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    """A server with the namespace bookinfo."""
    with kube_server(tmp_path_factory.mktemp("server")) as found:
        found.apply(namespace())
        yield found


@pytest.fixture
def api(server: KubeServer) -> Iterator[Any]:
    """The client, as a kubeconfig makes it."""
    client = kubernetes.config.new_client_from_config(str(server.kubeconfig))
    yield client
    client.rest_client.pool_manager.clear()
    client.close()


def test_core_kinds(api: Any) -> None:
    core = kubernetes.client.CoreV1Api(api)
    made = core.create_namespaced_service("bookinfo", service("ratings"))
    assert made.spec.cluster_ip.startswith("240.240.")
    assert [item.metadata.name for item in core.list_namespaced_service("bookinfo").items] == ["ratings"]
    patched = core.patch_namespaced_service("ratings", "bookinfo", {"metadata": {"labels": {"a": "b"}}})
    assert patched.metadata.labels == {"a": "b"}
    assert patched.metadata.managed_fields[0].fields_type == "FieldsV1"
    core.delete_namespaced_service("ratings", "bookinfo")
    with pytest.raises(kubernetes.client.ApiException) as caught:
        core.read_namespaced_service("ratings", "bookinfo")
    assert caught.value.status == 404


def test_custom_kinds_and_watches(api: Any) -> None:
    custom = kubernetes.client.CustomObjectsApi(api)
    entries = {**GROUP, "plural": "serviceentries"}
    since = custom.list_namespaced_custom_object(**entries)["metadata"]["resourceVersion"]
    custom.create_namespaced_custom_object(**entries, body=service_entry("mysql"))
    custom.patch_namespaced_custom_object(
        **entries, name="mysql", body={"spec": {"location": "MESH_INTERNAL"}}
    )
    custom.delete_namespaced_custom_object(**entries, name="mysql")
    events = kubernetes.watch.Watch().stream(
        custom.list_namespaced_custom_object, **entries, resource_version=since, timeout_seconds=1
    )
    assert [event["type"] for event in events] == ["ADDED", "MODIFIED", "DELETED"]


def test_the_dynamic_client_applies_on_the_server(api: Any) -> None:
    dynamic = kubernetes.dynamic.DynamicClient(api)
    resource = dynamic.resources.get(api_version="networking.istio.io/v1", kind="VirtualService")
    body = virtual_service("reviews")
    applied = resource.server_side_apply(body=body, name="reviews", namespace="bookinfo", field_manager="me")
    assert applied.metadata.managedFields[0].manager == "me"
    with pytest.raises(kubernetes.dynamic.exceptions.ConflictError, match="conflict with"):
        resource.server_side_apply(
            body=virtual_service("reviews", hosts=["x"]),
            name="reviews",
            namespace="bookinfo",
            field_manager="other",
        )
    assert [item.metadata.name for item in resource.get(namespace="bookinfo").items] == ["reviews"]

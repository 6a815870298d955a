"""Watches: what stands, then every change, for as long as asked."""

import http.client
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from documents import namespace, virtual_service, workload_entry
from isthmus.server import kube_watch
from kube_server import KubeServer, kube_server

ENTRIES = "/apis/networking.istio.io/v1/namespaces/bookinfo/workloadentries"


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    """A server with the namespaces bookinfo and other."""
    with kube_server(tmp_path_factory.mktemp("server")) as found:
        found.apply(namespace(), namespace("other"))
        yield found


class Watch:
    """An open watch."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.response = response

    def line(self) -> tuple[str, dict[str, Any]]:
        """The next line: type and object."""
        event = json.loads(self.response.readline())
        return event["type"], event["object"]

    def name(self) -> tuple[str, str]:
        """The next line: type and name of the object."""
        kind, obj = self.line()
        return kind, obj["metadata"]["name"]


@contextmanager
def watching(server: KubeServer, path: str, **headers: str) -> Iterator[Watch]:
    """Opens a watch."""
    connection = server.connect()
    connection.request("GET", path, headers=server.headers() | headers)
    response = connection.getresponse()
    assert response.status == 200
    yield Watch(response)
    response.close()
    connection.close()


def test_a_watch_from_a_list_on(server: KubeServer) -> None:
    server.request("POST", ENTRIES, workload_entry("old"))
    version = server.request("GET", ENTRIES).document["metadata"]["resourceVersion"]
    with watching(server, f"{ENTRIES}?watch=true&resourceVersion={version}") as watch:
        server.request("POST", ENTRIES, workload_entry("a"))
        server.apply(workload_entry("b", namespace="other"), virtual_service("c"))
        server.apply(workload_entry("a", "10.0.0.2"))
        server.request("DELETE", f"{ENTRIES}/a")
        kind, obj = watch.line()
        assert (kind, obj["kind"], obj["metadata"]["generation"]) == ("ADDED", "WorkloadEntry", 1)
        assert watch.line()[1]["spec"] == {"address": "10.0.0.2"}
        kind, obj = watch.line()
        assert (kind, obj["spec"]) == ("DELETED", {"address": "10.0.0.2"})
        assert int(obj["metadata"]["resourceVersion"]) > int(version) + 3


def test_a_watch_without_version_tells_what_stands_first(server: KubeServer) -> None:
    server.request("POST", ENTRIES, workload_entry("old"))
    with watching(server, f"{ENTRIES}?watch=1") as watch:
        assert watch.name() == ("ADDED", "old")
        server.request("POST", ENTRIES, workload_entry("new"))
        assert watch.name() == ("ADDED", "new")


def test_an_object_that_leaves_the_selection_is_told_as_deleted(server: KubeServer) -> None:
    server.request("POST", ENTRIES, workload_entry("a", labels={"app": "x"}))
    with watching(server, f"{ENTRIES}?watch=true&labelSelector=app%3Dx") as watch:
        assert watch.name() == ("ADDED", "a")
        server.request("POST", ENTRIES, workload_entry("never"))
        server.apply(workload_entry("a", labels={"app": "y"}))
        assert watch.name() == ("DELETED", "a")
        server.apply(workload_entry("a", labels={"app": "z"}))
        server.apply(workload_entry("a", labels={"app": "x"}))
        assert watch.name() == ("ADDED", "a")
    by_name = f"{ENTRIES}?watch=true&fieldSelector=metadata.name%3Da"
    with watching(server, by_name) as watch:
        assert watch.name() == ("ADDED", "a")


def test_a_watch_ends_in_time(server: KubeServer) -> None:
    with watching(server, f"{ENTRIES}?watch=true&timeoutSeconds=1") as watch:
        assert watch.response.readline() == b""


def test_what_is_not_known_has_expired(server: KubeServer) -> None:
    with watching(server, f"{ENTRIES}?watch=true&resourceVersion=999999") as watch:
        kind, obj = watch.line()
        assert (kind, obj["code"], obj["reason"]) == ("ERROR", 410, "Expired")
        assert watch.response.readline() == b""
    assert server.request("GET", f"{ENTRIES}?watch=true&resourceVersion=x").code == 400
    assert server.request("GET", f"{ENTRIES}?watch=true&timeoutSeconds=x").code == 400


def test_a_watch_goes_on_after_a_restart(tmp_path: Path) -> None:
    with kube_server(tmp_path) as server:
        server.apply(namespace())
        version = server.request("POST", ENTRIES, workload_entry("a")).document["metadata"]["resourceVersion"]
        server.request("POST", ENTRIES, workload_entry("b"))
        server.request("DELETE", f"{ENTRIES}/a")
    with kube_server(tmp_path) as server:
        with watching(server, f"{ENTRIES}?watch=true&resourceVersion={version}") as watch:
            server.request("POST", ENTRIES, workload_entry("c"))
            assert [watch.name() for _ in range(3)] == [("ADDED", "b"), ("DELETED", "a"), ("ADDED", "c")]


@pytest.mark.parametrize("form", ["whole", "table", "metadata"])
def test_many_watchers_share_one_encoding(
    server: KubeServer, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    encoder = {"whole": "text", "table": "row", "metadata": "metadata_document"}[form]
    encoded: list[Any] = []
    real = getattr(kube_watch, encoder)

    def counting(obj: Any, *args: Any, **kwargs: Any) -> Any:
        encoded.append(obj.key.name)
        return real(obj, *args, **kwargs)

    monkeypatch.setattr(kube_watch, encoder, counting)
    wants = {"table": "Table", "metadata": "PartialObjectMetadata"}.get(form)
    accept = {"Accept": f"application/json;as={wants};v=v1;g=meta.k8s.io"} if wants else {}
    server.request("POST", ENTRIES, workload_entry("first"))
    with ExitStack() as stack:
        path = f"{ENTRIES}?watch=true"
        watches = [stack.enter_context(watching(server, path, **accept)) for _ in range(50)]
        for watch in watches:
            watch.line()  # what stands: a table's first line has a head, and is each watcher's own
        encoded.clear()
        server.request("POST", ENTRIES, workload_entry("a"))
        lines = {watch.response.readline() for watch in watches}
        assert (len(lines), encoded) == (1, ["a"])

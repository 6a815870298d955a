"""Lists in pages and by revision, tables, watches with bookmarks: what clients other than people read."""

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from documents import namespace, service_entry, workload_entry
from kube_server import KubeServer, Reply, kube_server

ENTRIES = "/apis/networking.istio.io/v1/namespaces/bookinfo/workloadentries"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
METADATA = {"Accept": "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    """One server for all tests of the module."""
    with kube_server(tmp_path_factory.mktemp("server")) as server:
        server.apply(namespace())
        yield server


@pytest.fixture
def server(running: KubeServer) -> KubeServer:
    """The server with five entries a … e."""
    assert running.request("DELETE", ENTRIES).code == 200
    entries = [
        workload_entry(name, f"10.0.0.{number}", labels={"n": name}) for number, name in enumerate("abcde", 1)
    ]
    assert running.apply(*entries).code == 200
    return running


def names(reply: Reply) -> list[str]:
    """The names in a list."""
    return [item["metadata"]["name"] for item in reply.document["items"]]


def reason(reply: Reply) -> tuple[int, str]:
    """How a request was refused."""
    return reply.code, reply.document["reason"]


@contextmanager
def watching(server: KubeServer, query: str, **headers: str) -> Iterator[Iterator[tuple[str, Any]]]:
    """Opens a watch."""
    connection = server.connect()
    connection.request("GET", f"{ENTRIES}?watch=true&{query}", headers=server.headers() | headers)
    response: http.client.HTTPResponse = connection.getresponse()
    assert response.status == 200, response.read()

    def lines() -> Iterator[tuple[str, Any]]:
        while line := response.readline():
            event = json.loads(line)
            yield event["type"], event["object"]

    yield lines()
    response.close()
    connection.close()


def test_pages_are_of_one_moment(server: KubeServer) -> None:
    first = server.request("GET", f"{ENTRIES}?limit=2")
    assert (names(first), first.document["metadata"]["remainingItemCount"]) == (["a", "b"], 3)
    server.request("DELETE", f"{ENTRIES}/c")
    server.request("POST", ENTRIES, workload_entry("cc", "10.0.0.9"))
    token = first.document["metadata"]["continue"]
    second = server.request("GET", f"{ENTRIES}?limit=2&continue={token}")
    assert names(second) == ["c", "d"]
    assert second.document["metadata"]["resourceVersion"] == first.document["metadata"]["resourceVersion"]
    last = server.request("GET", f"{ENTRIES}?limit=2&continue={second.document['metadata']['continue']}")
    assert (names(last), "continue" in last.document["metadata"]) == (["e"], False)
    assert names(server.request("GET", ENTRIES)) == ["a", "b", "cc", "d", "e"]
    selected = server.request("GET", f"{ENTRIES}?limit=1&labelSelector=n%20in%20(b,e)")
    rest = server.request(
        "GET",
        f"{ENTRIES}?limit=5&labelSelector=n%20in%20(b,e)&continue={selected.document['metadata']['continue']}",
    )
    assert (names(selected), names(rest)) == (["b"], ["e"])


def test_continue_tokens_that_are_not_ours(server: KubeServer) -> None:
    assert reason(server.request("GET", f"{ENTRIES}?continue=xyz")) == (400, "BadRequest")
    old = "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwiYWZ0ZXIiOlsiYSIsImIiXX0"
    assert reason(server.request("GET", f"{ENTRIES}?continue={old}")) == (410, "Expired")
    assert server.request("GET", f"{ENTRIES}?continue={old}&resourceVersion=5").code == 400


def test_revisions(server: KubeServer) -> None:
    now = server.request("GET", ENTRIES).document["metadata"]["resourceVersion"]
    assert len(names(server.request("GET", f"{ENTRIES}?resourceVersion=0"))) == 5
    assert (
        len(names(server.request("GET", f"{ENTRIES}?resourceVersion=1&resourceVersionMatch=NotOlderThan")))
        == 5
    )
    assert (
        len(names(server.request("GET", f"{ENTRIES}?resourceVersion={now}&resourceVersionMatch=Exact"))) == 5
    )
    gone = server.request("GET", f"{ENTRIES}?resourceVersion=1&resourceVersionMatch=Exact")
    assert reason(gone) == (410, "Expired")
    ahead = server.request("GET", f"{ENTRIES}?resourceVersion=999999")
    assert reason(ahead) == (504, "Timeout")
    assert ahead.document["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    for query in (
        "resourceVersionMatch=Exact",
        "resourceVersion=1&resourceVersionMatch=x",
        "sendInitialEvents=true",
    ):
        assert reason(server.request("GET", f"{ENTRIES}?{query}")) == (422, "Invalid"), query
    assert server.request("GET", f"{ENTRIES}?resourceVersion=x").code == 400


def test_tables(server: KubeServer) -> None:
    table = server.request("GET", ENTRIES, headers=TABLE).document
    columns = [column["name"] for column in table["columnDefinitions"]]
    assert columns[0] == "Name"
    assert {"Address", "Programmed", "Age"} <= set(columns)
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    one = server.request("GET", f"{ENTRIES}/a?includeObject=Object", headers=TABLE).document
    assert one["rows"][0]["object"]["spec"] == {"address": "10.0.0.1"}
    bare = server.request("GET", f"{ENTRIES}?includeObject=None&limit=1", headers=TABLE).document
    assert (bare["rows"][0]["object"], "continue" in bare["metadata"]) == (None, True)
    alone = server.request("GET", ENTRIES, headers=METADATA).document
    assert (alone["kind"], "spec" in alone["items"][0]) == ("PartialObjectMetadataList", False)
    refused = server.request("GET", ENTRIES, headers={"Accept": "application/vnd.kubernetes.protobuf"})
    assert reason(refused) == (406, "NotAcceptable")
    assert server.request("GET", f"{ENTRIES}?includeObject=x", headers=TABLE).code == 400


def test_a_watch_of_a_table_tells_its_columns_once(server: KubeServer) -> None:
    with watching(server, "resourceVersion=0", **TABLE) as lines:
        first, second = next(lines), next(lines)
        assert (first[0], len(first[1]["columnDefinitions"]) > 2, first[1]["rows"][0]["cells"][0]) == (
            "ADDED",
            True,
            "a",
        )
        assert (second[1]["columnDefinitions"], second[1]["rows"][0]["object"]["kind"]) == (
            None,
            "PartialObjectMetadata",
        )


def test_a_streamed_list_tells_its_end(server: KubeServer) -> None:
    query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    with watching(server, query) as lines:
        told = [next(lines) for _ in range(6)]
        assert [kind for kind, _ in told] == ["ADDED"] * 5 + ["BOOKMARK"]
        mark = told[-1][1]
        assert mark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
        assert (mark["kind"], mark["metadata"]["resourceVersion"]) == (
            "WorkloadEntry",
            server.request("GET", ENTRIES).document["metadata"]["resourceVersion"],
        )
        server.request("DELETE", f"{ENTRIES}/a")
        assert next(lines)[0] == "DELETED"
    for wrong in (
        "sendInitialEvents=true&allowWatchBookmarks=true",
        "resourceVersion=1&resourceVersionMatch=Exact",
    ):
        assert server.request("GET", f"{ENTRIES}?watch=true&{wrong}").code == 422, wrong


def test_a_watch_that_ends_says_how_far_it_came(server: KubeServer) -> None:
    version = server.request("GET", ENTRIES).document["metadata"]["resourceVersion"]
    with watching(server, f"resourceVersion={version}&allowWatchBookmarks=true&timeoutSeconds=1") as lines:
        server.request("DELETE", f"{ENTRIES}/a")
        (kind, gone), (mark, told) = list(lines)
        assert (kind, mark) == ("DELETED", "BOOKMARK")
        assert told["metadata"]["resourceVersion"] == gone["metadata"]["resourceVersion"]


def test_a_watch_of_one_object(server: KubeServer) -> None:
    with watching(server, "fieldSelector=metadata.name%3Db&timeoutSeconds=1") as lines:
        server.request("DELETE", f"{ENTRIES}/a")
        server.request("DELETE", f"{ENTRIES}/b")
        assert [(kind, obj["metadata"]["name"]) for kind, obj in lines] == [("ADDED", "b"), ("DELETED", "b")]


def test_discovery_at_once(server: KubeServer) -> None:
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    for path in ("/api", "/apis"):
        found = server.request("GET", path, headers={"Accept": accept}).document
        assert (found["kind"], found["apiVersion"]) == ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2")
    group = next(item for item in found["items"] if item["metadata"]["name"] == "networking.istio.io")
    assert [version["version"] for version in group["versions"]] == ["v1", "v1beta1", "v1alpha3"]
    resources = {row["resource"]: row for row in group["versions"][0]["resources"]}
    assert resources["virtualservices"]["shortNames"] == ["vs"]
    assert "istio-io" in resources["virtualservices"]["categories"]


def test_openapi(server: KubeServer) -> None:
    paths = server.request("GET", "/openapi/v3").document["paths"]
    for path in ("api/v1", "apis/networking.istio.io/v1", "apis/security.istio.io/v1beta1"):
        url = paths[path]["serverRelativeURL"]
        assert url.startswith(f"/openapi/v3/{path}?hash=")
        document = server.request("GET", url).document
        assert document["openapi"] == "3.0.0"
        known = {name for parts in document["components"].values() for name in parts}
        assert set(references(document)) <= known
    patch = document["paths"][
        "/apis/security.istio.io/v1beta1/namespaces/{namespace}/peerauthentications/{name}"
    ]["patch"]
    assert patch["x-kubernetes-group-version-kind"]["kind"] == "PeerAuthentication"
    assert {"dryRun", "fieldValidation", "fieldManager"} <= {row["name"] for row in patch["parameters"]}
    old = server.request("GET", "/openapi/v2").document
    assert (old["swagger"], old["paths"]) == ("2.0", {})
    assert server.request("GET", "/openapi/v3/apis/x/v1").code == 404


def references(node: Any) -> Iterator[str]:
    """The names of schemas that are referred to."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rpartition("/")[2]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_openapi_says_what_is_needed_and_how_lists_merge(server: KubeServer) -> None:
    schemas = server.request("GET", "/openapi/v3/apis/networking.istio.io/v1").document["components"][
        "schemas"
    ]
    entry = schemas["ServiceEntrySpec"]
    assert (schemas["io.istio.networking.v1.ServiceEntry"]["required"], entry["required"]) == (
        ["spec"],
        ["hosts"],
    )
    ports = entry["properties"]["ports"]
    assert (ports["x-kubernetes-list-type"], ports["x-kubernetes-list-map-keys"]) == ("map", ["name"])
    assert "x-kubernetes-list-type" not in entry["properties"]["hosts"]
    document = server.request("GET", "/openapi/v3/apis/extensions.istio.io/v1alpha1").document
    environment = document["components"]["schemas"]["VmConfig"]["properties"]["env"]
    assert environment["x-kubernetes-list-map-keys"] == ["name"]


def test_server_side_apply_without_kubectl(server: KubeServer) -> None:
    path = "/apis/networking.istio.io/v1/namespaces/bookinfo/serviceentries/mysql"
    headers = {"Content-Type": "application/apply-patch+yaml"}
    wanted = service_entry("mysql", location="MESH_EXTERNAL")
    assert reason(server.request("PATCH", path, wanted, headers=headers)) == (422, "Invalid")
    assert server.request("PATCH", f"{path}?fieldManager=a", wanted, headers=headers).code == 201
    again = server.request("PATCH", f"{path}?fieldManager=a", wanted, headers=headers).document
    assert server.request("GET", path).document == again
    conflict = server.request(
        "PATCH", f"{path}?fieldManager=b", service_entry("mysql", location="MESH_INTERNAL"), headers=headers
    )
    assert reason(conflict) == (409, "Conflict")
    assert conflict.document["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "a"', "field": ".spec.location"}
    ]
    less = server.request("PATCH", f"{path}?fieldManager=a", service_entry("mysql"), headers=headers).document
    assert "location" not in less["spec"]
    dry = server.request("PATCH", f"{path}?fieldManager=c&dryRun=All", wanted, headers=headers).document
    assert dry["spec"]["location"] == "MESH_EXTERNAL"
    assert "location" not in server.request("GET", path).document["spec"]
    status = {"apiVersion": wanted["apiVersion"], "kind": "ServiceEntry", "metadata": {"name": "mysql"}}
    status["status"] = {"conditions": [{"type": "Checked", "status": "True"}]}
    reply = server.request("PATCH", f"{path}/status?fieldManager=robot", status, headers=headers)
    assert {row["type"] for row in reply.document["status"]["conditions"]} >= {"Checked"}
    assert reply.document["status"]["addresses"]
    for body, code in (
        ({}, 400),
        ({**wanted, "kind": "Service"}, 400),
        ({**wanted, "metadata": {"name": "x"}}, 400),
    ):
        assert server.request("PATCH", f"{path}?fieldManager=a", body, headers=headers).code == code
    bogus = service_entry("mysql", bogus=1)
    strict = server.request("PATCH", f"{path}?fieldManager=a&fieldValidation=Strict", bogus, headers=headers)
    assert strict.document["message"] == 'strict decoding error: unknown field "spec.bogus"'

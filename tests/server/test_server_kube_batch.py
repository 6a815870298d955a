"""Many objects at once: all, or none and every mistake."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from documents import namespace, service, service_entry, virtual_service, workload_entry
from isthmus.api.meta import Key
from isthmus.store.base import UpdateStatus
from kube_server import KubeServer, Reply, kube_server


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    """One server for all tests of the module."""
    with kube_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def server(running: KubeServer) -> KubeServer:
    """The server, with nothing in it."""
    for item in running.request("GET", "/api/v1/namespaces").document["items"]:
        running.request("DELETE", f"/api/v1/namespaces/{item['metadata']['name']}")
    return running


def actions(reply: Reply) -> list[str]:
    """What was done with each object."""
    assert reply.code == 200, reply.document
    return [result["action"] for result in reply.document["results"]]


def errors(reply: Reply) -> list[tuple[int, str, str]]:
    """Index, key and field of each mistake."""
    assert reply.code == 422
    return [(error["index"], error["key"], error["field"]) for error in reply.document["errors"]]


def test_created_configured_unchanged(server: KubeServer) -> None:
    objects = [namespace(), workload_entry("a"), virtual_service("a")]
    first = server.apply(*objects)
    assert actions(first) == ["created", "created", "created"]
    assert first.document["results"][1]["object"]["metadata"]["generation"] == 1
    assert actions(server.apply(*objects)) == ["unchanged", "unchanged", "unchanged"]
    objects[1] = workload_entry("a", "10.0.0.2")
    second = server.apply(*objects)
    assert actions(second) == ["unchanged", "configured", "unchanged"]
    assert second.document["results"][1]["object"]["metadata"]["generation"] == 2


def test_nothing_of_a_bad_batch_is_applied_and_everything_is_told(server: KubeServer) -> None:
    bad_route: dict[str, Any] = {"route": [{"destination": {"host": "a", "subst": "v1"}}], "timeout": "0s"}
    reply = server.apply(
        namespace(),
        workload_entry("good"),
        workload_entry("bad", "300.1.1.1"),
        virtual_service("typo", bad_route),
        {"apiVersion": "v1", "kind": "Servce", "metadata": {"name": "x"}},
        workload_entry("lost", namespace="nowhere"),
        workload_entry("good"),
        virtual_service("wrong", {"route": []}),
        {
            "apiVersion": "isthmus.dev/v1alpha1",
            "kind": "JoinToken",
            "metadata": {"name": "t", "namespace": "bookinfo"},
            "spec": {"group": "a"},
        },
    )
    assert errors(reply) == [
        (2, "WorkloadEntry/bookinfo/bad", "spec.address"),
        (3, "VirtualService/bookinfo/typo", "spec.http[0].route[0].destination.subst"),
        (3, "VirtualService/bookinfo/typo", "spec.http[0].timeout"),
        (4, "Servce/x", "kind"),
        (5, "WorkloadEntry/nowhere/lost", "metadata.namespace"),
        (6, "WorkloadEntry/bookinfo/good", "metadata.name"),
        (7, "VirtualService/bookinfo/wrong", "spec.http[0].route"),
        (8, "JoinToken/bookinfo/t", "kind"),
    ]
    assert reply.document["kind"] == "Status"
    assert "did you mean subset?" in reply.document["errors"][1]["message"]
    assert server.request("GET", "/api/v1/namespaces").document["items"] == []


def test_one_bad_object_of_many_good_ones(server: KubeServer) -> None:
    entries = [workload_entry(f"e{number}") for number in range(20)]
    entries[13]["spec"]["weight"] = -1
    assert errors(server.apply(namespace(), *entries)) == [(14, "WorkloadEntry/bookinfo/e13", "spec.weight")]
    assert server.request("GET", "/api/v1/namespaces").document["items"] == []


def test_a_namespace_may_come_in_the_same_batch_even_after(server: KubeServer) -> None:
    assert actions(server.apply(workload_entry("a"), namespace())) == ["created", "created"]
    assert errors(server.apply(workload_entry("a", namespace="gone"))) == [
        (0, "WorkloadEntry/gone/a", "metadata.namespace")
    ]


def test_a_dry_run_says_what_would_be(server: KubeServer) -> None:
    reply = server.apply(namespace(), workload_entry("a"), dry_run=True)
    assert actions(reply) == ["created", "created"]
    assert reply.document["results"][1]["object"]["metadata"]["uid"]
    assert server.request("GET", "/api/v1/namespaces").document["items"] == []


def test_a_file_that_was_saved_long_ago_still_applies(server: KubeServer) -> None:
    (_, saved) = server.apply(namespace(), workload_entry("a")).document["results"]
    server.apply(workload_entry("a", "10.0.0.2"))
    old = saved["object"] | {"status": {"conditions": [{"type": "Healthy", "status": "False"}]}}
    reply = server.apply(old)
    assert actions(reply) == ["configured"]
    after = reply.document["results"][0]["object"]
    assert (after["spec"], "status" in after) == ({"address": "10.0.0.1"}, False)


def test_status_and_addresses_stay(server: KubeServer) -> None:
    objects = [namespace(), service_entry("mysql"), service("details")]
    results = server.apply(*objects).document["results"]
    entry = results[1]["object"]
    conditions = [{"type": "Programmed", "status": "True"}]
    key = Key("ServiceEntry", "bookinfo", "mysql")
    server.run(server.store.apply([UpdateStatus(key, entry["status"] | {"conditions": conditions})]))
    again = server.apply(*objects)
    assert actions(again) == ["unchanged", "unchanged", "unchanged"]
    assert again.document["results"][1]["object"]["status"] == entry["status"] | {"conditions": conditions}
    assert again.document["results"][2]["object"]["spec"] == results[2]["object"]["spec"]


def test_services_of_one_batch_get_different_addresses(server: KubeServer) -> None:
    services = [service(f"s{number}") for number in range(40)]
    results = server.apply(namespace(), *services).document["results"][1:]
    assert len({result["object"]["spec"]["clusterIP"] for result in results}) == 40


def test_warnings_stand_with_their_object(server: KubeServer) -> None:
    route = {"route": [{"destination": {"host": "a"}}]}
    results = server.apply(namespace(), virtual_service("a", route, route)).document["results"]
    assert results[0]["warnings"] == []
    assert results[1]["warnings"][0].startswith("spec.http[1]: is never reached")


@pytest.mark.parametrize(
    "body",
    [[], {}, {"objects": {}}, {"objects": [], "dryRun": "yes"}, {"objects": [], "dryrun": True}],
)
def test_bodies_that_are_no_batch(server: KubeServer, body: Any) -> None:
    reply = server.request("POST", "/apis/isthmus.dev/v1alpha1/apply", body)
    assert (reply.code, reply.document["reason"]) == (400, "BadRequest")


def test_documents_that_are_no_objects(server: KubeServer) -> None:
    body: Any = {"objects": [1, None, [], {"kind": 3}, {"metadata": {"name": {}}}]}
    reply = server.request("POST", "/apis/isthmus.dev/v1alpha1/apply", body)
    assert sorted({index for index, _, _ in errors(reply)}) == [0, 1, 2, 3, 4]
    assert server.request("POST", "/apis/isthmus.dev/v1alpha1/apply", {"objects": []}).document == {
        "results": []
    }


def test_writers_at_once_get_different_addresses(server: KubeServer) -> None:
    server.apply(namespace())
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda number: server.apply(service(f"s{number}")), range(24)))
    assert [action for reply in replies for action in actions(reply)] == ["created"] * 24
    addresses = {reply.document["results"][0]["object"]["spec"]["clusterIP"] for reply in replies}
    assert len(addresses) == 24

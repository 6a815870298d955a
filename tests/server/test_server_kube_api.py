"""The API as any Kubernetes client sees it, over TLS."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from documents import (
    document,
    namespace,
    service,
    service_entry,
    virtual_service,
    workload_entry,
    workload_group,
)
from isthmus.api.codec import decode
from isthmus.api.meta import Key
from isthmus.identity.jointoken import parse, secret_fits
from isthmus.store.base import UpdateStatus
from kube_server import KubeServer, Reply, kube_server

ENTRIES = "/apis/networking.istio.io/v1/namespaces/bookinfo/workloadentries"
ROUTES = "/apis/networking.istio.io/v1/namespaces/bookinfo/virtualservices"
TOKENS = "/apis/isthmus.dev/v1alpha1/namespaces/bookinfo/jointokens"
MERGE = {"Content-Type": "application/merge-patch+json"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    """One server for all tests of the module."""
    with kube_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def server(running: KubeServer) -> KubeServer:
    """The server, with nothing in it but the namespace bookinfo."""
    for item in running.request("GET", "/api/v1/namespaces").document["items"]:
        running.request("DELETE", f"/api/v1/namespaces/{item['metadata']['name']}")
    assert running.request("POST", "/api/v1/namespaces", namespace()).code == 201
    return running


def status(reply: Reply) -> tuple[int, str, str]:
    """What a refusal says, if it is a proper Status."""
    doc = reply.document
    assert (doc["kind"], doc["apiVersion"], doc["status"], doc["code"]) == (
        "Status",
        "v1",
        "Failure",
        reply.code,
    )
    return reply.code, doc["reason"], doc["message"]


def test_an_object_lives_and_dies(server: KubeServer) -> None:
    created = server.request("POST", ENTRIES, workload_entry("vm-1", labels={"app": "mysql"}))
    assert created.code == 201
    meta = created.document["metadata"]
    assert set(meta) == {
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "labels",
        "managedFields",
    }
    assert isinstance(meta["resourceVersion"], str)
    assert meta["creationTimestamp"][-1] == "Z"
    assert "." not in meta["creationTimestamp"]
    got = server.request("GET", f"{ENTRIES}/vm-1")
    assert (got.code, got.document) == (200, created.document)
    doc = got.document | {"spec": {"address": "10.0.0.2"}}
    put = server.request("PUT", f"{ENTRIES}/vm-1", doc)
    assert (put.code, put.document["metadata"]["generation"]) == (200, 2)
    patched = server.request(
        "PATCH", f"{ENTRIES}/vm-1", {"metadata": {"labels": {"app": None, "v": "1"}}}, headers=MERGE
    )
    assert (patched.code, patched.document["metadata"]["labels"]) == (200, {"v": "1"})
    assert patched.document["spec"] == {"address": "10.0.0.2"}
    assert patched.document["metadata"]["generation"] == 2
    gone = server.request("DELETE", f"{ENTRIES}/vm-1")
    assert (gone.code, gone.document["status"]) == (200, "Success")
    assert gone.document["details"]["uid"] == meta["uid"]
    assert server.request("GET", f"{ENTRIES}/vm-1").code == 404


def test_refusals_are_kubernetes_own(server: KubeServer) -> None:
    server.request("POST", ENTRIES, workload_entry("vm-1"))
    assert status(server.request("POST", ENTRIES, workload_entry("vm-1"))) == (
        409,
        "AlreadyExists",
        'workloadentries.networking.istio.io "vm-1" already exists',
    )
    missing = server.request("GET", f"{ENTRIES}/vm-2")
    assert status(missing) == (404, "NotFound", 'workloadentries.networking.istio.io "vm-2" not found')
    assert missing.document["details"] == {
        "name": "vm-2",
        "group": "networking.istio.io",
        "kind": "workloadentries",
    }
    stale = workload_entry("vm-1", "10.0.0.9", resourceVersion="1")
    code, reason, message = status(server.request("PUT", f"{ENTRIES}/vm-1", stale))
    assert (code, reason) == (409, "Conflict")
    assert message.startswith(
        'Operation cannot be fulfilled on workloadentries.networking.istio.io "vm-1": the object'
    )
    assert status(server.request("PUT", f"{ENTRIES}/vm-2", workload_entry("vm-2")))[:2] == (404, "NotFound")
    assert status(server.request("DELETE", f"{ENTRIES}/vm-2"))[:2] == (404, "NotFound")
    nowhere = server.request(
        "POST", ENTRIES.replace("bookinfo", "nowhere"), workload_entry("a", namespace="nowhere")
    )
    assert status(nowhere) == (404, "NotFound", 'namespaces "nowhere" not found')
    for path in (
        "/apis/x.io/v1/things",
        "/api/v1/widgets",
        "/apis/networking.istio.io/v2/workloadentries",
        f"{ENTRIES}/a/scale",
        "/api/v2",
    ):
        assert server.request("GET", path).code == 404, path
    everywhere = ENTRIES.replace("/namespaces/bookinfo", "")
    assert status(server.request("DELETE", everywhere))[:2] == (405, "MethodNotAllowed")
    assert status(server.request("PUT", ENTRIES, workload_entry("a")))[:2] == (405, "MethodNotAllowed")


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"{", 400, "not JSON"),
        (b"[" * 100_000, 400, "nested too deeply"),
        (b'{"kind": "WorkloadEntry", "kind": "X"}', 400, "'kind' is given twice"),
        (b'{"spec": {"weight": NaN}}', 400, "NaN is not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
        ([], 400, "is not an object"),
        (workload_entry("a", namespace="other"), 400, "does not match the namespace"),
        (service("a"), 400, "does not match the expected"),
        (workload_entry("a", resourceVersion="5"), 400, "resourceVersion should not be set"),
        (workload_entry("A"), 422, "metadata.name"),
        (b'{"a": "' + b"x" * 1_100_000 + b'"}', 413, "limit is 1048576"),
    ],
    ids=["cut", "deep", "twice", "nan", "utf8", "list", "namespace", "kind", "version", "name", "large"],
)
def test_bodies_that_are_refused(server: KubeServer, body: Any, code: int, words: str) -> None:
    answered, _, message = status(server.request("POST", ENTRIES, body))
    assert answered == code
    assert words in message


SOON = (
    'Invalid value: "soon": is not a duration: '
    "must be a valid duration greater than 1ms, such as 500ms, 1.5s or 2m30s"
)
WRONG = {
    "spec.http[0].timeout": SOON,
    "spec.http[0].retries.attempts": (
        "Invalid value: -1: attempts cannot be negative (0 switches retries off)"
    ),
}
UNKNOWN = {
    "spec.host": "unknown field (did you mean hosts?)",
    "spec.http[0].route[0].wieght": "unknown field (did you mean weight?)",
}


@pytest.mark.parametrize(
    ("level", "code", "causes", "warned"),
    [
        ("Strict", 400, UNKNOWN | WRONG, set()),
        ("Warn", 422, WRONG, set(UNKNOWN)),
        ("Ignore", 422, WRONG, set()),
    ],
)
def test_every_mistake_of_an_object_is_a_cause(
    server: KubeServer, level: str, code: int, causes: dict[str, str], warned: set[str]
) -> None:
    """Those of its form and those of its meaning; with `Warn`, unknown fields are none of them."""
    http = {
        "route": [{"destination": {"host": "a"}, "wieght": 80}],
        "timeout": "soon",
        "retries": {"attempts": -1},
    }
    made = server.request("POST", f"{ROUTES}?fieldValidation={level}", virtual_service("a", http, host=["a"]))
    put = server.request(
        "PATCH",
        f"{ROUTES}/a?fieldValidation={level}&fieldManager=me",
        virtual_service("a", http, host=["a"]),
        headers={"Content-Type": "application/apply-patch+yaml"},
    )
    for reply in (made, put):
        assert reply.code == code
        assert {cause["field"]: cause["message"] for cause in reply.document["details"]["causes"]} == causes
    assert {warning.split('\\"')[1] for warning in made.warnings} == warned
    assert put.warnings == []  # as a real API server does


def test_unknown_fields_are_told_with_what_is_refused(server: KubeServer) -> None:
    http = {"route": [{"destination": {"host": "a"}}], "retries": {"attempts": -1}}
    reply = server.request("POST", ROUTES, virtual_service("a", http, host=["a"]))
    assert [cause["field"] for cause in reply.document["details"]["causes"]] == [
        "spec.http[0].retries.attempts"
    ]
    assert reply.warnings == ['299 - "unknown field \\"spec.host\\""']


def test_warnings_come_in_headers(server: KubeServer) -> None:
    route = {"route": [{"destination": {"host": "a"}}]}
    reply = server.request("POST", ROUTES, virtual_service("a", route, route))
    assert reply.code == 201
    assert reply.warnings[0].startswith('299 - "spec.http[1]: is never reached')


def test_who_is_not_known_gets_nothing(server: KubeServer) -> None:
    for authorization in ("", "Bearer ", "Bearer wrong", f"Basic {server.token}", server.token):
        for path in ("/api", "/apis", "/api/v1", ENTRIES, "/apis/isthmus.dev/v1alpha1/apply"):
            method = "POST" if path.endswith("apply") else "GET"
            reply = server.request(method, path, headers={"Authorization": authorization})
            assert status(reply) == (401, "Unauthorized", "Unauthorized")
    for path in ("/healthz", "/livez", "/readyz"):
        reply = server.request("GET", path, headers={"Authorization": ""})
        assert (reply.code, reply.document) == (200, b"ok")


def test_discovery(server: KubeServer) -> None:
    assert server.request("GET", "/version").document["major"] == "1"
    assert server.request("GET", "/api").document["versions"] == ["v1"]
    groups = {group["name"]: group for group in server.request("GET", "/apis").document["groups"]}
    assert {"networking.istio.io", "security.istio.io", "isthmus.dev", "discovery.k8s.io"} <= set(groups)
    assert groups["networking.istio.io"]["preferredVersion"]["groupVersion"] == "networking.istio.io/v1"
    resources = server.request("GET", "/apis/networking.istio.io/v1beta1").document["resources"]
    rows = {row["name"]: row for row in resources}
    assert rows["virtualservices"]["shortNames"] == ["vs"]
    assert "virtualservices/status" in rows
    core = {row["name"] for row in server.request("GET", "/api/v1").document["resources"]}
    assert {"namespaces", "services", "serviceaccounts"} <= core
    assert server.request("GET", "/apis/security.istio.io").document["kind"] == "APIGroup"


def test_all_versions_are_one_object(server: KubeServer) -> None:
    server.request("POST", ROUTES, virtual_service("a"))
    for version in ("v1", "v1beta1", "v1alpha3"):
        reply = server.request("GET", ROUTES.replace("/v1/", f"/{version}/") + "/a")
        assert reply.document["apiVersion"] == f"networking.istio.io/{version}"
    old = server.request("GET", ROUTES.replace("/v1/", "/v1alpha3/")).document
    assert (old["apiVersion"], old["kind"]) == ("networking.istio.io/v1alpha3", "VirtualServiceList")


def test_lists_and_selectors(server: KubeServer) -> None:
    server.request("POST", "/api/v1/namespaces", namespace("other"))
    server.request("POST", ENTRIES, workload_entry("a", labels={"app": "x", "v": "1"}))
    server.request("POST", ENTRIES, workload_entry("b", labels={"app": "y"}))
    server.request("POST", ENTRIES.replace("bookinfo", "other"), workload_entry("a", namespace="other"))

    def names(path: str) -> list[str]:
        items = server.request("GET", path).document["items"]
        return [f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in items]

    everywhere = "/apis/networking.istio.io/v1/workloadentries"
    assert names(everywhere) == ["bookinfo/a", "bookinfo/b", "other/a"]
    assert names(ENTRIES) == ["bookinfo/a", "bookinfo/b"]
    assert names(f"{everywhere}?fieldSelector=metadata.name%3Da") == ["bookinfo/a", "other/a"]
    assert names(f"{everywhere}?labelSelector=app%3Dx") == ["bookinfo/a"]
    assert names(f"{everywhere}?labelSelector=app%20in%20(x,y),!v") == ["bookinfo/b"]
    assert status(server.request("GET", f"{everywhere}?labelSelector=a%3D%3D%3Db"))[0] == 400
    listed = server.request("GET", ENTRIES).document
    assert int(listed["metadata"]["resourceVersion"]) >= 3


def test_status_has_a_door_of_its_own(server: KubeServer) -> None:
    created = server.request("POST", ENTRIES, workload_entry("a") | {"status": {"mine": 1}}).document
    assert "status" not in created
    doc = created | {"spec": {"address": "10.9.9.9"}, "status": {"conditions": [{"type": "Healthy"}]}}
    put = server.request("PUT", f"{ENTRIES}/a/status", doc)
    assert (put.code, put.document["status"]) == (200, doc["status"])
    assert put.document["spec"] == {"address": "10.0.0.1"}
    assert put.document["metadata"]["generation"] == 1
    plain = put.document | {"spec": {"address": "10.0.0.2"}, "status": {}}
    assert server.request("PUT", f"{ENTRIES}/a", plain).document["status"] == doc["status"]
    assert status(server.request("PUT", f"{ENTRIES}/a/status", doc))[:2] == (409, "Conflict")
    patched = server.request("PATCH", f"{ENTRIES}/a/status", {"status": {"x": 1}}, headers=MERGE)
    assert patched.document["status"] == doc["status"] | {"x": 1}
    assert server.request("GET", f"{ENTRIES}/a/status").document["status"]["x"] == 1


def test_patches(server: KubeServer) -> None:
    server.request("POST", ENTRIES, workload_entry("a"))
    stale = {"metadata": {"resourceVersion": "1"}, "spec": {"address": "10.0.0.2"}}
    assert status(server.request("PATCH", f"{ENTRIES}/a", stale, headers=MERGE))[:2] == (409, "Conflict")
    wrong = server.request("PATCH", f"{ENTRIES}/a", {"spec": {"adress": "x"}}, headers=MERGE)
    assert (wrong.code, wrong.warnings) == (200, ['299 - "unknown field \\"spec.adress\\""'])
    strict = f"{ENTRIES}/a?fieldValidation=Strict"
    wrong = server.request("PATCH", strict, {"spec": {"adress": "x"}}, headers=MERGE)
    assert status(wrong) == (400, "BadRequest", 'strict decoding error: unknown field "spec.adress"')
    assert wrong.document["details"]["causes"][0]["message"] == "unknown field (did you mean address?)"
    assert (
        status(server.request("PATCH", f"{ENTRIES}/a", {"metadata": {"name": "b"}}, headers=MERGE))[0] == 400
    )
    assert status(server.request("PATCH", f"{ENTRIES}/a", [], headers=MERGE))[0] == 400
    assert status(server.request("PATCH", f"{ENTRIES}/b", {}, headers=MERGE))[:2] == (404, "NotFound")
    assert status(server.request("PATCH", f"{ENTRIES}/a", {}))[:2] == (415, "UnsupportedMediaType")


def test_a_dry_run_answers_and_changes_nothing(server: KubeServer) -> None:
    before = server.request("GET", ENTRIES).document["metadata"]["resourceVersion"]
    reply = server.request("POST", f"{ENTRIES}?dryRun=All", workload_entry("a"))
    assert (reply.code, reply.document["metadata"]["generation"]) == (201, 1)
    assert server.request("GET", ENTRIES).document["metadata"]["resourceVersion"] == before
    assert status(server.request("POST", f"{ENTRIES}?dryRun=some", workload_entry("a")))[0] == 422
    made = server.request("POST", ENTRIES, workload_entry("a")).document["metadata"]
    draft = workload_entry("a", "10.0.0.2", resourceVersion=made["resourceVersion"])
    changed = server.request("PUT", f"{ENTRIES}/a?dryRun=All", draft)
    assert changed.document["metadata"]["generation"] == 2
    assert server.request("DELETE", f"{ENTRIES}/a?dryRun=All").code == 200
    assert server.request("GET", f"{ENTRIES}/a").document["spec"] == {"address": "10.0.0.1"}


def test_deletes_may_be_conditional(server: KubeServer) -> None:
    created = server.request("POST", ENTRIES, workload_entry("a")).document
    options = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "another"}}
    assert status(server.request("DELETE", f"{ENTRIES}/a", options))[:2] == (409, "Conflict")
    options["preconditions"] = {"resourceVersion": created["metadata"]["resourceVersion"]}
    assert server.request("DELETE", f"{ENTRIES}/a", options).code == 200


def test_names_can_be_completed(server: KubeServer) -> None:
    doc = workload_entry("x")
    doc["metadata"] = {"generateName": "vm-"}
    names = {server.request("POST", ENTRIES, doc).document["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("vm-") for name in names)


def test_a_service_gets_addresses_that_stay(server: KubeServer) -> None:
    path = "/api/v1/namespaces/bookinfo/services"
    first = server.request("POST", path, service("details")).document["spec"]
    assert first["clusterIP"].startswith("240.240.")
    assert first["clusterIPs"][0] == first["clusterIP"]
    again = server.request("PUT", f"{path}/details", service("details", 9081)).document
    assert again["spec"]["clusterIP"] == first["clusterIP"]
    assert again["metadata"]["generation"] == 2


def test_addresses_and_conditions_share_a_status(server: KubeServer) -> None:
    path = "/apis/networking.istio.io/v1/namespaces/bookinfo/serviceentries"
    created = server.request("POST", path, service_entry("mysql")).document
    addresses = created["status"]["addresses"]
    assert addresses[0]["host"] == "mysql.example.com"
    conditions = [{"type": "Programmed", "status": "True"}]
    key = Key("ServiceEntry", "bookinfo", "mysql")
    server.run(server.store.apply([UpdateStatus(key, created["status"] | {"conditions": conditions})]))
    patch = {"spec": {"location": "MESH_INTERNAL"}}
    after = server.request("PATCH", f"{path}/mysql", patch, headers=MERGE).document["status"]
    assert after == {"addresses": addresses, "conditions": conditions}


def test_a_token_is_shown_once(server: KubeServer) -> None:
    spec = {"group": "mysql", "ttl": "1m"}
    token = document("isthmus.dev/v1alpha1", "JoinToken", "t", "bookinfo", spec)
    refused = server.request("POST", TOKENS, token)
    assert status(refused)[0] == 422
    assert refused.document["details"]["causes"][0]["field"] == "spec.group"
    groups = "/apis/networking.istio.io/v1/namespaces/bookinfo/workloadgroups"
    assert server.request("POST", groups, workload_group("mysql")).code == 201
    created = server.request("POST", TOKENS, token)
    text = created.document["status"]["token"]
    found = parse(text)
    assert (found.namespace, found.name) == ("bookinfo", "t")
    stored = server.request("GET", f"{TOKENS}/t").document
    assert "status" not in stored
    assert text not in str(stored)
    assert set(stored["spec"]) == {"group", "expiresAt", "secretHash"}
    assert secret_fits(found.secret, stored["spec"]["secretHash"])
    changed = stored | {"spec": stored["spec"] | {"expiresAt": "2099-01-01T00:00:00Z"}}
    assert status(server.request("PUT", f"{TOKENS}/t", changed))[0] == 422
    forged = document(
        "isthmus.dev/v1alpha1", "JoinToken", "u", "bookinfo", {"group": "mysql", "secretHash": "0" * 64}
    )
    assert status(server.request("POST", TOKENS, forged))[0] == 422
    dry = document("isthmus.dev/v1alpha1", "JoinToken", "u", "bookinfo", spec)
    assert "status" not in server.request("POST", f"{TOKENS}?dryRun=All", dry).document


def test_every_document_of_a_list_can_be_read_back(server: KubeServer) -> None:
    for path, doc in ((ENTRIES, workload_entry("a")), (ROUTES, virtual_service("b"))):
        server.request("POST", path, doc)
        for item in server.request("GET", path).document["items"]:
            assert decode(item)[1] == []


def test_the_files_of_the_server_are_private(server: KubeServer) -> None:
    modes = {
        path.name: path.stat().st_mode & 0o777 for path in Path(server.kubeconfig).parent.glob("isthmus.db*")
    }
    assert set(modes.values()) == {0o600}

"""Stock kubectl writes: create, apply both ways, patch, edit, delete, wait."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from kubectl_client import Done, Kubectl

from documents import service, service_entry, virtual_service, workload_entry

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(300)]
ROUTE = "virtualservice.networking.istio.io/reviews"


def put(kube: Kubectl, *command: str, **document: Any) -> Done:
    """A command that reads a VirtualService."""
    return kube(*command, "-f", "-", stdin=json.dumps(virtual_service("reviews", **document)))


def spec(kube: Kubectl, name: str = "vs/reviews") -> dict[str, Any]:
    """A spec as it is stored."""
    found: dict[str, Any] = json.loads(kube.fine("get", name, "-o", "json"))["spec"]
    return found


def test_create(kube: Kubectl) -> None:
    assert put(kube, "create") == Done(0, f"{ROUTE} created\n", "")
    again = put(kube, "create")
    assert again.code == 1
    assert (
        'Error from server (AlreadyExists): error when creating "STDIN": '
        'virtualservices.networking.istio.io "reviews" already exists\n'
    ) == again.err
    assert kube.fine("create", "namespace", "other") == "namespace/other created\n"
    assert kube.fine("create", "configmap", "c", "--from-literal=a=b") == "configmap/c created\n"
    assert kube.fine("create", "secret", "generic", "s", "--from-literal=a=b") == "secret/s created\n"
    assert json.loads(kube.fine("get", "secret", "s", "-o", "json"))["data"] == {"a": "Yg=="}
    assert kube.fine("create", "service", "clusterip", "x", "--tcp=80:8080") == "service/x created\n"


def test_unknown_fields(kube: Kubectl) -> None:
    strict = put(kube, "create", bogus=1)
    assert strict.code == 1
    assert 'strict decoding error: unknown field "spec.bogus"' in strict.err
    warned = put(kube, "create", "--validate=warn", bogus=1)
    assert (warned.code, warned.err) == (0, 'Warning: unknown field "spec.bogus"\n')
    ignored = put(kube, "replace", "--validate=ignore", bogus=1)
    assert (ignored.code, ignored.err) == (0, "")
    assert "bogus" not in spec(kube)


def test_apply(kube: Kubectl) -> None:
    assert put(kube, "apply") == Done(0, f"{ROUTE} created\n", "")
    assert put(kube, "apply") == Done(0, f"{ROUTE} unchanged\n", "")
    assert put(kube, "apply", exportTo=["."]) == Done(0, f"{ROUTE} configured\n", "")
    assert (
        put(kube, "apply", "--dry-run=server", exportTo=["*"]).out == f"{ROUTE} configured (server dry run)\n"
    )
    assert spec(kube)["exportTo"] == ["."]
    assert put(kube, "apply").out == f"{ROUTE} configured\n"
    assert "exportTo" not in spec(kube)
    wrong = put(kube, "apply", hosts=["not a host"])
    assert wrong.code == 1
    assert 'The VirtualService "reviews" is invalid' in wrong.err


def test_apply_of_core_kinds_merges_lists_by_their_keys(kube: Kubectl) -> None:
    one = json.dumps(service("ratings", 9080))
    assert kube.fine("apply", "-f", "-", stdin=one) == "service/ratings created\n"
    kube.fine("patch", "svc", "ratings", "-p", '{"spec":{"ports":[{"port":9999,"name":"tcp-more"}]}}')
    two = json.dumps(service("ratings", 9080, 9081))
    assert kube.fine("apply", "-f", "-", stdin=two) == "service/ratings configured\n"
    assert sorted(port["port"] for port in spec(kube, "svc/ratings")["ports"]) == [9080, 9081, 9999]
    kube.fine("apply", "-f", "-", stdin=one)
    assert sorted(port["port"] for port in spec(kube, "svc/ratings")["ports"]) == [9080, 9999]


def test_diff(kube: Kubectl) -> None:
    assert put(kube, "diff").code == 1
    put(kube, "apply")
    assert put(kube, "diff") == Done(0, "", "")
    changed = put(kube, "diff", exportTo=["."])
    assert changed.code == 1
    assert "\n+  exportTo:\n+  - .\n" in changed.out


def test_server_side_apply(kube: Kubectl) -> None:
    side = ("apply", "--server-side")
    assert put(kube, *side).out == f"{ROUTE} serverside-applied\n"
    other = put(kube, *side, "--field-manager=other", hosts=["x"])
    assert other.code == 1
    assert 'Apply failed with 1 conflict: conflict with "kubectl": .spec.hosts' in other.err
    forced = put(kube, *side, "--field-manager=other", "--force-conflicts", hosts=["x"])
    assert forced.out == f"{ROUTE} serverside-applied\n"
    assert spec(kube)["hosts"] == ["x"]
    put(kube, *side, "--force-conflicts", exportTo=["."])
    assert spec(kube)["exportTo"] == ["."]
    put(kube, *side, "--force-conflicts")
    assert "exportTo" not in spec(kube)


def test_from_client_side_to_server_side(kube: Kubectl) -> None:
    put(kube, "apply", exportTo=["."])
    moved = put(kube, "apply", "--server-side")
    assert (moved.code, moved.err) == (0, "")
    assert "exportTo" not in spec(kube)
    put(kube, "apply", "--server-side", exportTo=["*"])
    managers = json.loads(kube.fine("get", "vs", "reviews", "-o", "json", "--show-managed-fields"))
    names = {entry["manager"] for entry in managers["metadata"]["managedFields"]}
    assert names == {"kubectl", "kubectl-last-applied"}


def test_patches_labels_replace(kube: Kubectl) -> None:
    put(kube, "create")
    patched = kube.fine("patch", "vs", "reviews", "--type=merge", "-p", '{"spec":{"hosts":["a"]}}')
    assert patched == f"{ROUTE} patched\n"
    operations = (
        '[{"op":"test","path":"/spec/hosts/0","value":"a"},{"op":"add","path":"/spec/hosts/-","value":"b"}]'
    )
    kube.fine("patch", "vs", "reviews", "--type=json", "-p", operations)
    assert spec(kube)["hosts"] == ["a", "b"]
    failed = kube("patch", "vs", "reviews", "--type=json", "-p", operations.replace('"a"', '"z"'))
    assert failed.code == 1
    same = kube("patch", "vs", "reviews", "--type=merge", "-p", '{"spec":{"hosts":["a","b"]}}')
    assert same.out == f"{ROUTE} patched (no change)\n"
    strategic = kube("patch", "vs", "reviews", "-p", "{}")
    assert "UnsupportedMediaType" in strategic.err or "application/merge-patch+json" in strategic.err
    assert kube.fine("label", "vs", "reviews", "tier=web") == f"{ROUTE} labeled\n"
    assert kube.fine("annotate", "vs", "reviews", "note=x") == f"{ROUTE} annotated\n"
    assert kube.fine("get", "vs", "-l", "tier=web", "-o", "name") == f"{ROUTE}\n"
    assert kube.fine("label", "vs", "reviews", "tier-") == f"{ROUTE} unlabeled\n"
    assert put(kube, "replace").out == f"{ROUTE} replaced\n"
    assert spec(kube)["hosts"] == ["reviews"]


def test_edit(kube: Kubectl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(kube, "create")
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i "s/  - reviews/  - edited/" "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setattr(Kubectl, "environment", _with_editor(Kubectl.environment, editor))
    assert kube.fine("edit", "vs", "reviews") == f"{ROUTE} edited\n"
    assert spec(kube)["hosts"] == ["edited"]


def _with_editor(environment: Any, editor: Path) -> Any:
    return lambda kube: (
        environment(kube) | {"KUBE_EDITOR": str(editor), "TERM": os.environ.get("TERM", "dumb")}
    )


def test_delete(kube: Kubectl) -> None:
    put(kube, "create")
    dry = kube.fine("delete", "--dry-run=server", "vs", "reviews")
    assert "(server dry run)" in dry
    assert spec(kube)["hosts"] == ["reviews"]
    assert kube.fine("delete", "vs", "reviews").startswith(
        'virtualservice.networking.istio.io "reviews" deleted'
    )
    assert kube("delete", "vs", "reviews").code == 1
    assert kube.fine("delete", "vs", "reviews", "--ignore-not-found") == ""
    kube.server.apply(*(workload_entry(f"vm-{n}", f"10.0.0.{n + 1}") for n in range(3)))
    assert kube.fine("delete", "we", "--all").count("deleted") == 3
    assert kube.fine("get", "we", "-o", "name") == ""


def test_finalizers_and_owners(kube: Kubectl) -> None:
    kube.server.apply(workload_entry("owner"))
    owner = json.loads(kube.fine("get", "we", "owner", "-o", "json"))
    reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": "owner"}
    reference["uid"] = owner["metadata"]["uid"]
    kube.server.apply(
        workload_entry("owned", "10.0.0.2", ownerReferences=[reference]),
        workload_entry("held", "10.0.0.3", finalizers=["example.com/hold"]),
    )
    kube.fine("delete", "we", "owner", "--cascade=foreground")
    assert kube.fine("get", "we", "-o", "name") == "workloadentry.networking.istio.io/held\n"
    kube.fine("delete", "we", "held", "--wait=false")
    assert json.loads(kube.fine("get", "we", "held", "-o", "json"))["metadata"]["deletionTimestamp"]
    kube.fine("patch", "we", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert kube.fine("get", "we", "-o", "name") == ""


def _wait_begun(kube: Kubectl, what: str) -> "subprocess.Popen[str]":
    """`kubectl wait` with its watch open: it tells its requests, so no change comes before it looks."""
    waiting = kube.spawn("wait", "se/mysql", what, "--timeout=20s", "-v=6")
    assert waiting.stdout is not None
    while "watch=true" not in (line := waiting.stdout.readline()):
        assert line, f"kubectl wait {what} ended before it watched"
    return waiting


def test_wait(kube: Kubectl) -> None:
    kube.server.apply(service_entry("mysql"))
    met = "serviceentry.networking.istio.io/mysql condition met\n"
    waiting = _wait_begun(kube, "--for=condition=Programmed")
    kube.fine(
        "patch", "se", "mysql", "--subresource=status", "--type=merge", "-p",
        '{"status":{"conditions":[{"type":"Programmed","status":"True"}]}}',
    )  # fmt: skip
    out, _ = waiting.communicate(timeout=25)
    assert (waiting.returncode, out.splitlines(keepends=True)[-1]) == (0, met)
    late = kube("wait", "se/mysql", "--for=condition=Other", "--timeout=1s")
    assert (late.code, late.err) == (
        1,
        "error: timed out waiting for the condition on serviceentries/mysql\n",
    )
    waiting = _wait_begun(kube, "--for=delete")
    kube.fine("delete", "se", "mysql")
    out, _ = waiting.communicate(timeout=25)
    assert (waiting.returncode, out.splitlines(keepends=True)[-1]) == (0, met)
    found = kube.fine("wait", "ns/bookinfo", "--for=jsonpath={.metadata.name}=bookinfo", "--timeout=5s")
    assert found == "namespace/bookinfo condition met\n"


def test_lists(kube: Kubectl) -> None:
    """kubectl validates a `List` by `/openapi/v2`, which must be there (decision 028)."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [service("a"), service("b", 9081)]})
    commands = (("create",), ("replace",), ("apply", "--server-side", "--force-conflicts"), ("apply",))
    for verb, *options in commands:
        assert len(kube.fine(verb, *options, "-f", "-", stdin=text).splitlines()) == 2
    assert kube.fine("get", "svc", "-o", "name") == "service/a\nservice/b\n"

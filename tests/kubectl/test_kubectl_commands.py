"""Commands and flags of stock kubectl that people use beside the plain ones, and what they print."""

import json
import re
from pathlib import Path

import pytest
from kubectl_client import Kubectl

from documents import document, service, workload_entry

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(300)]

ENTRY = "workloadentry.networking.istio.io"
COMMANDS = {
    "get we -o name --sort-by=.spec.address": rf"\A{ENTRY}/b\n{ENTRY}/a\n\Z",
    "get we --sort-by={.metadata.name} --no-headers": r"\Aa .*\nb .*\n\Z",
    "get we -o custom-columns=WHO:.metadata.name,WHERE:.spec.address": (
        r"\AWHO   WHERE\na     10\.0\.0\.9\nb     10\.0\.0\.1\n\Z"
    ),
    "get we -o custom-columns-file=DIRECTORY/columns": r"\AWHERE\n10\.0\.0\.9\n10\.0\.0\.1\n\Z",
    "get we a -o go-template={{.spec.address}}": r"\A10\.0\.0\.9\Z",
    "kustomize DIRECTORY": r"\AapiVersion: .*\nkind: WorkloadEntry\n(.*\n)*  name: big-vm\n",
    "describe ns bookinfo": r"\AName: +bookinfo\n(.*\n)*Status: +Active\n",
    "describe svc ratings": r"Type: +ClusterIP\n(.*\n)*Port: +http-9080 +9080/TCP\n(.*\n)*Endpoints: ",
    "describe secret s": r"Type: +Opaque\n\nData\n====\na: +2 bytes\n",
    "describe cm c": r"Data\n====\na:\n----\nb\n",
    "describe sa robot": r"Name: +robot\nNamespace: +bookinfo\n",
    "describe we b": r"Kind: +WorkloadEntry\n(.*\n)*Spec:\n  Address: +10\.0\.0\.1\n",
    "auth can-i delete we": r"\Ayes\n\Z",
    "auth can-i patch we --subresource=status": r"\Ayes\n\Z",
}


@pytest.fixture
def filled(kube: Kubectl, tmp_path: Path) -> Kubectl:
    """Some objects, and files beside them."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "bookinfo"}}
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "bookinfo"}}
    robot = {"apiVersion": "v1", "kind": "ServiceAccount"}
    kube.server.apply(
        workload_entry("a", "10.0.0.9", labels={"app": "x"}),
        workload_entry("b", "10.0.0.1", labels={"app": "x"}),
        service("ratings"),
        secret | {"data": {"a": "YmM="}},
        settings | {"data": {"a": "b"}},
        robot | {"metadata": {"name": "robot", "namespace": "bookinfo"}},
    )
    (tmp_path / "columns").write_text("WHERE\n.spec.address\n")
    (tmp_path / "kustomization.yaml").write_text("resources: [entry.yaml]\nnamePrefix: big-\n")
    (tmp_path / "entry.yaml").write_text(json.dumps(workload_entry("vm")))
    return kube


def test_what_commands_print(filled: Kubectl, tmp_path: Path) -> None:
    found = {
        command: filled.fine(*command.replace("DIRECTORY", str(tmp_path)).split()) for command in COMMANDS
    }
    assert {command: text for command, text in found.items() if not re.search(COMMANDS[command], text)} == {}


def test_kustomizations(filled: Kubectl, tmp_path: Path) -> None:
    directory = str(tmp_path)
    assert "+  name: big-vm\n" in filled("diff", "-k", directory).out
    assert filled.fine("apply", "-k", directory) == f"{ENTRY}/big-vm created\n"
    assert filled.fine("apply", "-k", directory) == f"{ENTRY}/big-vm unchanged\n"
    assert filled("diff", "-k", directory).out == ""
    assert filled.fine("get", "-k", directory, "-o", "name") == f"{ENTRY}/big-vm\n"
    assert filled.fine("delete", "-k", directory).startswith(f'{ENTRY} "big-vm" deleted')


def test_watches_name_what_happened(filled: Kubectl) -> None:
    with filled.spawn("get", "we", "-w", "--output-watch-events", "--no-headers") as watch:
        assert watch.stdout is not None
        first = [watch.stdout.readline().split()[:2] for _ in range(2)]
        filled.server.apply(workload_entry("a", "10.0.0.8", labels={"app": "x"}))
        filled.fine("delete", "we", "b")
        later = [watch.stdout.readline().split()[:2] for _ in range(2)]
        watch.terminate()
    assert first == [["ADDED", "a"], ["ADDED", "b"]]
    assert later == [["MODIFIED", "a"], ["DELETED", "b"]]


def test_prune_asks_for_its_kinds(kube: Kubectl) -> None:
    """Without a list kubectl prunes kinds of its own choice, among them some that only clusters have."""
    both = [workload_entry(name, labels={"app": "x"}) for name in ("a", "b")]
    prune = ("apply", "--prune", "-l", "app=x", "-f", "-")
    kube.fine("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": both}))
    without = kube(*prune, stdin=json.dumps(both[0]))
    assert without.code == 1
    assert "PersistentVolumeClaim" in without.err
    assert kube.fine("get", "we", "-o", "name").count("\n") == 2
    kinds = "--prune-allowlist=networking.istio.io/v1/WorkloadEntry"
    allowed = kube.fine(*prune, kinds, stdin=json.dumps(both[0]))
    assert allowed.splitlines()[0] == f"{ENTRY}/a unchanged"
    assert allowed.splitlines()[1].startswith(f"{ENTRY}/b pruned")
    assert kube.fine("get", "we", "-o", "name") == f"{ENTRY}/a\n"


def test_replace_by_force_makes_another_object(filled: Kubectl) -> None:
    def uid() -> str:
        return filled.fine("get", "we", "a", "-o", "jsonpath={.metadata.uid}")

    before = uid()
    told = filled.fine("replace", "--force", "-f", "-", stdin=json.dumps(workload_entry("a", "10.0.0.77")))
    assert told.splitlines()[0].startswith(f'{ENTRY} "a" deleted')
    assert told.splitlines()[1] == f"{ENTRY}/a replaced"
    assert uid() != before
    assert filled.fine("get", "we", "a", "-o", "jsonpath={.spec.address}") == "10.0.0.77"


@pytest.mark.parametrize(("cascade", "stays"), [("orphan", True), ("background", False)])
def test_what_an_object_owned_may_stay(kube: Kubectl, cascade: str, stays: bool) -> None:
    spec = {"template": {"serviceAccount": "g"}}
    kube.server.apply(document("networking.istio.io/v1", "WorkloadGroup", "g", "bookinfo", spec))
    owner = json.loads(kube.fine("get", "wg", "g", "-o", "json"))
    reference = {name: owner[name] for name in ("apiVersion", "kind")} | {"name": "g"}
    reference["uid"] = owner["metadata"]["uid"]
    kube.server.apply(workload_entry("owned", ownerReferences=[reference]))
    kube.fine("delete", "wg", "g", f"--cascade={cascade}")
    assert kube.fine("get", "we", "-o", "name") == (f"{ENTRY}/owned\n" if stays else "")
    if stays:
        assert kube.fine("get", "we", "owned", "-o", "jsonpath={.metadata.ownerReferences}") == ""

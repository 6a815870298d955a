"""`isthmus apply`, `get`, `delete` and `token create` against a real server."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from documents import namespace, service_entry, virtual_service, workload_entry, workload_group
from isthmus.api.documents import read_documents
from isthmus.api.meta import Key
from isthmus.cli.main import main
from isthmus.identity.jointoken import parse
from isthmus.store.base import UpdateStatus
from kube_server import KubeServer, kube_server

Run = Callable[..., Result]


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
    running.apply(namespace())
    return running


@pytest.fixture
def isthmus(server: KubeServer) -> Run:
    """Runs the command against the server."""

    def run(*args: str, stdin: str | None = None) -> Result:
        environment = {"ISTHMUS_KUBECONFIG": str(server.kubeconfig)}
        return CliRunner().invoke(main, args, input=stdin, env=environment)

    return run


def written(path: Path, *documents: Any) -> str:
    """A file with the documents."""
    path.write_text("\n---\n".join(json.dumps(document) for document in documents))
    return str(path)


def test_apply_get_delete(isthmus: Run, tmp_path: Path) -> None:
    file = written(tmp_path / "a.yaml", workload_entry("vm-1"), virtual_service("reviews"))
    applied = isthmus("apply", "-f", file)
    assert applied.exit_code == 0, applied.output
    assert applied.stdout == "WorkloadEntry/bookinfo/vm-1 created\nVirtualService/bookinfo/reviews created\n"
    assert isthmus("apply", "-f", file).stdout.count("unchanged") == 2
    table = isthmus("get", "we", "-n", "bookinfo").stdout.splitlines()
    assert {"NAME", "PROGRAMMED", "REASON", "AGE"} <= set(table[0].split())
    assert table[1].split()[0] == "vm-1"
    assert "10.0.0.1" in isthmus("get", "we", "-n", "bookinfo", "-o", "wide").stdout
    everywhere = isthmus("get", "virtualservices,we", "-A").stdout
    assert "NAMESPACE" in everywhere
    assert "reviews" in everywhere
    one = json.loads(isthmus("get", "vs/reviews", "-n", "bookinfo", "-o", "json").stdout)
    assert one["spec"] == virtual_service("reviews")["spec"]
    listed = isthmus("get", "vs", "-n", "bookinfo", "-o", "yaml").stdout
    assert [document.data["metadata"]["name"] for document in read_documents(listed, "get")[0]] == ["reviews"]
    gone = isthmus("delete", "vs", "reviews", "-n", "bookinfo")
    assert (gone.exit_code, gone.stdout) == (0, "VirtualService/bookinfo/reviews deleted\n")
    again = isthmus("delete", "-f", file)
    assert again.exit_code == 1
    assert again.stdout == "WorkloadEntry/bookinfo/vm-1 deleted\n"
    assert again.stderr == "VirtualService/bookinfo/reviews not found\n"
    assert isthmus("delete", "-f", file, "--ignore-not-found").exit_code == 0
    assert isthmus("get", "we", "-n", "bookinfo").stderr == "No resources found in bookinfo namespace.\n"
    assert isthmus("get", "we", "-A").stderr == "No resources found\n"


def test_what_get_writes_apply_takes(isthmus: Run, tmp_path: Path) -> None:
    isthmus("apply", "-f", written(tmp_path / "a.yaml", workload_entry("a"), workload_entry("b", "10.0.0.2")))
    saved = tmp_path / "saved.yaml"
    saved.write_text(isthmus("get", "we", "-A", "-o", "yaml").stdout)
    assert isthmus("apply", "-f", str(saved)).stdout.splitlines() == [
        "WorkloadEntry/bookinfo/a unchanged",
        "WorkloadEntry/bookinfo/b unchanged",
    ]


def test_all_mistakes_are_told_and_nothing_is_applied(
    isthmus: Run, server: KubeServer, tmp_path: Path
) -> None:
    bad = workload_entry("bad", "300.1.1.1")
    written(tmp_path / "1.yaml", workload_entry("good"), bad)
    (tmp_path / "2.yaml").write_text("apiVersion: v1\nkind: Service\nkind: Service\n---\n")
    (tmp_path / "3.yml").write_text(json.dumps(virtual_service("typo", host=["a"])))
    (tmp_path / "4.json").write_bytes(b"\xff\xfe")
    (tmp_path / "notes.txt").write_text("not a manifest")
    result = isthmus("apply", "-f", str(tmp_path), "-f", str(tmp_path / "missing.yaml"))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"{tmp_path}/2.yaml:3: kind is given twice in the same object: keep one of them",
        f"{tmp_path}/4.json:1: is not UTF-8 text: invalid start byte at byte 0",
        f"{tmp_path}/missing.yaml:1: cannot be read: No such file or directory",
        f"{tmp_path}/1.yaml:2: WorkloadEntry/bookinfo/bad: spec.address: "
        'Invalid value: "300.1.1.1": endpoint address is not a valid FQDN or an IP address',
        f"{tmp_path}/3.yml:1: VirtualService/bookinfo/typo: spec.host: unknown field (did you mean hosts?)",
        "nothing was applied",
    ]
    assert server.request("GET", "/apis/networking.istio.io/v1/workloadentries").document["items"] == []


def test_an_unreadable_document_holds_the_good_ones_back(isthmus: Run, server: KubeServer) -> None:
    result = isthmus("apply", "-f", "-", stdin=json.dumps(workload_entry("good")) + "\n---\na: [\n")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0].startswith("stdin:3: not YAML")
    assert result.stderr.splitlines()[-1] == "nothing was applied"
    assert server.request("GET", "/apis/networking.istio.io/v1/workloadentries").document["items"] == []


def test_namespaces_and_dry_runs(isthmus: Run, tmp_path: Path) -> None:
    doc = workload_entry("a")
    del doc["metadata"]["namespace"]
    file = written(tmp_path / "a.yaml", doc)
    dry = isthmus("apply", "-f", file, "-n", "bookinfo", "--dry-run")
    assert dry.stdout == "WorkloadEntry/bookinfo/a created (dry run)\n"
    missing = isthmus("apply", "-f", file)
    assert "metadata.namespace: namespace default does not exist" in missing.stderr
    assert isthmus("get", "we/a", "-n", "bookinfo").exit_code == 1
    assert isthmus("apply", "-f", file, "-n", "bookinfo").exit_code == 0


def test_warnings_are_told(isthmus: Run) -> None:
    route = {"route": [{"destination": {"host": "a"}}]}
    result = isthmus("apply", "-f", "-", stdin=json.dumps(virtual_service("a", route, route)))
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: VirtualService/bookinfo/a: spec.http[1]: is never reached")


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        ("True", 0, "VirtualService/bookinfo/reviews programmed"),
        ("False", 1, "VirtualService/bookinfo/reviews refused: Rejected: vm-1 said: no such cluster"),
        (
            "Unknown",
            1,
            "VirtualService/bookinfo/reviews not programmed after 3 s: vm-1 said: no such cluster",
        ),
    ],
)
def test_wait(isthmus: Run, server: KubeServer, status: str, code: int, words: str) -> None:
    key = Key("VirtualService", "bookinfo", "reviews")
    server.apply(virtual_service("reviews"))

    def judge(generation: int) -> None:
        condition = {"type": "Programmed", "status": status, "reason": "Rejected"}
        condition |= {"message": "vm-1 said: no such cluster"}
        condition |= {"reason": "Programmed"} if status == "True" else {}
        old = {"conditions": [condition | {"observedGeneration": generation}]}
        server.run(server.store.apply([UpdateStatus(key, old)]))

    # what was said of the generation before does not count
    judge(1)
    later = threading.Timer(0.4, judge, [2])
    later.start()
    doc = virtual_service("reviews", {"route": [{"destination": {"host": "other"}}]})
    patience = "3s" if status == "Unknown" else "60s"
    result = isthmus("apply", "-f", "-", "--wait", "--timeout", patience, stdin=json.dumps(doc))
    later.join()
    assert (result.exit_code, words in result.output) == (code, True), result.output


def test_wait_asks_only_for_what_is_programmed(isthmus: Run) -> None:
    result = isthmus("apply", "-f", "-", "--wait", stdin=json.dumps(workload_group("mysql")))
    assert (result.exit_code, result.stdout) == (0, "WorkloadGroup/bookinfo/mysql created\n")


def test_a_token_is_one_line_on_stdout(isthmus: Run, server: KubeServer) -> None:
    server.apply(workload_group("mysql"))
    result = isthmus("token", "create", "--group", "bookinfo/mysql")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.count("\n") == 1
    token = parse(result.stdout)
    assert token.namespace == "bookinfo"
    assert token.name.startswith("mysql-")
    assert isthmus("get", "jt", "-n", "bookinfo").stdout.splitlines()[1].split()[:2] == [token.name, "mysql"]
    missing = isthmus("token", "create", "--group", "bookinfo/other")
    assert missing.exit_code == 1
    assert "WorkloadGroup bookinfo/other does not exist (apply the WorkloadGroup first)" in missing.stderr
    long = isthmus("token", "create", "--group", "bookinfo/mysql", "--ttl", "2d")
    assert "is not a duration" in long.stderr
    assert isthmus("token", "create", "--group", "mysql").exit_code == 2


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["get", "widgets"], "'widgets' is no kind: kinds are Namespace"),
        (["get", "virtualservce"], "did you mean VirtualService?"),
        (["get"], "Missing argument"),
        (["get", "vs", "a", "-A"], "a name is not looked for in all namespaces"),
        (["get", "vs", "a", "-l", "a=b"], "names or a selector, not both"),
        (["get", "vs/a", "b"], "KIND/NAME everywhere"),
        (["get", "vs", "-o", "xml"], "there are wide, yaml, json, name and jsonpath=TEMPLATE"),
        (["get", "vs", "-o", "jsonpath={.items[}"], "cannot read '[' of '.items['"),
        (["get", "vs,we", "-w"], "can be watched at a time"),
        (["apply", "-k", "overlay"], "kubectl kustomize overlay | isthmus apply -f -"),
        (["delete", "-k", "overlay"], "kubectl kustomize overlay | isthmus delete -f -"),
        (["delete", "vs", "a", "--all"], "give KIND and NAME"),
        (["apply"], "give -f FILE"),
        (["apply", "-f", "-", "--timeout", "soon"], "'soon' is not a duration"),
        (["delete"], "give KIND and NAME"),
        (["delete", "vs"], "give KIND and NAME"),
        (["delete", "vs", "a", "-f", "x"], "not both"),
    ],
)
def test_usage(isthmus: Run, args: list[str], words: str) -> None:
    result = isthmus(*args, stdin=json.dumps(service_entry("a")))
    assert result.exit_code == 2
    assert words in result.stderr


def test_files_without_objects(isthmus: Run, tmp_path: Path) -> None:
    assert "no .yaml, .yml or .json file" in isthmus("apply", "-f", str(tmp_path)).stderr
    (tmp_path / "a.yaml").write_text("# nothing\n")
    result = isthmus("apply", "-f", str(tmp_path / "a.yaml"))
    assert (result.exit_code, "no objects in it" in result.stderr) == (1, True)
    (tmp_path / "b.yaml").write_text("kind: VirtualService\n")
    assert "names no object" in isthmus("delete", "-f", str(tmp_path / "b.yaml")).stderr


def test_one_object_that_is_not_there(isthmus: Run) -> None:
    result = isthmus("get", "vs", "a", "-n", "bookinfo")
    assert result.exit_code == 1
    assert result.stderr == 'Error: virtualservices.networking.istio.io "a" not found\n'

"""`isthmus` and `kubectl` say the same about the same: what they read, what they write, what they refuse."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from kubectl_client import Kubectl
from ruamel.yaml import YAML

from documents import service, virtual_service, workload_entry
from isthmus.cli.documents import as_yaml
from isthmus.cli.main import main

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(300)]


def isthmus(kube: Kubectl, *args: str, stdin: str | None = None) -> Result:
    """Our command, in the same namespace."""
    environment = {"ISTHMUS_KUBECONFIG": str(kube.server.kubeconfig)}
    return CliRunner().invoke(main, [*args, "-n", "bookinfo"], input=stdin, env=environment)


def table(text: str) -> list[dict[str, str]]:
    """Rows by column without ages, and without the column that only ours has."""
    head, *lines = text.splitlines()
    begins = [match.start() for match in re.finditer(r"\S+( \S+)*", head)]
    spans = [*zip(begins, [*begins[1:], None], strict=True)]
    rows = [{head[a:b].strip(): line[a:b].strip() for a, b in spans} for line in [head, *lines]]
    return [{name: cell for name, cell in row.items() if name not in {"REASON", "AGE"}} for row in rows]


@pytest.fixture
def filled(kube: Kubectl) -> Kubectl:
    """Some objects."""
    kube.server.apply(
        service("ratings", 9080, 9081),
        service("reviews"),
        virtual_service("reviews"),
        workload_entry("vm-1", labels={"app": "db", "tier": "1"}),
        workload_entry("vm-2", "10.0.0.2", labels={"app": "db"}),
    )
    return kube


@pytest.mark.parametrize(
    "args",
    [
        ["svc"],
        ["svc", "-o", "wide"],
        ["we", "-A"],
        ["we", "-l", "app=db,tier"],
        ["we", "-l", "tier!=1"],
        ["we", "vm-2", "vm-1"],
        ["vs/reviews"],
        ["we", "--no-headers"],
        ["we", "--field-selector", "metadata.name=vm-2"],
    ],
    ids=" ".join,
)
def test_tables(filled: Kubectl, args: list[str]) -> None:
    theirs, ours = filled("get", *args), isthmus(filled, "get", *args)
    if "--no-headers" in args:
        assert [line.split()[0] for line in theirs.out.splitlines()] == [
            line.split()[0] for line in ours.stdout.splitlines()
        ]
        return
    assert (ours.exit_code, table(ours.stdout)) == (theirs.code, table(theirs.out))


@pytest.mark.parametrize(
    "args",
    [
        ["vs,svc", "-o", "name"],
        ["we", "-A", "-o", "name"],
        ["we/vm-1", "svc/ratings", "-o", "name"],
        ["istio-io", "-o", "name"],
        ["we", "-o", "jsonpath={.items[*].metadata.name}"],
        ["svc", "ratings", "-o", "jsonpath={.spec.ports[?(@.port==9081)].name}"],
        ["we", "-o", 'jsonpath={range .items[*]}{.metadata.name}{"\\t"}{.spec.address}{"\\n"}{end}'],
        ["svc", "-o", "jsonpath={..clusterIP}"],
        ["vs", "reviews", "-o", "jsonpath={.spec.http[0].route}"],
    ],
    ids=" ".join,
)
def test_names_and_paths(filled: Kubectl, args: list[str]) -> None:
    theirs, ours = filled("get", *args), isthmus(filled, "get", *args)
    assert (ours.exit_code, ours.stdout) == (theirs.code, theirs.out)


@pytest.mark.parametrize(
    "args", [["vs", "reviews"], ["we"], ["vs,svc"], ["dr"], ["we", "vm-1", "vm-2"]], ids=" ".join
)
def test_documents(filled: Kubectl, args: list[str]) -> None:
    def plain(value: Any) -> Any:
        items = value.get("items")
        return value if items is None else sorted(items, key=lambda o: (o["kind"], o["metadata"]["name"]))

    for flags in ([], ["--show-managed-fields"]):
        theirs = json.loads(filled.fine("get", *args, "-o", "json", *flags))
        ours = json.loads(isthmus(filled, "get", *args, "-o", "json", *flags).stdout)
        assert plain(ours) == plain(theirs)
        yaml = YAML(typ="safe", pure=True)
        printed = yaml.load(isthmus(filled, "get", *args, "-o", "yaml", *flags).stdout)
        assert plain(json.loads(json.dumps(printed, default=str))) == plain(
            json.loads(json.dumps(yaml.load(filled.fine("get", *args, "-o", "yaml", *flags)), default=str))
        )


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["get", "widgets"], "widgets"),
        (["get", "vs", "none"], 'virtualservices.networking.istio.io "none" not found'),
        (["get", "vs,svc", "none"], 'services "none" not found'),
        (["get", "we", "vm-1", "none"], 'workloadentries.networking.istio.io "none" not found'),
        (["get", "we/vm-1", "svc"], ""),
        (["get", "we", "vm-1", "-A"], ""),
        (["get", "we", "-l", "a=(b"], ""),
        (["delete", "vs", "none"], "not found"),
        (["delete", "vs"], ""),
        (["delete", "vs", "reviews", "--all"], ""),
        (["apply", "-f", "none.yaml"], "none.yaml"),
        (["apply"], ""),
        (["explain", "vs.spec.none"], ""),
    ],
    ids=str,
)
def test_what_is_refused(filled: Kubectl, args: list[str], words: str) -> None:
    theirs, ours = filled(*args), isthmus(filled, *args) if args[0] != "explain" else None
    code = ours.exit_code if ours else CliRunner().invoke(main, args).exit_code
    assert (bool(code), words in (ours.stderr if ours else "")) == (bool(theirs.code), True), (theirs, ours)
    assert words in theirs.err


def test_nothing_there_is_no_mistake(filled: Kubectl) -> None:
    for args in (["dr"], ["dr", "-A"], ["dr", "a", "--ignore-not-found"], ["we", "-l", "app=none"]):
        theirs, ours = filled("get", *args), isthmus(filled, "get", *args)
        assert (ours.exit_code, ours.stderr) == (theirs.code, theirs.err)


def names(kube: Kubectl) -> set[str]:
    """What stands in the namespace."""
    return set(kube.fine("get", "svc,we", "-o", "name").split())


@pytest.mark.parametrize("recursive", [False, True])
def test_what_is_applied_and_deleted(kube: Kubectl, tmp_path: Path, recursive: bool) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "a.yaml").write_text(as_yaml(service("a")) + "---\n---\n" + as_yaml(service("b")))
    (tmp_path / "b.yml").write_text("# nothing but words\n")
    (tmp_path / "c.json").write_text(json.dumps(workload_entry("c")))
    (tmp_path / "notes.txt").write_text("not read")
    (tmp_path / "below" / "d.yaml").write_text(
        json.dumps({"apiVersion": "v1", "kind": "List", "items": [service("d"), service("e")]})
    )
    args = ["-f", str(tmp_path), *(["-R"] if recursive else [])]
    found: list[set[str]] = []
    for run in (kube, lambda *args: isthmus(kube, *args)):
        run("apply", *args)
        found.append(names(kube))
        run("delete", *args)
        assert names(kube) == set()
    assert found[0] == found[1]
    assert len(found[0]) == (5 if recursive else 3)


def test_standard_input(kube: Kubectl) -> None:
    text = as_yaml(service("a")) + "---\n" + as_yaml(workload_entry("b"))
    for run in (kube, lambda *args, stdin: isthmus(kube, *args, stdin=stdin)):
        run("apply", "-f", "-", stdin=text)
        assert names(kube) == {"service/a", "workloadentry.networking.istio.io/b"}
        run("delete", "-f", "-", stdin=text)
        assert names(kube) == set()


def test_one_bad_document(kube: Kubectl) -> None:
    """Here the two differ, by design: kubectl applies what it can, `isthmus apply` all or nothing."""
    text = as_yaml(service("a")) + "---\n" + as_yaml(workload_entry("b", "300.1.1.1"))
    ours = isthmus(kube, "apply", "-f", "-", stdin=text)
    assert (ours.exit_code, names(kube)) == (1, set())
    assert (kube("apply", "-f", "-", stdin=text).code, names(kube)) == (1, {"service/a"})


def test_deletion_by_labels(filled: Kubectl) -> None:
    assert isthmus(filled, "delete", "we", "-l", "tier=1").exit_code == 0
    assert filled.fine("get", "we", "-o", "name").split() == ["workloadentry.networking.istio.io/vm-2"]
    assert isthmus(filled, "delete", "we,vs", "--all").exit_code == 0
    assert isthmus(filled, "delete", "svc/ratings", "svc/reviews").exit_code == 0
    assert names(filled) == set()
    theirs, ours = filled("delete", "we", "--all"), isthmus(filled, "delete", "we", "--all")
    assert (ours.exit_code, ours.output) == (theirs.code, theirs.out + theirs.err)


def test_a_watch_goes_on(filled: Kubectl) -> None:
    command = [str(Path(sys.executable).with_name("isthmus")), "get", "we", "-n", "bookinfo", "-w"]
    environment = {**filled.environment(), "ISTHMUS_KUBECONFIG": str(filled.server.kubeconfig)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            first = [process.stdout.readline().split()[0] for _ in range(3)]
            filled.server.apply(workload_entry("vm-3", "10.0.0.3"))
            assert [*first, process.stdout.readline().split()[0]] == ["NAME", "vm-1", "vm-2", "vm-3"]
        finally:
            process.kill()


def lines(text: str) -> Sequence[str]:
    """What a patch changes."""
    found = [line for line in text.splitlines() if line[:1] in "+-" and line[:3] not in {"+++", "---"}]
    return [line for line in found if "generation" not in line and "resourceVersion" not in line]


def test_diff(filled: Kubectl) -> None:
    same, other = (
        json.dumps(service("reviews")),
        json.dumps(workload_entry("vm-1", "10.9.9.9", labels={"app": "x"})),
    )
    for text, code in ((same, 0), (other, 1)):
        theirs = filled("diff", "--server-side", "--force-conflicts", "-f", "-", stdin=text)
        ours = isthmus(filled, "diff", "-f", "-", stdin=text)
        assert (ours.exit_code, theirs.code) == (code, code), (ours.output, theirs)
        assert set(lines(ours.stdout)) >= {line for line in lines(theirs.out) if "address" in line}

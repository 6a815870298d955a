"""`isthmus diff`, `edit` and `explain`; a directory, several files, standard input."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from documents import namespace, service, virtual_service, workload_entry
from isthmus.cli.main import main
from kube_server import KubeServer, kube_server

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubeServer]:
    """A server with the namespace bookinfo."""
    with kube_server(tmp_path_factory.mktemp("server")) as found:
        found.apply(namespace())
        yield found


@pytest.fixture
def isthmus(server: KubeServer) -> Run:
    """Runs the command against the server."""

    def run(*args: str, stdin: str | None = None, editor: str = "false") -> Result:
        environment = {"ISTHMUS_KUBECONFIG": str(server.kubeconfig), "EDITOR": editor, "VISUAL": ""}
        return CliRunner().invoke(main, args, input=stdin, env=environment)

    return run


def test_diff(isthmus: Run) -> None:
    def diff(**spec: Any) -> Result:
        return isthmus("diff", "-f", "-", stdin=json.dumps(virtual_service("diffed", **spec)))

    new = diff()
    assert new.exit_code == 1
    assert "+++ files/VirtualService/bookinfo/diffed" in new.output
    isthmus("apply", "-f", "-", stdin=json.dumps(virtual_service("diffed")))
    assert (diff().exit_code, diff().output) == (0, "")
    changed = diff(exportTo=["."])
    assert changed.exit_code == 1
    added = [line for line in changed.output.splitlines() if line.startswith("+") and line[1:2] != "+"]
    assert added == ["+  exportTo:", "+  - ."]
    refused = diff(bogus=1)
    assert (refused.exit_code, "unknown field" in refused.output) == (1, True)


def test_edit(isthmus: Run, tmp_path: Path) -> None:
    isthmus("apply", "-f", "-", stdin=json.dumps(workload_entry("edited")))

    def edit(script: str) -> Result:
        editor = tmp_path / "editor"
        editor.write_text(f"#!/bin/sh\n{script}\n")
        editor.chmod(0o755)
        return isthmus("edit", "we/edited", "-n", "bookinfo", editor=str(editor))

    assert edit("true").output == "nothing was changed\n"
    done = edit('sed -i "s/10.0.0.1/10.0.0.9/" "$1"')
    assert (done.exit_code, done.output) == (0, "WorkloadEntry/bookinfo/edited edited\n")
    shown = json.loads(isthmus("get", "we", "edited", "-n", "bookinfo", "-o", "json").output)
    assert shown["spec"] == {"address": "10.0.0.9"}
    wrong = edit('sed -i "s/address:/adress:/" "$1"')
    assert wrong.exit_code == 1
    assert 'unknown field "spec.adress"' in wrong.output
    kept = Path(wrong.output.rsplit(" ", 1)[1].strip())
    assert "adress" in kept.read_text()
    kept.unlink()
    assert "nothing was changed" in edit("exit 3").output


def test_explain(isthmus: Run) -> None:
    retries = isthmus("explain", "vs.spec.http.retries").output
    assert "KIND:    VirtualService" in retries
    assert "  attempts <integer>" in retries
    assert "Time limit of each try" in retries
    assert "spec <Object>" in isthmus("explain", "service").output
    assert "perTryTimeout <string>" in isthmus("explain", "vs", "--recursive").output
    assert "finalizers <[]string>" in isthmus("explain", "vs.metadata").output
    assert "data <map[string]string>" in isthmus("explain", "secret").output
    wrong = isthmus("explain", "vs.spec.htp")
    assert (wrong.exit_code, wrong.output) == (1, "Error: spec has no field htp: did you mean http?\n")


def test_directories_files_and_stdin(isthmus: Run, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(json.dumps(service("one")) + "\n---\n" + json.dumps(service("two")))
    (tmp_path / "two.json").write_text(json.dumps(service("three")))
    (tmp_path / "notes.txt").write_text("not read")
    applied = isthmus(
        "apply", "-f", str(tmp_path), "-f", str(tmp_path / "two.json").replace("two.json", "one.yaml")
    )
    assert applied.exit_code == 1
    assert "given more than once" in applied.output
    applied = isthmus("apply", "-f", str(tmp_path), "-f", "-", stdin=json.dumps(service("four")))
    assert [line.split()[0] for line in applied.output.splitlines()] == [
        f"Service/bookinfo/{name}" for name in ("one", "two", "three", "four")
    ]
    (tmp_path / "bad.yaml").write_text("kind: [")
    refused = isthmus("apply", "-f", str(tmp_path))
    assert (refused.exit_code, "nothing was applied" in refused.output) == (1, True)

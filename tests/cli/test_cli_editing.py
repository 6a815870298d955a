"""`isthmus diff`, `edit` and `explain`; a directory, several files, standard input."""

import json
import sys
import tempfile
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


@pytest.fixture
def edit(isthmus: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Edits a WorkloadEntry with scripts, one each time that the editor opens; what it saw is in `seen-N`."""
    isthmus("apply", "-f", "-", stdin=json.dumps(workload_entry("edited")))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def run(*scripts: str, name: str = "we/edited") -> Result:
        for number, script in enumerate(scripts):
            (tmp_path / f"script-{number}").write_text(script)
        editor = tmp_path / "editor"
        editor.write_text(
            f"#!/bin/sh\ncd {tmp_path}; touch count; n=$(wc -l < count); echo >> count; cp $1 seen-$n\n"
            "set -- $1; [ -e script-$n ] && . ./script-$n\n"
        )
        editor.chmod(0o755)
        for old in [tmp_path / "count", *tmp_path.glob("seen-*")]:
            old.unlink(missing_ok=True)
        return isthmus("edit", name, "-n", "bookinfo", editor=str(editor))

    return run


def kept(tmp_path: Path) -> list[str]:
    """The texts that are kept for a user who gave up."""
    return [path.read_text() for path in tmp_path.glob("isthmus-*.yaml")]


def test_edit(isthmus: Run, edit: Callable[..., Result], tmp_path: Path) -> None:
    unchanged = edit("true")
    assert (unchanged.exit_code, unchanged.output) == (0, "Edit cancelled, no changes made.\n")
    emptied = edit(": > $1")
    assert (emptied.exit_code, emptied.output) == (0, "Edit cancelled, saved file was empty.\n")
    done = edit('sed -i "s/10.0.0.1/10.0.0.9/" $1')
    assert (done.exit_code, done.output) == (0, "WorkloadEntry/bookinfo/edited edited\n")
    shown = json.loads(isthmus("get", "we", "edited", "-n", "bookinfo", "-o", "json").output)
    assert shown["spec"] == {"address": "10.0.0.9"}
    failed = edit("exit 3")
    assert (failed.exit_code, "ended with 3: nothing was changed" in failed.output) == (1, True)
    assert isthmus("edit", "we").exit_code == 2
    assert kept(tmp_path) == []


def test_what_is_refused_comes_back_with_the_reasons(edit: Callable[..., Result], tmp_path: Path) -> None:
    done = edit(
        'sed -i "s/address:.*/adress: 10.0.0.2\\n  weight: -1/" $1',
        'echo "spec: [" >> $1',
        'sed -i "/^spec: .$/d; /weight/d; s/adress/address/" $1',
    )
    assert (done.exit_code, done.output) == (0, "WorkloadEntry/bookinfo/edited edited\n")
    assert "was refused" not in (tmp_path / "seen-0").read_text()
    first, second = (tmp_path / "seen-1").read_text(), (tmp_path / "seen-2").read_text()
    reasons = [line for line in first.splitlines() if line.startswith("# * ")]
    assert reasons[0] == "# * spec.adress: unknown field (did you mean address?)"
    assert reasons[1].startswith("# * spec.weight: ")
    assert "  adress: 10.0.0.2\n" in first
    assert "given twice" in second or "not YAML" in second
    assert second.count("This was refused") == 1
    assert kept(tmp_path) == []


def test_who_gives_up_keeps_the_text(edit: Callable[..., Result], tmp_path: Path) -> None:
    wrong = 'sed -i "s/address:/adress:/" $1'
    for scripts in ([wrong, "true"], [wrong, "exit 1"]):
        gave_up = edit(*scripts)
        assert (gave_up.exit_code, "unknown field" in gave_up.output or "ended with 1" in gave_up.output) == (
            1,
            True,
        )
        path = Path(gave_up.output.rsplit("your text is kept in ", 1)[1].strip())
        assert "adress" in path.read_text()
        path.unlink()


def test_what_another_one_wrote_meanwhile_stays(
    isthmus: Run, edit: Callable[..., Result], tmp_path: Path
) -> None:
    other = json.dumps(workload_entry("edited", "10.0.0.5"))
    (tmp_path / "other.json").write_text(other)
    command = f"{Path(sys.executable).with_name('isthmus')} apply -f other.json > /dev/null"
    late = edit(f'{command}; sed -i "s/10.0.0.1/10.0.0.9/" $1')
    assert (late.exit_code, "the object has been modified" in late.output) == (1, True)
    assert len(kept(tmp_path)) == 1
    shown = json.loads(isthmus("get", "we", "edited", "-n", "bookinfo", "-o", "json").output)
    assert shown["spec"] == {"address": "10.0.0.5"}


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

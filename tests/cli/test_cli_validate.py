"""`isthmus validate`: every object judged, every document accounted for."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from documents import namespace, virtual_service
from isthmus.cli.main import main


def run(*args: str, stdin: str | None = None) -> Result:
    """The command, without any server."""
    return CliRunner().invoke(main, ["validate", *args], input=stdin)


def entries(result: Result) -> list[dict[str, Any]]:
    """What it printed with `-o json`."""
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_what_is_valid_exits_0(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(json.dumps(namespace()) + "\n---\n" + json.dumps(virtual_service("a")))
    result = run("-f", str(file), "-o", "json")
    assert result.exit_code == 0, result.output
    assert entries(result)[1] == {
        "source": f"{file}:2",
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "namespace": "bookinfo",
        "name": "a",
        "valid": True,
        "errors": [],
        "warnings": [],
    }
    assert run("-f", str(file)).stdout.endswith("2 objects, all valid\n")


def test_every_mistake_is_told(tmp_path: Path) -> None:
    wrong = virtual_service("a", {"route": [{"destination": {"host": "a"}, "wieght": 1}], "timeout": "soon"})
    (tmp_path / "wrong.yaml").write_text(json.dumps(wrong))
    (tmp_path / "good.yaml").write_text(json.dumps(virtual_service("b")))
    (tmp_path / "broken.yaml").write_text("kind: [\n---\nkind: Nothing\n")
    result = run("-f", str(tmp_path), "-o", "json")
    assert result.exit_code == 1
    found = {Path(entry["source"]).name: entry for entry in entries(result)}
    assert {name: entry["valid"] for name, entry in found.items()} == {
        "wrong.yaml:1": False,
        "good.yaml:1": True,
        "broken.yaml:1": False,
        "broken.yaml:2": False,
    }
    assert {row["field"] for row in found["wrong.yaml:1"]["errors"]} == {
        "spec.http[0].route[0].wieght",
        "spec.http[0].timeout",
    }


def test_mistakes_of_spelling_do_not_hide_those_of_meaning() -> None:
    wrong = virtual_service("A", bogus=1)
    result = run("-f", "-", "-o", "json", stdin=json.dumps(wrong))
    (entry,) = entries(result)
    assert entry["source"] == "stdin:1"
    assert {row["field"] for row in entry["errors"]} == {"spec.bogus", "metadata.name"}


def test_files_that_cannot_be_read_are_entries(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    missing = tmp_path / "missing.yaml"
    result = run("-f", str(binary), str(missing), "-o", "json")
    assert result.exit_code == 1
    assert [(entry["source"], entry["valid"]) for entry in entries(result)] == [
        (f"{binary}:1", False),
        (f"{missing}:1", False),
    ]
    assert "invalid" in run("-f", str(binary)).stdout


def test_documents_that_are_no_objects_are_refused() -> None:
    for text in ("just text", "- a\n- b", "{}", "kind: VirtualService", "apiVersion: v1\nkind: Nothing"):
        result = run("-f", "-", "-o", "json", stdin=text)
        assert result.exit_code == 1, text
        assert entries(result)[0]["errors"], text

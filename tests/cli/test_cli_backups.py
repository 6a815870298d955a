"""`isthmus backup` and `restore`: out of a running server, into a stopped one."""

import fcntl
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from documents import namespace, service, workload_entry
from isthmus.cli.main import main
from kube_server import kube_server


def isthmus(*args: str, kubeconfig: Path | None = None) -> Result:
    """The command."""
    return CliRunner().invoke(main, args, env={"ISTHMUS_KUBECONFIG": str(kubeconfig or "")})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A backup of a running server with some objects."""
    state, file = tmp_path / "one", tmp_path / "saved.db"
    state.mkdir()
    with kube_server(state) as server:
        server.apply(namespace(), service("ratings"), workload_entry("vm-1"))
        made = isthmus("backup", str(file), kubeconfig=server.kubeconfig)
        assert made.exit_code == 0, made.output
        again = isthmus("backup", str(file), kubeconfig=server.kubeconfig)
        assert (again.exit_code, "exists already" in again.output) == (1, True)
    assert file.stat().st_mode & 0o777 == 0o600
    return file


def test_a_backup_brings_everything_back(saved: Path, tmp_path: Path) -> None:
    state = tmp_path / "two"
    state.mkdir()
    with kube_server(state) as server:
        server.apply(namespace("lost"))
    restored = isthmus("restore", str(saved), "--state-dir", str(state))
    assert restored.output == f"3 objects restored into {state / 'isthmus.db'}\n"
    assert (state / "isthmus.db.old").exists()
    with kube_server(state) as server:
        names = [
            item["metadata"]["name"] for item in server.request("GET", "/api/v1/namespaces").document["items"]
        ]
        assert names == ["bookinfo"]
        found = server.request("GET", "/api/v1/namespaces/bookinfo/services/ratings").document
        assert found["metadata"]["managedFields"]
        assert server.apply(workload_entry("vm-2", "10.0.0.2")).code == 200


def test_what_is_no_backup_changes_nothing(saved: Path, tmp_path: Path) -> None:
    state, damaged = tmp_path / "one", tmp_path / "damaged.db"
    before = (state / "isthmus.db").read_bytes()
    damaged.write_bytes(b"notes" * 1000)
    refused = isthmus("restore", str(damaged), "--state-dir", str(state))
    assert refused.exit_code == 1
    assert "nothing was changed" in refused.output
    with (state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = isthmus("restore", str(saved), "--state-dir", str(state))
    assert (refused.exit_code, "stop it first" in refused.output) == (1, True)
    assert (state / "isthmus.db").read_bytes() == before
    assert not (state / "isthmus.db.new").exists()

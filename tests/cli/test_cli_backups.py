"""`isthmus backup` and `restore`: a control plane in a file, and back into an empty directory."""

import fcntl
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from documents import namespace, service, workload_entry
from isthmus.cli.main import main
from isthmus.server.sealing import CHUNK, Sealing, Unsealable, Unsealing
from kube_server import kube_server

PASSPHRASE = "correct horse battery"
PLAIN = b"isthmus backup 1\n"


def isthmus(*args: object, kubeconfig: object = "", passphrase: str = "") -> Result:
    """The command."""
    environment = {"ISTHMUS_KUBECONFIG": str(kubeconfig), "ISTHMUS_BACKUP_PASSPHRASE": passphrase}
    return CliRunner().invoke(main, [str(arg) for arg in args], env=environment, input="\n")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of a running control plane with some objects and a user."""
    found = tmp_path_factory.mktemp("one")
    with kube_server(found) as server:
        server.apply(namespace(), service("ratings"), workload_entry("vm-1"))
        made = isthmus(
            "user", "create", "ann", "--role", "viewer", "--certificate",
            "-o", found.parent / "ann.kubeconfig", kubeconfig=server.kubeconfig,
        )  # fmt: skip
        assert made.exit_code == 0, made.output
        with (found / "lock").open("w") as lock:  # as `isthmus serve` does
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield found


def files(state: Path) -> dict[str, bytes]:
    """What a state directory holds, but for the store's own files."""
    paths = (path for path in state.rglob("*") if path.is_file() and not path.name.startswith("isthmus.db"))
    return {str(path.relative_to(state)): path.read_bytes() for path in paths}


@pytest.mark.parametrize("seal", [False, True])
def test_a_backup_brings_everything_back(state: Path, tmp_path: Path, seal: bool) -> None:
    file, elsewhere = tmp_path / "saved", tmp_path / "deep" / "two"
    made = isthmus("backup", file, "--state-dir", state, *(["--seal"] if seal else []), passphrase=PASSPHRASE)
    assert made.exit_code == 0, made.output
    assert ("in the clear" in made.stderr) is not seal
    assert file.stat().st_mode & 0o777 == 0o600
    assert (b"PRIVATE KEY" in file.read_bytes()) is not seal
    restored = isthmus("restore", file, "--state-dir", elsewhere, passphrase=PASSPHRASE)
    assert restored.output.startswith(f"3 objects restored into {elsewhere}, as of 20"), restored.output
    before = files(state)
    # made by the tests' server, and by nobody else
    assert files(elsewhere) == {n: b for n, b in before.items() if n not in {"lock", "token", "roots.pem"}}
    assert elsewhere.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in elsewhere.rglob("*")} == {0}
    with kube_server(elsewhere) as server:
        found = server.request("GET", "/api/v1/namespaces/bookinfo/services/ratings").document
        assert found["metadata"]["managedFields"]
        assert server.apply(workload_entry("vm-2", "10.0.0.2")).code == 200
        assert f"Bearer {(state / 'token').read_text()}" == server.headers()["Authorization"]


def test_a_stopped_control_plane_is_read_from_its_files(state: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    isthmus("backup", tmp_path / "a", "--state-dir", state)
    isthmus("restore", tmp_path / "a", "--state-dir", one)
    assert isthmus("backup", tmp_path / "b", "--state-dir", one).exit_code == 0
    assert isthmus("restore", tmp_path / "b", "--state-dir", two).exit_code == 0
    assert files(one) | {"lock": b""} == files(two) | {"lock": b""}


@pytest.mark.parametrize("everything", [False, True])
def test_keys_may_stay_where_they_are(state: Path, tmp_path: Path, everything: bool) -> None:
    file, two = tmp_path / "saved", tmp_path / "two"
    more = ["--state-dir", state, "--without-keys"] if everything else []
    made = isthmus("backup", file, *more, kubeconfig=state / "admin.kubeconfig")
    assert (made.exit_code, made.stderr) == (0, ""), made.output
    assert b"PRIVATE KEY" not in file.read_bytes()
    assert b"token:" not in file.read_bytes()
    restored = isthmus("restore", file, "--state-dir", two)
    assert "not in the backup: admin.kubeconfig, ca/ca-key.pem" in restored.output
    assert "every VM has to join again" in restored.output
    assert (two / "users.json").exists() is everything
    assert not (two / "ca" / "ca-key.pem").exists()


def test_nothing_is_overwritten(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "saved"
    isthmus("backup", file, "--state-dir", state)
    before = file.read_bytes()
    again = isthmus("backup", file, "--state-dir", state)
    assert (again.exit_code, "exists already" in again.output) == (1, True)
    assert file.read_bytes() == before
    there = tmp_path / "two"
    there.mkdir()
    (there / "mine").touch()
    refused = isthmus("restore", file, "--state-dir", there)
    assert (refused.exit_code, f"{there} is there already" in refused.output) == (1, True)
    assert [path.name for path in there.iterdir()] == ["mine"]
    (there / "mine").unlink()
    assert isthmus("restore", file, "--state-dir", there).exit_code == 0


def altered(change: Callable[[dict[str, bytes], dict[str, Any]], object], saved: bytes) -> bytes:
    """A backup with other contents, in the clear."""
    with tarfile.open(fileobj=io.BytesIO(saved.removeprefix(PLAIN))) as tar:
        contents = {m.name: content.read() for m in tar if (content := tar.extractfile(m))}
    manifest = json.loads(contents.pop("manifest.json"))
    change(contents, manifest)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in {"manifest.json": json.dumps(manifest).encode(), **contents}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return PLAIN + out.getvalue()


def other_key(contents: dict[str, bytes], manifest: dict[str, Any]) -> None:
    contents["ca/ca-key.pem"] = contents["serving/serving-key.pem"]
    manifest["files"]["ca/ca-key.pem"] = manifest["files"]["serving/serving-key.pem"]


def outside(contents: dict[str, bytes], manifest: dict[str, Any]) -> None:
    contents["../outside"] = contents["users.json"]
    manifest["files"]["../outside"] = manifest["files"]["users.json"]


WRONG: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "no backup": (lambda saved: b"notes" * 1000, "is no backup of Isthmus"),
    "empty": (lambda saved: b"", "is no backup of Isthmus"),
    "cut off": (lambda saved: saved[: len(saved) // 2], ""),
    "without its end": (lambda saved: altered(lambda c, _: c.pop("users.json"), saved), "cut off"),
    "one bit": (
        lambda saved: altered(lambda c, _: c.update({"users.json": b"{}"}), saved),
        "damaged: users.json",
    ),
    "a file more": (
        lambda saved: altered(lambda c, _: c.update({"lock": b""}), saved),
        "belongs into no backup",
    ),
    "a file outside": (lambda saved: altered(outside, saved), "belongs into no backup"),
    "another key": (lambda saved: altered(other_key, saved), "is not the key of"),
    "no store": (
        lambda saved: altered(lambda _, m: m["files"].pop("isthmus.db"), saved),
        "manifest",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_trusted_changes_nothing(state: Path, tmp_path: Path, name: str) -> None:
    isthmus("backup", tmp_path / "saved", "--state-dir", state)
    make, words = WRONG[name]
    (tmp_path / "wrong").write_bytes(make((tmp_path / "saved").read_bytes()))
    refused = isthmus("restore", tmp_path / "wrong", "--state-dir", tmp_path / "two")
    assert (refused.exit_code, "nothing was restored" in refused.output) == (1, True), refused.output
    assert words in refused.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["saved", "wrong"]


def test_a_sealed_backup_opens_with_its_passphrase_only(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "saved"
    short = isthmus("backup", file, "--state-dir", state, "--seal", passphrase="short")
    assert (short.exit_code, "at least 12 characters" in short.output, file.exists()) == (1, True, False)
    isthmus("backup", file, "--state-dir", state, "--seal", passphrase=PASSPHRASE)
    refused = isthmus("restore", file, "--state-dir", tmp_path / "two", passphrase=PASSPHRASE + "!")
    assert (refused.exit_code, "another passphrase" in refused.output) == (1, True)
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_sealing(size: int) -> None:
    data, out = bytes(range(256)) * (size // 256 + 1), io.BytesIO()
    sealing = Sealing(out, PASSPHRASE)
    for begin in range(0, size, 1000):
        sealing.write(data[begin : min(begin + 1000, size)])
    sealing.close()
    sealed = out.getvalue()
    assert Unsealing(io.BytesIO(sealed), PASSPHRASE).read() == data[:size]
    chunks = [sealed[16:][begin : begin + CHUNK + 16] for begin in range(0, len(sealed) - 16, CHUNK + 16)]
    wrong = [sealed[:-1], sealed + b"x", sealed[:16], sealed[:16] + b"".join(chunks[:-1])]
    wrong += [sealed[:16] + b"".join([*chunks[1:], chunks[0]])] if len(chunks) > 1 else []
    for each in wrong:
        with pytest.raises(Unsealable):
            Unsealing(io.BytesIO(each), PASSPHRASE).read()


def test_a_directory_that_is_none(tmp_path: Path) -> None:
    refused = isthmus("backup", tmp_path / "saved", "--state-dir", tmp_path)
    assert (refused.exit_code, "is no state directory" in refused.output) == (1, True)
    assert not (tmp_path / "saved").exists()
    shutil.rmtree(tmp_path)

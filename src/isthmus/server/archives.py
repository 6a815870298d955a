"""A state directory <-> one file that brings the whole control plane back, somewhere else if need be.

    "isthmus backup 1\\n" or "isthmus backup 1, sealed\\n", then a tar (sealed, if so):
        manifest.json     what follows, with sizes and SHA-256
        isthmus.db        the store, as the server copied it
        ca/… serving/… users.json people-ca… admin.kubeconfig

Nothing that a file says is believed before it was checked: it is unpacked beside the directory, read as the
server would read it, and moved to its place whole.
"""

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from isthmus import __version__
from isthmus.identity import ca, serving
from isthmus.identity.ca import Authority, AuthorityUnusable
from isthmus.identity.keys import load_key, sync_directory
from isthmus.server import access, users
from isthmus.server.sealing import Sealing, Unsealable, Unsealing
from isthmus.store.base import StoreUnreadable
from isthmus.store.file import StoreFile

STORE = "isthmus.db"
SECRETS = frozenset({f"ca/{ca.KEY}", f"serving/{serving.KEY}", users.CA_KEY, access.KUBECONFIG})
"""Files that let their reader act as the control plane or as its admin."""
_FILES = (users.FILE, users.CA, users.CA_KEY, access.KUBECONFIG)
_FOLDERS = ("ca", "serving")
_WANTED = (f"ca/{ca.KEY}", f"serving/{serving.KEY}", users.FILE, access.KUBECONFIG)
"""What a control plane has beside the store, at least."""
_MANIFEST = "manifest.json"
_PLAIN, _SEALED = b"isthmus backup 1\n", b"isthmus backup 1, sealed\n"
_NAME = re.compile(r"(?:ca|serving)/[A-Za-z0-9][A-Za-z0-9._-]*|" + "|".join(map(re.escape, (*_FILES, STORE))))
_LARGEST_MANIFEST = 1 << 20


class Unrestorable(ValueError):
    """The file is no backup that can be restored here; the message says why. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restored directory holds."""

    objects: int
    created: str
    missing: tuple[str, ...]
    """Secrets that the backup was made without."""


def files_of(state: Path, *, secrets: bool) -> list[str]:
    """The names of the files of a state directory that belong into a backup, beside the store."""
    inside = [
        f"{folder}/{path.name}" for folder in _FOLDERS for path in sorted((state / folder).glob("[!.]*"))
    ]
    found = [*inside, *_FILES]
    return [name for name in found if (state / name).is_file() and (secrets or name not in SECRETS)]


def pack(out: IO[bytes], store: Path, state: Path | None, *, secrets: bool, passphrase: str | None) -> None:
    """Writes a backup: a copy of the store, and the files of a state directory, if one is given."""
    contents = (
        {name: (state / name).read_bytes() for name in files_of(state, secrets=secrets)} if state else {}
    )
    with store.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    listed = {STORE: _entry(store.stat().st_size, digest)}
    listed |= {name: _entry(len(data), hashlib.sha256(data).hexdigest()) for name, data in contents.items()}
    created = datetime.now(UTC).isoformat(timespec="seconds")
    every = files_of(state, secrets=True) if state else _WANTED
    without = sorted(set(every) - set(contents))
    manifest = {"created": created, "isthmus": __version__, "files": listed, "without": without}
    out.write(_SEALED if passphrase else _PLAIN)
    sealing = Sealing(out, passphrase) if passphrase else None
    target: Any = sealing or out
    with tarfile.open(fileobj=target, mode="w|") as tar:
        _add(tar, _MANIFEST, json.dumps(manifest, indent=1).encode())
        with store.open("rb") as file:
            tar.addfile(_member(STORE, store.stat().st_size), file)
        for name, data in contents.items():
            _add(tar, name, data)
    if sealing:
        sealing.close()


def is_sealed(path: Path) -> bool:
    """Whether a backup can be opened with its passphrase only; Unrestorable when it is none."""
    with path.open("rb") as file:
        return _begun(file)


def restore(path: Path, state: Path, *, passphrase: str | None) -> Restored:
    """Makes a state directory out of a backup. It must not be there yet, or be empty."""
    if state.exists() and any(state.iterdir()):
        raise Unrestorable(f"{state} is there already: move it away, or give another --state-dir")
    state.parent.mkdir(parents=True, exist_ok=True)
    draft = state.with_name(f".{state.name}.restored")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    try:
        with path.open("rb") as file:
            manifest = _unpacked(file, draft, passphrase)
        objects = _checked(draft)
        for folder in (draft, *(draft / name for name in _FOLDERS if (draft / name).exists())):
            sync_directory(folder)
        draft.rename(state)
        sync_directory(state.parent)
    except (Unsealable, tarfile.TarError, EOFError, OSError) as error:
        raise Unrestorable(f"{path}: {error}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    missing = tuple(map(str, manifest.get("without") or ()))
    return Restored(objects, str(manifest.get("created", "")), missing)


def _unpacked(file: IO[bytes], draft: Path, passphrase: str | None) -> Mapping[str, Any]:
    source: Any = file
    if _begun(file):
        if not passphrase:
            raise Unrestorable("the backup is sealed: its passphrase is needed")
        source = Unsealing(file, passphrase)
    with tarfile.open(fileobj=source, mode="r|") as tar:
        manifest = _manifest(tar, tar.next())
        left = dict(manifest["files"])
        while (member := tar.next()) is not None:
            expected = left.pop(member.name, None)
            if expected is None or not member.isreg() or not _NAME.fullmatch(member.name):
                raise Unrestorable(f"it holds {member.name!r:.80}, which belongs into no backup")
            _write(tar, member, draft / member.name, expected)
    if left:
        raise Unrestorable(f"it is cut off: {', '.join(sorted(left))} is missing")
    return manifest


def _begun(file: IO[bytes]) -> bool:
    line = file.readline(len(_SEALED))
    if line not in {_PLAIN, _SEALED}:
        raise Unrestorable(
            f"{getattr(file, 'name', 'it')} is no backup of Isthmus, or one of another version"
        )
    return line == _SEALED


def _manifest(tar: tarfile.TarFile, member: tarfile.TarInfo | None) -> Mapping[str, Any]:
    if member is None or member.name != _MANIFEST or not member.isreg() or member.size > _LARGEST_MANIFEST:
        raise Unrestorable("it does not begin with a manifest")
    content = tar.extractfile(member)
    try:
        found = json.loads(content.read() if content else b"")
        {name: (entry["size"], entry["sha256"]) for name, entry in found["files"].items()}[STORE]
    except (ValueError, LookupError, TypeError, AttributeError):
        raise Unrestorable("its manifest cannot be read") from None
    manifest: Mapping[str, Any] = found
    return manifest


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, expected: Mapping[str, Any]) -> None:
    content = tar.extractfile(member)
    assert content is not None, "a regular file has content"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    digest = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    if (member.size, digest.hexdigest()) != (expected["size"], expected["sha256"]):
        raise Unrestorable(f"it is damaged: {member.name} is not what the manifest says")


def _checked(draft: Path) -> int:
    """Reads everything as the server would; the number of objects."""
    try:
        opened = StoreFile.open(draft / STORE)
        try:
            count = len(opened.load().objects)
        finally:
            opened.close()
        if (draft / "ca" / ca.KEY).exists():
            Authority.open(draft / "ca", "", lambda: datetime.now(UTC))
        for name in (f"serving/{serving.KEY}", users.CA_KEY):
            if (draft / name).exists():
                load_key(draft / name)
        users.Users(draft)
    except (StoreUnreadable, AuthorityUnusable, ValueError, LookupError, TypeError) as error:
        raise Unrestorable(f"what it holds cannot be used: {error}") from None
    return count


def _entry(size: int, digest: str) -> Mapping[str, object]:
    return {"size": size, "sha256": digest}


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    tar.addfile(_member(name, len(data)), io.BytesIO(data))

"""Bytes -> files that are whole or absent after a crash, and known to the disk before we go on."""

import os
from pathlib import Path


def write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replaces the file in one step; when this returns the disk has it."""
    fresh = path.with_name(f".{path.name}.new")
    # left by a crash, or laid there by somebody: never written through
    fresh.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(fresh, flags, mode)
    try:
        os.fchmod(descriptor, mode)
        _write_all(descriptor, data)
        os.fsync(descriptor)
    except OSError:
        # half a file on a full disk only takes room
        fresh.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    os.replace(fresh, path)
    sync_directory(path.parent)


def overwrite(path: Path, data: bytes) -> None:
    """Changes what an existing file says but not which file it is: for bind mounts, which a rename breaks."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        _write_all(descriptor, data)
        os.ftruncate(descriptor, len(data))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]

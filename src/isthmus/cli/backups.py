"""`isthmus backup`, `isthmus restore`: the store as one file, from a running server, into a stopped one."""

import fcntl
import os
import shutil
from pathlib import Path

import click

from isthmus.cli.connection import connect, kubeconfig_option, told

_PATH = "/apis/isthmus.dev/v1alpha1/backup"
_STORE = "isthmus.db"


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@kubeconfig_option
@told
def backup(file: Path, kubeconfig: str | None) -> None:
    """Write all objects into FILE (0600), while the control plane works.

    Keys and certificates are not in it: copy STATE_DIR/ca and STATE_DIR/serving, too.
    """
    client = connect(kubeconfig)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise click.ClickException(f"{file} exists already: give another name") from None
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as out:
            size = client.download(_PATH, out)
            out.flush()
            os.fsync(out.fileno())
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    click.echo(f"{file} written, {size} bytes")


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Of a stopped server.",
)
def restore(file: Path, state_dir: Path) -> None:
    """Make the objects in FILE those of a stopped control plane.

    What it had is kept beside, as isthmus.db.old.
    """
    from isthmus.store.base import StoreUnreadable
    from isthmus.store.file import StoreFile

    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (state_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise click.ClickException(f"a control plane is running on {state_dir}: stop it first") from None
        fresh = state_dir / f"{_STORE}.new"
        for part in _parts(fresh):
            part.unlink(missing_ok=True)
        shutil.copyfile(file, fresh)
        fresh.chmod(0o600)
        try:
            # read as the server would, before anything is moved
            opened = StoreFile.open(fresh)
            try:
                count = len(opened.load().objects)
            finally:
                opened.close()
        except StoreUnreadable as error:
            for part in _parts(fresh):
                part.unlink(missing_ok=True)
            raise click.ClickException(f"nothing was changed: {error}") from None
        store = state_dir / _STORE
        for part, kept in zip(_parts(store), _parts(state_dir / f"{_STORE}.old"), strict=True):
            kept.unlink(missing_ok=True)
            if part.exists():
                part.rename(kept)
        fresh.rename(store)
    click.echo(f"{count} objects restored into {store}")


def _parts(store: Path) -> list[Path]:
    """A store's files: the write-ahead log belongs to it."""
    return [store, store.with_name(store.name + "-wal"), store.with_name(store.name + "-shm")]

"""`isthmus backup`, `isthmus restore`: out of a running control plane, into an empty directory."""

import fcntl
import os
import tempfile
from pathlib import Path

import click

from isthmus.cli.connection import connect, kubeconfig_option, told

_PATH = "/apis/isthmus.dev/v1alpha1/backup"
_PASSPHRASE = "ISTHMUS_BACKUP_PASSPHRASE"
_SHORTEST = 12


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="On the control plane's machine: its directory, for keys, certificates and users as well.",
)
@click.option("--without-keys", is_flag=True, help="Leave out private keys and the admin's token.")
@click.option("--seal", is_flag=True, help=f"Encrypt with a passphrase: asked for, or ${_PASSPHRASE}.")
@kubeconfig_option
@told
def backup(
    file: Path, state_dir: Path | None, without_keys: bool, seal: bool, kubeconfig: str | None
) -> None:
    """Write a control plane into FILE (0600), while it works.

    With --state-dir it is the whole: CA, serving key, users, objects. Who can read that file can act as the
    control plane, so keys never travel over the API. Without --state-dir: the objects alone, from anywhere.
    """
    from isthmus.server.archives import STORE, pack

    passphrase = _new_passphrase() if seal else None
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise click.ClickException(f"{file} exists already: give another name") from None
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None
    whole = state_dir is not None and not without_keys
    try:
        with os.fdopen(descriptor, "wb") as out, tempfile.TemporaryDirectory(prefix="isthmus-backup-") as own:
            store = Path(own) / STORE
            _copy_store(store, state_dir, kubeconfig)
            pack(out, store, state_dir, secrets=whole, passphrase=passphrase)
            out.flush()
            os.fsync(out.fileno())
    except OSError as error:
        file.unlink(missing_ok=True)
        raise click.ClickException(f"{error.filename or file}: {error.strerror}") from None
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    click.echo(f"{file} written, {file.stat().st_size} bytes, {_holds(state_dir, whole=whole)}")
    if whole and not seal:
        click.echo(
            "warning: it holds the CA's private key in the clear: keep it as safe, or use --seal", err=True
        )


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="To be made; a directory with something in it is left as it is.",
)
def restore(file: Path, state_dir: Path) -> None:
    """Make a state directory out of FILE, for `isthmus serve`: all of it, or nothing.

    A sealed FILE asks for its passphrase, or takes it from $ISTHMUS_BACKUP_PASSPHRASE.
    """
    from isthmus.server import archives

    try:
        sealed = archives.is_sealed(file)
        passphrase = (os.environ.get(_PASSPHRASE) or _asked()) if sealed else None
        restored = archives.restore(file, state_dir, passphrase=passphrase)
    except archives.Unrestorable as error:
        raise click.ClickException(f"nothing was restored: {error}") from None
    except OSError as error:
        raise click.ClickException(f"nothing was restored: {error.filename}: {error.strerror}") from None
    click.echo(f"{restored.objects} objects restored into {state_dir}, as of {restored.created}")
    if restored.missing:
        click.echo(f"not in the backup: {', '.join(restored.missing)}")
        click.echo(
            f"put these back into {state_dir} before the first start: with another CA key every VM has to"
            " join again, with another serving key unused join tokens are worth nothing",
        )


def _copy_store(path: Path, state_dir: Path | None, kubeconfig: str | None) -> None:
    """The store as it stands: from the running server, or from the file of one that does not run."""
    if state_dir is not None:
        with (state_dir / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                kubeconfig = kubeconfig or str(state_dir / "admin.kubeconfig")
            else:
                _copy_file(state_dir / path.name, path)
                return
    client = connect(kubeconfig)
    with path.open("wb") as out:
        client.download(_PATH, out)


def _copy_file(store: Path, path: Path) -> None:
    from isthmus.store.base import StoreUnavailable, StoreUnreadable
    from isthmus.store.file import StoreFile

    if not store.exists():
        raise click.ClickException(f"{store.parent} is no state directory: it has no {store.name}")
    try:
        opened = StoreFile.open(store)
        try:
            opened.copy(path)
        finally:
            opened.close()
    except (StoreUnreadable, StoreUnavailable) as error:
        raise click.ClickException(str(error)) from None


def _holds(state_dir: Path | None, *, whole: bool) -> str:
    if whole:
        return "the whole control plane"
    return "objects, users and certificates, without keys" if state_dir else "objects only"


def _new_passphrase() -> str:
    passphrase = os.environ.get(_PASSPHRASE) or str(
        click.prompt("passphrase", hide_input=True, confirmation_prompt=True, err=True)
    )
    if len(passphrase) < _SHORTEST:
        raise click.ClickException(f"a passphrase has at least {_SHORTEST} characters")
    return passphrase


def _asked() -> str:
    return str(click.prompt("passphrase", hide_input=True, err=True))

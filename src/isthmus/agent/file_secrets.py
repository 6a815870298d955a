"""Certificates in files of the machine -> secrets, by the names that Istio gives them.

    file-root:PATH         whom to believe         file-root:system  whom the machine believes
    file-cert:CHAIN~KEY    a certificate of one's own

The agent reads as root for whoever may ask Envoy or write a DestinationRule. So only files below directories
that this VM's operator names are read, and only their PEM blocks of the kind that is wanted are handed on.
A file is read again and again, so that one that is renewed in place is taken up.
"""

import hashlib
import logging
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2 as tls_v3

CHECK_S = 5.0
"""Time between two looks at files that may have been renewed."""
DIRECTORIES = "ISTHMUS_CERTIFICATE_DIRS"
"""The environment variable that names the directories, separated by colons as in PATH."""
DEFAULT_DIRECTORY = "/etc/isthmus/certs"

_LOG = logging.getLogger("isthmus.agent")
_ROOT, _CERTIFICATE = "file-root:", "file-cert:"
_SYSTEM = _ROOT + "system"
_SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_MOST_BYTES = 1 << 20
_MOST_TOLD = 1000
_BLOCK = rb"-----BEGIN (%s)-----\r?\n[A-Za-z0-9+/=\s:,-]*?-----END \1-----"
_CERTIFICATES = re.compile(_BLOCK % rb"(?:TRUSTED |X509 )?CERTIFICATE")
_KEYS = re.compile(_BLOCK % rb"(?:[A-Z]+ )?PRIVATE KEY")


class Refused(Exception):
    """A file that is not read, or not handed on; the text says why."""


def is_file_secret(name: str) -> bool:
    """Whether a secret of this name is in files."""
    return name.startswith((_ROOT, _CERTIFICATE))


def directories(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """The directories that the operator of this VM allows; relative ones are none."""
    named = environment.get(DIRECTORIES, DEFAULT_DIRECTORY).split(":")
    return tuple(Path(each) for each in named if each.startswith("/"))


class Files:
    """The files that may be read, and what was already said of those that may not."""

    def __init__(self, allowed: Iterable[Path]) -> None:
        self._allowed = tuple(allowed)
        self._told: dict[str, str] = {}

    def read(self, names: Iterable[str]) -> dict[str, tuple[str, bytes]]:
        """Those of the secrets that are in files and can be had, as (version, serialised message)."""
        found = {}
        for name in filter(is_file_secret, names):
            try:
                body = self._secret(name).SerializeToString(deterministic=True)
            except (Refused, OSError, ValueError) as error:
                self._tell(name, str(error))
                continue
            self._told.pop(name, None)
            found[name] = (hashlib.blake2b(body, digest_size=8).hexdigest(), body)
        return found

    def _tell(self, name: str, why: str) -> None:
        if self._told.get(name) == why:
            return
        if len(self._told) >= _MOST_TOLD:
            self._told.clear()
        self._told[name] = why
        _LOG.warning("secret refused name=%.200r reason=%.400s", name, why)

    def _secret(self, name: str) -> tls_v3.Secret:
        secret = tls_v3.Secret(name=name)
        if name == _SYSTEM:
            secret.validation_context.trusted_ca.inline_bytes = _system_roots()
            return secret
        if name.startswith(_ROOT):
            roots = self._blocks(name.removeprefix(_ROOT), _CERTIFICATES)
            secret.validation_context.trusted_ca.inline_bytes = roots
            return secret
        chain_path, _, key_path = name.removeprefix(_CERTIFICATE).partition("~")
        secret.tls_certificate.certificate_chain.inline_bytes = self._blocks(chain_path, _CERTIFICATES)
        secret.tls_certificate.private_key.inline_bytes = self._blocks(key_path, _KEYS)
        return secret

    def _blocks(self, path: str, kind: re.Pattern[bytes]) -> bytes:
        # links are followed first (Kubernetes and certbot use them), and only where they lead to counts
        file = Path(path).resolve()
        self._check(file, path)
        content = _content(file, self._check)
        blocks = [match.group() for match in kind.finditer(content)]
        if not blocks:
            what = "private key" if kind is _KEYS else "certificate"
            raise Refused(f"{path} holds no {what} in PEM")
        return b"\n".join(blocks) + b"\n"

    def _check(self, file: Path, asked: str) -> None:
        # what the operator named may itself be a link: compare real places with real places
        if not Path(asked).is_absolute() or not any(
            file.is_relative_to(directory.resolve()) for directory in self._allowed
        ):
            allowed = ", ".join(map(str, self._allowed)) or "no directory"
            raise Refused(
                f"{asked} is not below {allowed}: put it there, or name its directory in {DIRECTORIES}"
            )


def _system_roots() -> bytes:
    for path in _SYSTEM_BUNDLES:
        try:
            content = _content(Path(path).resolve(), _anywhere)
        except (OSError, Refused):
            continue
        if blocks := [match.group() for match in _CERTIFICATES.finditer(content)]:
            return b"\n".join(blocks) + b"\n"
    raise Refused(f"this machine has no bundle of roots, looked for {', '.join(_SYSTEM_BUNDLES)}")


def _content(file: Path, check: Callable[[Path, str], None]) -> bytes:
    # neither waits for a pipe's other end nor follows a link that was put there since
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    descriptor = os.open(file, flags)
    with open(descriptor, "rb") as opened:
        now = os.fstat(descriptor)
        if not stat.S_ISREG(now.st_mode):
            raise Refused(f"{file} is no plain file")
        if now.st_size > _MOST_BYTES:
            raise Refused(f"{file} has {now.st_size} bytes, more than {_MOST_BYTES}")
        # a directory on the way may have become a link: what counts is what was opened
        check(Path(os.readlink(f"/proc/self/fd/{descriptor}")), str(file))
        return opened.read(_MOST_BYTES)


def _anywhere(file: Path, asked: str) -> None:
    """The machine's own bundles are at fixed places."""

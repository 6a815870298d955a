"""Certificates in files of the machine -> secrets, by the names that Istio gives them.

    file-root:PATH         whom to believe         file-root:system  whom the machine believes
    file-cert:CHAIN~KEY    a certificate of one's own

A file is read again and again, so that one that is renewed in place is taken up.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from envoy.extensions.transport_sockets.tls.v3 import secret_pb2 as tls_v3

CHECK_S = 5.0
"""Time between two looks at files that may have been renewed."""

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


def is_file_secret(name: str) -> bool:
    """Whether a secret of this name is in files."""
    return name.startswith((_ROOT, _CERTIFICATE))


def read(names: Iterable[str]) -> dict[str, tuple[str, bytes]]:
    """Those of the secrets that are in files and can be read, as (version, serialised message)."""
    found = {}
    for name in filter(is_file_secret, names):
        secret = _secret(name)
        if secret is not None:
            body = secret.SerializeToString(deterministic=True)
            found[name] = (hashlib.blake2b(body, digest_size=8).hexdigest(), body)
    return found


def _secret(name: str) -> tls_v3.Secret | None:
    secret = tls_v3.Secret(name=name)
    if name.startswith(_ROOT):
        paths = _SYSTEM_BUNDLES if name == _SYSTEM else (name.removeprefix(_ROOT),)
        roots = next((content for path in paths if (content := _content(path))), None)
        if roots is None:
            return None
        secret.validation_context.trusted_ca.inline_bytes = roots
        return secret
    chain_path, _, key_path = name.removeprefix(_CERTIFICATE).partition("~")
    chain, key = _content(chain_path), _content(key_path)
    if chain is None or key is None:
        return None
    secret.tls_certificate.certificate_chain.inline_bytes = chain
    secret.tls_certificate.private_key.inline_bytes = key
    return secret


def _content(path: str) -> bytes | None:
    try:
        file = Path(path)
        if not file.is_file() or file.stat().st_size > _MOST_BYTES:
            return None
        return file.read_bytes() or None
    except (OSError, ValueError):
        return None

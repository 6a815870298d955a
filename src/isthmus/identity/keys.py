"""Private keys, signing requests and PEM: in memory, and on disk so that no crash leaves half of one.

A key is written only with mode 0600, is whole or absent, and is durable when the call returns.
"""

import hashlib
import os
import re
import secrets
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
"""The kinds of key that we put into certificates."""
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_PEM_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: PrivateKey) -> bytes:
    """The private key as unencrypted PKCS#8 PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def request_pem(key: PrivateKey) -> str:
    """A signing request that proves possession of the key and claims nothing else."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def public_key_der(key: PublicKey) -> bytes:
    """The key as SubjectPublicKeyInfo: the one spelling that pins and comparisons use."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def pin(key: PublicKey) -> bytes:
    """SHA-256 of the public key: what a join token and a key's binding to it hold."""
    return hashlib.sha256(public_key_der(key)).digest()


def certificates(pem: str) -> tuple[x509.Certificate, ...]:
    """The certificates in a PEM text, in order; ValueError when there is none or one cannot be read."""
    found = tuple(x509.load_pem_x509_certificate(block.encode()) for block in _PEM_BLOCK.findall(pem))
    if not found:
        raise ValueError("no PEM certificate in it")
    return found


def certificate_pem(certificate: x509.Certificate) -> str:
    """The certificate as PEM, ending with a newline."""
    return certificate.public_bytes(Encoding.PEM).decode()


def load_key(path: Path) -> PrivateKey:
    """The private key in the file; ValueError when others may read it, or it is none that we use."""
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise ValueError(f"{path} may be read by others (mode {mode:04o}): chmod 600 {path}")
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{path} holds no unencrypted PEM private key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise ValueError(f"{path} holds a {type(key).__name__}, expected an EC or RSA key")
    return key


def write_durably(path: Path, content: bytes, mode: int) -> None:
    """Replaces the file in one step; it is on disk, with this mode, when the call returns."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes renames and creations in the directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""People and robots: who they are by their tokens and certificates, and what they may do.

    users.json      0600: names, roles, SHA-256 of tokens and of certificates (never these themselves)
    people-ca.pem   signs certificates of users; no workload is known by it, and no user by the mesh's own

A user that is removed is not known from the next request on, whatever they hold.
"""

import hashlib
import json
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from starlette.requests import Request

from isthmus.identity import keys
from isthmus.identity.csr import accepted
from isthmus.identity.keys import write_durably
from isthmus.server.authentication import bearer_token, by_token, token_hash
from isthmus.server.roles import Grant, User

FILE = "users.json"
CA_KEY, CA = "people-ca-key.pem", "people-ca.pem"
_CERTIFICATE_LIFE = timedelta(days=365)
_CA_LIFE = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Account:
    """A user as the file has them."""

    name: str
    grants: tuple[Grant, ...]
    token: str = ""
    """SHA-256 of the token, in hex; empty when there is none."""
    certificate: str = ""
    """SHA-256 of the certificate, in hex; empty when there is none."""

    @property
    def user(self) -> User:
        """What the roles are asked with."""
        return User(self.name, self.grants)


class NameTaken(ValueError):
    """There is a user of this name."""


class Users:
    """All users. Changes are durable before anybody is told."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._accounts: dict[str, Account] = {one.name: one for one in _read(directory / FILE)}
        self._index()

    def authenticate(self, request: Request) -> User | None:
        """Who makes a request, None when that is not known."""
        token = bearer_token(request)
        if token:
            return by_token(token, self._by_token)
        certificate = getattr(request.state, "client_certificate", None)
        if certificate:
            return self._by_certificate.get(hashlib.sha256(certificate).hexdigest())
        return None

    def all(self) -> Sequence[Account]:
        """The users by name."""
        return [self._accounts[name] for name in sorted(self._accounts)]

    def knows(self, token: str) -> bool:
        """Whether the token is somebody's."""
        return by_token(token, self._by_token) is not None

    def put(self, account: Account) -> None:
        """Adds or replaces a user."""
        with self._lock:
            self._store({**self._accounts, account.name: account})

    def remove(self, name: str) -> bool:
        """Forgets a user; False when there is none of this name."""
        with self._lock:
            if name not in self._accounts:
                return False
            self._store({known: one for known, one in self._accounts.items() if known != name})
            return True

    def add_with_token(self, name: str, grants: Sequence[Grant]) -> str:
        """A new user, known by the token that is returned; NameTaken."""
        token = secrets.token_urlsafe(32)
        self._add(Account(name, tuple(grants), token=token_hash(token)))
        return token

    def add_with_certificate(self, name: str, grants: Sequence[Grant], request: bytes) -> str:
        """A new user, known by the certificate (PEM) that is returned for a signing request; NameTaken."""
        found = x509.load_pem_x509_csr(request)
        if not found.is_signature_valid:
            raise ValueError("the signing request is not signed by its own key")
        certificate = self._sign(name, accepted(found.public_key()))
        digest = hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()
        self._add(Account(name, tuple(grants), certificate=digest))
        return certificate.public_bytes(Encoding.PEM).decode()

    def authority(self) -> str:
        """The certificate (PEM) of the authority that signs for users; made when there is none."""
        path = self._directory / CA
        if not path.exists():
            key = keys.new_key()
            write_durably(self._directory / CA_KEY, keys.key_pem(key), 0o600)
            name = _name("isthmus people")
            now = datetime.now(UTC)
            certificate = (
                x509.CertificateBuilder()
                .subject_name(name)
                .issuer_name(name)
                .public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(now - timedelta(minutes=2))
                .not_valid_after(now + _CA_LIFE)
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .sign(key, hashes.SHA256())
            )
            write_durably(path, certificate.public_bytes(Encoding.PEM), 0o644)
        return path.read_text()

    def _sign(self, name: str, key: Any) -> x509.Certificate:
        authority = x509.load_pem_x509_certificate(self.authority().encode())
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(authority.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=2))
            .not_valid_after(min(now + _CERTIFICATE_LIFE, authority.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(keys.load_key(self._directory / CA_KEY), hashes.SHA256())
        )

    def _add(self, account: Account) -> None:
        with self._lock:
            if account.name in self._accounts:
                raise NameTaken(f"there is a user {account.name}: delete it first, or choose another name")
            self._store({**self._accounts, account.name: account})

    def _store(self, accounts: dict[str, Account]) -> None:
        rows = [asdict(account) for account in accounts.values()]
        text = json.dumps({"users": rows}, indent=2)
        write_durably(self._directory / FILE, text.encode() + b"\n", 0o600)
        self._accounts = accounts
        self._index()

    def _index(self) -> None:
        accounts = self._accounts.values()
        self._by_token: Mapping[str, User] = {one.token: one.user for one in accounts if one.token}
        self._by_certificate = {one.certificate: one.user for one in accounts if one.certificate}


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _read(path: Path) -> list[Account]:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return []
    if "users" not in found:  # as the first version wrote it: the admin's name by the token's hash
        return [Account(str(name), (Grant("admin"),), token=known) for known, name in found.items()]
    return [
        replace(Account(**row), grants=tuple(Grant(**grant) for grant in row["grants"]))
        for row in found["users"]
    ]

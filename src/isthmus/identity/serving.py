"""The control plane's own names and key -> the certificate that its doors show, renewed in place.

The key is made once and kept, so that the pin in join tokens outlives restarts and renewals; only the
certificate changes. TLS contexts made here take every renewal up by themselves.

    serving-key.pem    0600        serving-chain.pem    leaf and intermediates
"""

import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from isthmus.identity import keys
from isthmus.identity.ca import Authority, split_names
from isthmus.identity.keys import PrivateKey
from isthmus.identity.peer import certificate_identity
from isthmus.identity.spiffe import SpiffeId

KEY, CHAIN = "serving-key.pem", "serving-chain.pem"
TTL = timedelta(days=30)
COMMON_NAME = "isthmus"
SERVICE_NAMES = ("isthmus.isthmus-system.svc", "isthmus.isthmus-system.svc.cluster.local")
"""Names that every control plane answers to; a client that knows only an address checks the first."""


_log = logging.getLogger(__name__)


def control_plane_id(trust_domain: str) -> SpiffeId:
    """Who the control plane is in the mesh."""
    return SpiffeId(trust_domain, "isthmus-system", "isthmus")


@dataclass(slots=True, eq=False)
class ServingIdentity:
    """The control plane's key and its present certificate. Owned by one task."""

    directory: Path
    authority: Authority
    names: tuple[str, ...]
    key: PrivateKey
    chain: str
    _now: Callable[[], datetime]
    _contexts: list[ssl.SSLContext] = field(default_factory=list)

    @classmethod
    def open(
        cls, directory: Path, authority: Authority, names: Sequence[str], now: Callable[[], datetime]
    ) -> "ServingIdentity":
        """The identity kept in the directory, made or renewed as far as needed to answer to the names,
        besides its names in the mesh. OSError when the disk refuses and there is no good certificate."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_path, chain_path = directory / KEY, directory / CHAIN
        if not key_path.exists():
            keys.write_durably(key_path, keys.key_pem(keys.new_key()), 0o600)
        chain = chain_path.read_text() if chain_path.exists() else ""
        every = (*SERVICE_NAMES, *names)
        identity = cls(directory, authority, every, keys.load_key(key_path), chain, now)
        try:
            identity.renew_if_due()
        except OSError as error:
            leaf = identity._own_leaf()
            if leaf is None or now() >= leaf.not_valid_after_utc:
                raise
            # a full disk must not stop what could serve
            until = leaf.not_valid_after_utc.isoformat()
            _log.warning("serving certificate not renewed, the old one serves until=%s: %s", until, error)
        return identity

    @property
    def spiffe(self) -> SpiffeId:
        """Who the control plane is in the mesh."""
        return control_plane_id(self.authority.trust_domain)

    @property
    def key_path(self) -> Path:
        """The private key's file."""
        return self.directory / KEY

    @property
    def chain_path(self) -> Path:
        """The file with leaf and intermediates."""
        return self.directory / CHAIN

    @property
    def roots(self) -> str:
        """The trust bundle as PEM."""
        return self.authority.roots

    def pin(self) -> bytes:
        """SHA-256 of the public key: what join tokens hold, the same for as long as the key is kept."""
        return keys.pin(self.key.public_key())

    def renew_if_due(self) -> bool:
        """A new certificate when half the old one's life is over, or it no longer fits; whether it did so."""
        if self._fits():
            return False
        issued = self.authority.sign(
            self.key.public_key(), self.spiffe, common_name=COMMON_NAME, ttl=TTL, names=self.names
        )
        keys.write_durably(self.chain_path, issued.chain.encode(), 0o644)
        self.chain = issued.chain
        for context in self._contexts:
            context.load_cert_chain(self.chain_path, self.key_path)
        return True

    def server_context(self, *, alpn: Sequence[str], clients: bool) -> ssl.SSLContext:
        """A server's TLS context that follows renewals; `clients` demands a certificate of this mesh."""
        context = self._context(ssl.PROTOCOL_TLS_SERVER, alpn)
        # a resumed session would skip the check of the client's chain
        context.num_tickets = 0
        context.options |= ssl.OP_NO_TICKET
        if clients:
            context.load_verify_locations(cadata=self.roots)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def client_context(self, *, alpn: Sequence[str]) -> ssl.SSLContext:
        """A client's TLS context that shows this identity and trusts this mesh.

        It checks the server's chain but no host name: the caller must compare the SPIFFE id.
        """
        context = self._context(ssl.PROTOCOL_TLS_CLIENT, alpn)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self.roots)
        return context

    def _context(self, protocol: int, alpn: Sequence[str]) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.chain_path, self.key_path)
        context.set_alpn_protocols(list(alpn))
        self._contexts.append(context)
        return context

    def _fits(self) -> bool:
        """Whether the present certificate is ours, for these names, and less than half over."""
        leaf = self._own_leaf()
        if leaf is None:
            return False
        alternatives = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        named = (
            tuple(alternatives.get_values_for_type(x509.DNSName)),
            tuple(alternatives.get_values_for_type(x509.IPAddress)),
        )
        half = leaf.not_valid_before_utc + (leaf.not_valid_after_utc - leaf.not_valid_before_utc) / 2
        return named == split_names(self.names) and self._now() < half

    def _own_leaf(self) -> x509.Certificate | None:
        """The present certificate, if it is ours: for this key, with our identity, of this authority."""
        try:
            leaf = keys.certificates(self.chain)[0]
            own = certificate_identity(leaf, self.authority.trust_domain).spiffe == self.spiffe
        except (ValueError, x509.ExtensionNotFound):
            return None
        own = own and leaf.public_key() == self.key.public_key() and self.authority.issued(leaf)
        return leaf if own else None

"""A certificate that has ended, and a proof that its key is still held -> the next certificate.

    nonce ─▶ VM signs (nonce, new key) with the old key ─▶ ours? not too old? still registered? ─▶ signed

The mTLS door refuses certificates that have ended, so a VM that was away for longer than its certificate
lived proves here, by hand, what the handshake would have proven. Nothing is granted that the same VM would
not have been granted at the mTLS door the moment before its certificate ended.
"""

import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

from isthmus.api.meta import Key, Object
from isthmus.api.networking.workload_group import GROUP_ANNOTATION
from isthmus.identity import keys
from isthmus.identity.ca import Authority, Issued
from isthmus.identity.csr import RequestRefused, accepted, requested_key
from isthmus.identity.enrol import certificate_ttl, identity
from isthmus.identity.peer import certificate_identity
from isthmus.identity.possession import challenge
from isthmus.identity.refusal import Refused
from isthmus.identity.times import enrolled_at, predates
from isthmus.store.base import Store

GRACE = timedelta(days=7)
"""How long after its end a certificate still renews itself; a VM that was away for longer joins again."""
NONCE_LIFE_S = 60.0
MAX_CHAIN = 32 * 1024
_MAX_NONCES = 10_000
_AGAIN = "join again: isthmus leave, then isthmus join with a new token"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LateRequest:
    """What a VM sends whose certificate has ended."""

    chain: str
    csr: str = field(repr=False)
    nonce: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    """By the old key, over `challenge(nonce, new key)`."""


class Nonces:
    """Numbers that are good once, for a minute. The oldest are forgotten beyond a bound."""

    def __init__(self) -> None:
        self._made_at: OrderedDict[bytes, float] = OrderedDict()

    def new(self, now_s: float) -> bytes:
        """A fresh one, at `now_s` monotonic seconds."""
        nonce = secrets.token_bytes(32)
        self._made_at[nonce] = now_s
        if len(self._made_at) > _MAX_NONCES:
            self._made_at.popitem(last=False)
        return nonce

    def take(self, nonce: bytes, now_s: float) -> bool:
        """Whether it was good; it is not any more."""
        made_at = self._made_at.pop(nonce, None)
        return made_at is not None and now_s - made_at <= NONCE_LIFE_S


class LateRegistrar:
    """Signs the next certificate of workloads that still stand. One per authority: it owns the nonces."""

    def __init__(
        self,
        store: Store,
        authority: Authority,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._store, self._authority = store, authority
        self._now, self._monotonic = now, monotonic
        self._nonces = Nonces()

    def nonce(self) -> bytes:
        """A challenge to be answered once, soon."""
        return self._nonces.new(self._monotonic())

    async def renew(self, request: LateRequest) -> Issued:
        """The next chain; Refused, with the nonce used up, when anything does not fit."""
        if not self._nonces.take(request.nonce, self._monotonic()):
            raise Refused(409, "the nonce is not one of ours, was used, or is too old", "ask for a new one")
        try:
            new_key = requested_key(request.csr)
        except RequestRefused as error:
            raise Refused(422, str(error)) from None
        leaf = self._own_leaf(request.chain)
        if not _fits(leaf, request.signature, challenge(request.nonce, new_key)):
            raise Refused(401, "the signature is not by the key of the certificate that was shown")
        self._check_times(leaf)
        entry = await self._standing(leaf)
        name = entry.meta.annotations.get(GROUP_ANNOTATION)
        group = await self._store.get(Key("WorkloadGroup", entry.key.namespace, name)) if name else None
        issued = self._authority.sign(
            new_key,
            identity(entry, self._authority.trust_domain),
            common_name=entry.key.name,
            ttl=certificate_ttl(group),
        )
        ended = leaf.not_valid_after_utc.isoformat()
        _log.info("certificate renewed late entry=%s ended=%s serial=%x", entry.key, ended, issued.serial)
        return issued

    def _own_leaf(self, chain: str) -> x509.Certificate:
        """The leaf of the chain, when this authority signed it; who cannot show one is told no more."""
        try:
            leaf = keys.certificates(chain)[0]
            ours = self._authority.issued(leaf)
        except ValueError:
            ours = False
        if not ours:
            raise Refused(
                401, "the certificate was not signed by this control plane's present authority", _AGAIN
            )
        return leaf

    def _check_times(self, leaf: x509.Certificate) -> None:
        now, ended = self._now().astimezone(UTC), leaf.not_valid_after_utc
        if leaf.not_valid_before_utc > now:
            raise Refused(403, f"the certificate begins at {leaf.not_valid_before_utc.isoformat()}", _AGAIN)
        if now - ended >= GRACE:
            text = f"the certificate ended at {ended.isoformat()}, more than {GRACE.days} days ago"
            raise Refused(403, text, _AGAIN)

    async def _standing(self, leaf: x509.Certificate) -> Object:
        """The WorkloadEntry of the certificate, as it was enrolled when the certificate was signed."""
        try:
            peer = certificate_identity(leaf, self._authority.trust_domain)
        except ValueError as error:
            raise Refused(401, str(error), _AGAIN) from None
        entry = await self._store.get(Key("WorkloadEntry", peer.spiffe.namespace, peer.workload))
        if entry is None or identity(entry, self._authority.trust_domain) != peer.spiffe:
            where = f"{peer.spiffe.namespace}/{peer.workload}"
            raise Refused(
                403, f"workload {where} is not registered (left?), or has another service account", _AGAIN
            )
        text = enrolled_at(entry.meta.annotations, entry.meta.creation_timestamp)
        if predates(peer.signed_at, text):
            where = f"{entry.key.namespace}/{entry.key.name}"
            raise Refused(403, f"workload {where} was enrolled at {text}, after this certificate", _AGAIN)
        return entry


def _fits(leaf: x509.Certificate, signature: bytes, data: bytes) -> bool:
    try:
        key = accepted(leaf.public_key())
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
        else:
            key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, RequestRefused, ValueError):
        return False
    return True

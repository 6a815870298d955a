"""Addresses, a key's pin and a single-use secret <-> the one string that a person carries to a VM.

    isthmus1.<base64url>        length | pin | secret | namespace | name | addresses | checksum

The string travels through chats, e-mails and terminals, so white space and quotes that got into it are
dropped, and every other damage is told apart: foreign, cut short, too long, altered. No error repeats
any part of the token. The control plane keeps only a hash of the secret.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

PREFIX = "isthmus1."
SECRET_BYTES = 32
PIN_BYTES = 32
MAX_ADDRESSES = 16

_CHECKSUM_BYTES = 6
_HEAD = struct.Struct("!H")
_DIRT = re.compile(r"[\s\"'`´‘’“”«»\\\u00ad\u200b-\u200f\u2060\ufeff]+")
"""What mail programs, shells and line wrapping put into a long string."""
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_NEW = "create a new one: isthmus token create --group NAMESPACE/GROUP"


class TokenDamaged(ValueError):
    """The text is not a join token as it was made; the message tells how it differs."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a join token holds. The secret never shows in a repr."""

    namespace: str
    name: str
    """Together the JoinToken object that this is the other half of."""
    addresses: tuple[str, ...]
    """Where the control plane's API door answers, as host:port or [v6]:port, best first."""
    pin: bytes
    """SHA-256 of the door's public key (SubjectPublicKeyInfo, DER)."""
    secret: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """The JoinToken object as `namespace/name`."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Minted:
    """A new token: the text for the person, the hash for the store."""

    text: str = field(repr=False)
    secret_hash: str


def mint(
    *,
    namespace: str,
    name: str,
    addresses: Sequence[str],
    pin: bytes,
    random: Callable[[int], bytes] = secrets.token_bytes,
) -> Minted:
    """A token with a fresh secret for the JoinToken object `namespace/name`."""
    secret = random(SECRET_BYTES)
    token = Token(namespace, name, tuple(addresses), pin, secret)
    if fault := _fault(token):
        raise ValueError(fault)
    return Minted(render(token), hash_secret(secret))


def hash_secret(secret: bytes) -> str:
    """What the control plane stores of a secret: SHA-256 in hex (the secret is 256 random bits)."""
    return hashlib.sha256(secret).hexdigest()


def secret_fits(secret: bytes, secret_hash: str) -> bool:
    """Whether the secret is the hashed one, in a time that tells nothing."""
    return hmac.compare_digest(hash_secret(secret).encode(), secret_hash.encode())


def split_address(address: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` as its two parts; ValueError for anything else."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        fits = re.fullmatch(r"[0-9A-Fa-f:.]{2,45}", host) is not None and ":" in host
    else:
        fits = _HOST.fullmatch(host) is not None
    if not colon or not fits or not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise ValueError(f"address {address!r} is not host:port or [v6 address]:port")
    return host, int(port)


def render(token: Token) -> str:
    """The token as text: always the same for the same token."""
    body = token.pin + token.secret
    body += b"".join(_chunk(part) for part in (token.namespace, token.name, *token.addresses))
    length = _HEAD.size + len(body) + _CHECKSUM_BYTES
    body = _HEAD.pack(length) + body
    return PREFIX + _encode(body + _checksum(body))


def parse(text: str) -> Token:
    """The token that the text spells; TokenDamaged, with what is wrong in words, for anything else."""
    clean = _DIRT.sub("", text)
    if not clean:
        raise TokenDamaged(f"the join token is empty: {_NEW}")
    if not clean.startswith(PREFIX):
        raise TokenDamaged(_foreign(clean))
    encoded = clean[len(PREFIX) :].rstrip("=")
    if odd := re.sub(r"[A-Za-z0-9_-]", "", encoded):
        raise TokenDamaged(
            f"the join token holds {len(odd)} character(s) that no token has: "
            "only letters, digits, '-' and '_' follow 'isthmus1.'; copy it again"
        )
    raw = _decode(encoded)
    if len(raw) < _HEAD.size:
        raise TokenDamaged(f"the join token is cut short after {len(clean)} characters: copy all of it")
    (length,) = _HEAD.unpack_from(raw)
    expected = len(PREFIX) + -(-length * 4 // 3)
    if len(clean) != expected:
        how = "cut short" if len(clean) < expected else "too long"
        raise TokenDamaged(
            f"the join token is {how}: it has {len(clean)} characters and should have {expected}; "
            "copy it again"
        )
    body, checksum = raw[:-_CHECKSUM_BYTES], raw[-_CHECKSUM_BYTES:]
    # re-encoding catches what base64 forgives: stray bits in the last character
    if not hmac.compare_digest(_checksum(body), checksum) or _encode(raw) != encoded:
        raise TokenDamaged(
            f"the join token has the right length ({expected}) but characters in it were altered: "
            "copy it again"
        )
    return _unpack(body)


def _unpack(body: bytes) -> Token:
    start = _HEAD.size + PIN_BYTES + SECRET_BYTES
    pin, secret = body[_HEAD.size : _HEAD.size + PIN_BYTES], body[_HEAD.size + PIN_BYTES : start]
    try:
        namespace, name, *addresses = _chunks(body[start:])
    except ValueError:
        raise TokenDamaged(f"the join token was made by a program that is not Isthmus: {_NEW}") from None
    token = Token(namespace, name, tuple(addresses), pin, secret)
    if fault := _fault(token):
        raise TokenDamaged(f"the join token makes no sense: {fault}; {_NEW}")
    return token


def _fault(token: Token) -> str:
    """What is wrong with a token's parts; empty when nothing is."""
    if len(token.pin) != PIN_BYTES or len(token.secret) != SECRET_BYTES:
        return f"its pin and secret must have {PIN_BYTES} and {SECRET_BYTES} bytes"
    if not _NAME.fullmatch(token.namespace) or not _NAME.fullmatch(token.name):
        return "its namespace and name must be lower-case Kubernetes names"
    if not 0 < len(token.addresses) <= MAX_ADDRESSES:
        return f"it must hold 1 to {MAX_ADDRESSES} addresses of the control plane"
    for address in token.addresses:
        try:
            split_address(address)
        except ValueError as error:
            return str(error)
    return ""


def _foreign(clean: str) -> str:
    if re.match(r"isthmus\d+\.", clean):
        return "the join token was made by another version of Isthmus: install that version here as well"
    if PREFIX in clean:
        return "something stands before 'isthmus1.': give the token alone, without what was around it"
    return f"this is not an Isthmus join token (it would start with 'isthmus1.'): {_NEW}"


def _chunk(text: str) -> bytes:
    raw = text.encode()
    return _HEAD.pack(len(raw)) + raw


def _chunks(body: bytes) -> list[str]:
    found = []
    while body:
        if len(body) < _HEAD.size:
            raise ValueError("cut inside a length")
        (length,) = _HEAD.unpack_from(body)
        chunk, body = body[_HEAD.size : _HEAD.size + length], body[_HEAD.size + length :]
        if len(chunk) != length:
            raise ValueError("cut inside a part")
        found.append(chunk.decode())
    return found


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(PREFIX.encode() + body).digest()[:_CHECKSUM_BYTES]


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(encoded: str) -> bytes:
    # a text cut after one character of a group of four has no bytes for it: drop it, the length tells
    whole = encoded[:-1] if len(encoded) % 4 == 1 else encoded
    try:
        return base64.urlsafe_b64decode(whole + "=" * (-len(whole) % 4))
    except binascii.Error:  # pragma: no cover - the alphabet was checked above
        return b""

"""A nonce and a new key, signed with the old key: proof that it is still held, this once, for this alone."""

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding

from isthmus.identity import keys

_CONTEXT = b"isthmus late renewal v1\0"


def challenge(nonce: bytes, new_key: keys.PublicKey) -> bytes:
    """What the old key signs: for this purpose alone, for this once, for this new key."""
    return _CONTEXT + len(nonce).to_bytes(2, "big") + nonce + keys.public_key_der(new_key)


def signed(key: keys.PrivateKey, data: bytes) -> bytes:
    """The signature that `LateRequest` carries."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(hashes.SHA256()))
    return key.sign(data, padding.PKCS1v15(), hashes.SHA256())

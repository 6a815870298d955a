"""A stranger's signing request -> the public key in it, or a refusal in words.

Nothing but the key is taken: names, extensions and validity in the request are claims that nobody
checked. Size comes first, parsing after, the signature last, so that nothing costs much before it is cheap
to refuse.
"""

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from isthmus.identity.keys import PublicKey

MAX_BYTES = 16 * 1024
RSA_BITS = range(2048, 4097)


class RequestRefused(ValueError):
    """The signing request is none that we sign; the message tells why."""


def requested_key(pem: str) -> PublicKey:
    """The public key of a signing request whose sender holds the private key; else RequestRefused."""
    if len(pem) > MAX_BYTES:
        raise RequestRefused(f"the signing request has {len(pem)} characters, at most {MAX_BYTES} are read")
    try:
        request = x509.load_pem_x509_csr(pem.encode("ascii"))
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        raise RequestRefused("the signing request is not a PEM 'CERTIFICATE REQUEST'") from None
    acceptable = accepted(key)
    try:
        proven = request.is_signature_valid
    except (ValueError, InvalidSignature, UnsupportedAlgorithm):
        proven = False
    if not proven:
        raise RequestRefused("the signing request's signature does not fit its key")
    return acceptable


def accepted(key: object) -> PublicKey:
    """The key itself when it is of a kind and size that we sign; else RequestRefused."""
    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, ec.SECP256R1):
            raise RequestRefused(f"the key is on the curve {key.curve.name}, expected P-256 (secp256r1)")
        return key
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size not in RSA_BITS:
            raise RequestRefused(f"the RSA key has {key.key_size} bits, expected 2048 to 4096")
        if key.public_numbers().e != 65537:
            raise RequestRefused("the RSA key's exponent is not 65537")
        return key
    raise RequestRefused("the key is neither P-256 nor RSA")

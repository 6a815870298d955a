"""PEM texts -> what is wrong with them, before a proxy is asked to use them."""

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

_REVOKED = b"-----BEGIN X509 CRL-----"


def pair_fault(chain: bytes, key: bytes) -> str:
    """What is wrong with a certificate chain and its key; empty when they belong together."""
    try:
        certificates = x509.load_pem_x509_certificates(chain)
    except (ValueError, UnsupportedAlgorithm) as error:
        return f"the certificate cannot be read: {error}"
    try:
        private = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        return f"the key cannot be read: {error}"
    try:
        same = _spki(certificates[0].public_key()) == _spki(private.public_key())
    except (ValueError, UnsupportedAlgorithm) as error:
        return f"the certificate cannot be read: {error}"
    return "" if same else "the key is not the certificate's"


def roots_fault(certificates: bytes) -> str:
    """What is wrong with certificates that are to be trusted; empty when they can be read."""
    try:
        x509.load_pem_x509_certificates(certificates)
    except ValueError as error:
        return f"the certificates cannot be read: {error}"
    return ""


def revocations_fault(lists: bytes) -> str:
    """What is wrong with lists of revoked certificates (RFC 5280 §5); empty when each can be read."""
    _, *found = lists.split(_REVOKED)
    if not found:
        return "the list of revoked certificates cannot be read: it holds no X509 CRL"
    for text in found:
        try:
            x509.load_pem_x509_crl(_REVOKED + text)
        except ValueError as error:
            return f"the list of revoked certificates cannot be read: {error}"
    return ""


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

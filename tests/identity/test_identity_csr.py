import base64
import contextlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from isthmus.identity import keys
from isthmus.identity.csr import RequestRefused, requested_key


def test_the_key_is_taken_and_nothing_else() -> None:
    key = keys.new_key()
    assert requested_key(keys.request_pem(key)) == key.public_key()
    other = rsa.generate_private_key(65537, 2048)
    assert requested_key(keys.request_pem(other)) == other.public_key()


def _rsa(p: int, q: int, e: int = 65537) -> rsa.RSAPrivateKey:
    d = pow(e, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(e, p * q)
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public)
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


@pytest.mark.parametrize("bits", [1024, 10210])
def test_an_rsa_key_of_another_size_is_refused_before_it_costs_anything(bits: int) -> None:
    # the long one is a product of two Mersenne primes, so that the test need not search for primes
    key = rsa.generate_private_key(65537, 1024) if bits == 1024 else _rsa(2**9689 - 1, 2**521 - 1)
    with pytest.raises(RequestRefused, match=f"{bits} bits"):
        requested_key(keys.request_pem(key))


def test_an_odd_rsa_exponent_is_refused() -> None:
    key = rsa.generate_private_key(3, 2048)
    with pytest.raises(RequestRefused, match="exponent"):
        requested_key(keys.request_pem(key))


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1(), ec.SECP256K1()])
def test_another_curve_is_refused(curve: ec.EllipticCurve) -> None:
    with pytest.raises(RequestRefused, match=f"{curve.name}, expected P-256"):
        requested_key(keys.request_pem(ec.generate_private_key(curve)))


def test_another_kind_of_key_is_refused() -> None:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    pem = request.sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(Encoding.PEM)
    with pytest.raises(RequestRefused, match="neither P-256 nor RSA"):
        requested_key(pem.decode())


def test_a_swapped_key_is_refused() -> None:
    mine, theirs = keys.new_key(), keys.new_key()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    der = request.sign(mine, hashes.SHA256()).public_bytes(Encoding.DER)
    swapped = der.replace(keys.public_key_der(mine.public_key()), keys.public_key_der(theirs.public_key()))
    assert swapped != der
    body = base64.encodebytes(swapped).decode()
    with pytest.raises(RequestRefused, match="signature does not fit"):
        requested_key(f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n")


def test_an_oversized_request_is_refused_unread() -> None:
    with pytest.raises(RequestRefused, match="1000000 characters"):
        requested_key("x" * 1_000_000)


@pytest.mark.parametrize("text", ["", "hello", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n", "ä"])
def test_what_is_no_request_is_refused(text: str) -> None:
    with pytest.raises(RequestRefused, match="not a PEM"):
        requested_key(text)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_altered_byte_brings_another_key_in(place: int, flip: int) -> None:
    key = keys.new_key()
    der = bytearray(x509.load_pem_x509_csr(keys.request_pem(key).encode()).public_bytes(Encoding.DER))
    der[place % len(der)] ^= flip
    body = base64.encodebytes(bytes(der)).decode()
    # padding bits of the signature have more than one spelling, so a few alterations are none
    with contextlib.suppress(RequestRefused):
        assert _requested(body) == key.public_key()


def _requested(body: str) -> keys.PublicKey:
    return requested_key(f"-----BEGIN CERTIFICATE REQUEST-----\n{body}-----END CERTIFICATE REQUEST-----\n")

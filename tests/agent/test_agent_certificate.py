"""Times and key of a certificate, as the library that reads all of it reads them; damage is told."""

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from isthmus.agent.certificate import Certificate
from isthmus.identity import keys
from isthmus.identity.ca import Authority
from standing_clock import Clock

NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x" * 60)])
KEYS: list[keys.PrivateKey] = [ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)]


def made(begins: datetime, life: timedelta, key: keys.PrivateKey) -> x509.Certificate:
    builder = x509.CertificateBuilder().subject_name(NAME).issuer_name(NAME).serial_number(2**150)
    builder = builder.public_key(key.public_key()).not_valid_before(begins).not_valid_after(begins + life)
    return builder.sign(key, hashes.SHA256())


@pytest.mark.parametrize("year", [1951, 1999, 2000, 2026, 2049, 2050, 2199])
@pytest.mark.parametrize("key", KEYS)
def test_times_and_keys_of_all_ages(year: int, key: keys.PrivateKey) -> None:
    leaf = made(datetime(year, 2, 3, 4, 5, 6, tzinfo=UTC), timedelta(days=300), key)
    read = Certificate.of(leaf.public_bytes(Encoding.DER))
    assert (read.begins, read.ends) == (leaf.not_valid_before_utc, leaf.not_valid_after_utc)
    assert read.public_key == keys.public_key_der(key.public_key())


def test_the_first_of_a_chain_counts(authority: Authority, clock: Clock) -> None:
    leaf = made(clock(), timedelta(hours=1), KEYS[0])
    chain = keys.certificate_pem(leaf) + authority.roots
    assert Certificate.first(chain.encode()).ends == leaf.not_valid_after_utc
    assert Certificate.first(b"words before\n" + chain.encode()).begins == leaf.not_valid_before_utc


@pytest.mark.parametrize(
    "text", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"]
)
def test_what_is_none(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Certificate.first(text)


DER = made(datetime(2026, 1, 1, tzinfo=UTC), timedelta(days=1), KEYS[0]).public_bytes(Encoding.DER)


@settings(max_examples=300)
@given(st.integers(0, len(DER) - 1), st.integers(0, 255), st.integers(0, len(DER)))
def test_damage_is_told_as_such(at: int, value: int, length: int) -> None:
    damaged = (DER[:at] + bytes([value]) + DER[at + 1 :])[:length]
    with contextlib.suppress(ValueError):
        Certificate.of(damaged)


def test_other_kinds_of_keys_are_read_too() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    builder = x509.CertificateBuilder().subject_name(NAME).issuer_name(NAME).serial_number(1)
    began = datetime(2026, 1, 1, tzinfo=UTC)
    builder = builder.public_key(key.public_key()).not_valid_before(began)
    leaf = builder.not_valid_after(began + timedelta(1)).sign(key, None)
    assert len(Certificate.of(leaf.public_bytes(Encoding.DER)).public_key) == 44

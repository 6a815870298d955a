"""A certificate -> what the agent needs of it all the time: how long it lives, and whose key it holds.

Read by hand from DER (X.690, RFC 5280 section 4.1): the library that could read the rest takes 10 MB.

    SEQ { SEQ { [0] version?, serial, algorithm, issuer, SEQ { begins, ends }, subject, key, … } … }
"""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

_SEQUENCE, _VERSION = 0x30, 0xA0
_TIMES = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}
_END = "-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Certificate:
    """The times of a certificate, and its public key as SubjectPublicKeyInfo (DER)."""

    begins: datetime
    ends: datetime
    public_key: bytes

    @classmethod
    def first(cls, pem: bytes) -> Self:
        """The first certificate of a chain in PEM; ValueError when there is none."""
        block, end, _ = pem.decode("ascii", "replace").partition(_END)
        return cls.of(ssl.PEM_cert_to_DER_cert(block[block.find("-----BEGIN ") :] + end))

    @classmethod
    def of(cls, der: bytes) -> Self:
        """The certificate in DER; ValueError for anything else."""
        # too few of anything is a ValueError of Python's own
        signed, *_ = _contents(der)
        fields = [each for each in _contents(signed) if each[0] != _VERSION]
        _, _, _, validity, _, public_key, *_ = fields
        begins, ends = map(_time, _contents(validity))
        return cls(begins, ends, public_key)


def _contents(der: bytes) -> list[bytes]:
    """The values in a SEQUENCE, each with its tag and length."""
    if not der or der[0] != _SEQUENCE:
        raise ValueError("this is no certificate")
    at, end = _content(der, 0)
    found = []
    while at < end:
        _, after = _content(der, at)
        found.append(der[at:after])
        at = after
    return found


def _content(der: bytes, at: int) -> tuple[int, int]:
    """Where the content of the value at this place begins and ends."""
    try:
        length, begins = der[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            begins += count
            length = int.from_bytes(der[at + 2 : begins], "big")
    except IndexError:
        raise ValueError("the certificate is cut short") from None
    if begins + length > len(der):
        raise ValueError("the certificate is cut short")
    return begins, begins + length


def _time(der: bytes) -> datetime:
    if der[0] not in _TIMES:
        raise ValueError("the certificate has no such time as RFC 5280 asks for")
    begins, ends = _content(der, 0)
    found = datetime.strptime(der[begins:ends].decode("ascii", "replace"), _TIMES[der[0]])
    # of two-digit years, 50 to 99 are of the last century
    if der[0] == 0x17 and found.year >= 2050:
        found = found.replace(year=found.year - 100)
    return found.replace(tzinfo=UTC)

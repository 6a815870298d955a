"""A stream of bytes and a passphrase -> a stream that only those who know it can read, and nobody can alter.

key      scrypt (N 2^17, r 8, p 1) of the passphrase and a random salt
chunks   of 64 KiB, each with ChaCha20-Poly1305; the nonce is the chunk's number and whether it is the last
         (the STREAM construction: https://eprint.iacr.org/2015/189), so that none can be moved or left out
"""

import os
from typing import IO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

CHUNK = 1 << 16
_TAG = 16
_SALT = 16


class Unsealable(ValueError):
    """The stream cannot be opened: another passphrase, or it was altered or cut off."""


class Sealing:
    """Writes into `out`; `close` writes the end, without which nothing can be opened."""

    def __init__(self, out: IO[bytes], passphrase: str) -> None:
        salt = os.urandom(_SALT)
        out.write(salt)
        self._out, self._cipher = out, _cipher(passphrase, salt)
        self._number, self._waiting = 0, bytearray()

    def write(self, data: bytes) -> int:
        """Takes more bytes."""
        self._waiting += data
        while len(self._waiting) > CHUNK:
            self._chunk(bytes(self._waiting[:CHUNK]), last=False)
            del self._waiting[:CHUNK]
        return len(data)

    def close(self) -> None:
        """Writes what is left, and that it is the end."""
        self._chunk(bytes(self._waiting), last=True)

    def _chunk(self, data: bytes, *, last: bool) -> None:
        self._out.write(self._cipher.encrypt(_nonce(self._number, last=last), data, None))
        self._number += 1


class Unsealing:
    """Reads what `Sealing` wrote; Unsealable at the first chunk that is not as it was written."""

    def __init__(self, source: IO[bytes], passphrase: str) -> None:
        self._source, self._cipher = source, _cipher(passphrase, source.read(_SALT))
        self._number, self._next, self._ready = 0, source.read(CHUNK + _TAG), b""

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes, all by default; none at the end."""
        while (size < 0 or len(self._ready) < size) and self._next:
            sealed, self._next = self._next, self._source.read(CHUNK + _TAG)
            try:
                self._ready += self._cipher.decrypt(_nonce(self._number, last=not self._next), sealed, None)
            except InvalidTag:
                text = "another passphrase, or it is damaged" if self._number == 0 else "it is damaged"
                raise Unsealable(text) from None
            self._number += 1
        if self._number == 0:
            raise Unsealable("it is cut off")
        size = len(self._ready) if size < 0 else size
        found, self._ready = self._ready[:size], self._ready[size:]
        return found


def _cipher(passphrase: str, salt: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(Scrypt(salt=salt, length=32, n=1 << 17, r=8, p=1).derive(passphrase.encode()))


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from isthmus.identity import keys


def test_a_key_comes_back_from_disk_with_its_mode(tmp_path: Path) -> None:
    key, path = keys.new_key(), tmp_path / "key.pem"
    keys.write_durably(path, keys.key_pem(key), 0o600)
    assert path.stat().st_mode & 0o777 == 0o600
    assert keys.load_key(path).public_key() == key.public_key()


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    keys.write_durably(path, keys.key_pem(keys.new_key()), 0o640)
    with pytest.raises(ValueError, match=r"mode 0640\): chmod 600"):
        keys.load_key(path)


def test_what_is_no_key_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    keys.write_durably(path, b"nonsense", 0o600)
    with pytest.raises(ValueError, match="no unencrypted PEM private key"):
        keys.load_key(path)
    other = ed25519.Ed25519PrivateKey.generate()
    keys.write_durably(path, other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    with pytest.raises(ValueError, match="expected an EC or RSA key"):
        keys.load_key(path)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key.pem"
    keys.write_durably(path, b"old", 0o600)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        keys.write_durably(path, b"new", 0o600)
    assert [entry.name for entry in tmp_path.iterdir()] == ["key.pem"]
    assert path.read_bytes() == b"old"


def test_a_text_without_certificates_is_refused() -> None:
    with pytest.raises(ValueError, match="no PEM certificate"):
        keys.certificates("hello")

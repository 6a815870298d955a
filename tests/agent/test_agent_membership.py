"""What a VM keeps about itself, renewed and interrupted."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from isthmus.agent import durable, keywork, membership, renewal
from isthmus.agent.certificate import Certificate
from isthmus.agent.membership import Credentials, Membership
from isthmus.agent.paths import Paths
from isthmus.identity import keys
from isthmus.identity.ca import Authority
from isthmus.identity.spiffe import SpiffeId

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ID = SpiffeId("cluster.local", "vm", "mysqldb")
MEMBER = Membership("vm", "mysqldb-10.0.0.7", str(ID), "10.0.0.7", ("10.0.0.1:15012",), "vm/t")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(state=tmp_path)


def issued(tmp_path: Path, *, ttl_s: float = 60) -> Credentials:
    authority = Authority.open(tmp_path / "ca", "cluster.local", lambda: NOW)
    key = keys.new_key()
    signed = authority.sign(key.public_key(), ID, common_name="x", ttl=timedelta(seconds=ttl_s))
    return Credentials(keys.key_pem(key), signed.chain.encode(), authority.roots.encode())


def test_a_membership_comes_back_from_disk_with_its_orders(paths: Paths) -> None:
    assert Membership.load(paths) is None
    member = MEMBER.with_host("v1", b"\0\xff")
    member.save(paths)
    assert Membership.load(paths) == member
    assert oct(paths.agent.stat().st_mode)[-3:] == "600"


def test_credentials_are_all_old_or_all_new_after_a_crash(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = Credentials(b"k1", b"c1", b"r1"), Credentials(b"k2", b"c2", b"r2")
    old.save(paths)
    write, left = durable.write, 0

    def write_some(path: Path, data: bytes, mode: int = 0o600) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        write(path, data, mode)

    for written in range(5):
        old.save(paths)
        with monkeypatch.context() as broken:
            left = written
            broken.setattr(durable, "write", write_some)
            if written < 4:
                with pytest.raises(KeyboardInterrupt):
                    new.save(paths)
            else:
                new.save(paths)
        assert Credentials.load(paths) == (new if written else old)
    assert not (paths.state / "next-credentials.json").exists()
    assert "k2" not in repr(new)


def test_a_key_waits_for_its_certificate(paths: Paths) -> None:
    assert membership.saved_key(paths) is None
    membership.save_key(paths, b"k")
    assert membership.saved_key(paths) == b"k"


@pytest.mark.parametrize(("chance", "expected_s"), [(0.0, 33), (0.5, 30), (1.0, 27)])
def test_renewal_is_due_at_half_the_life_give_or_take(
    tmp_path: Path, chance: float, expected_s: float
) -> None:
    leaf = Certificate.first(issued(tmp_path).chain)
    assert renewal.renew_in_s(leaf, NOW, lambda: chance) == pytest.approx(expected_s, abs=1.5)
    assert renewal.renew_in_s(leaf, NOW + timedelta(days=1), lambda: chance) == 0


def test_a_certificate_for_somebody_else_is_not_taken(tmp_path: Path) -> None:
    good = issued(tmp_path)
    keywork.check(good, str(ID))
    with pytest.raises(ValueError, match="sa/other"):
        keywork.check(good, "spiffe://cluster.local/ns/vm/sa/other")
    with pytest.raises(ValueError, match="another key"):
        keywork.check(replace(good, key=keys.key_pem(keys.new_key())), str(ID))
    with pytest.raises(ValueError, match="PEM"):
        keywork.check(replace(good, roots=b""), str(ID))
    with pytest.raises(ValueError, match="PEM file"):
        keywork.check(replace(good, key=b"\0"), str(ID))

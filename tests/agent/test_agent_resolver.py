"""resolv.conf with the stub in front, and back."""

from pathlib import Path

import pytest

from isthmus.agent import resolver
from isthmus.agent.journal import Journal
from isthmus.agent.paths import Paths

TEXT = """\
# theirs
nameserver 10.0.0.2
search corp.example example.net.
nameserver fe80::1%eth0
options edns0 rotate
"""


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "state", tmp_path / "run", tmp_path / "resolv.conf", tmp_path / "units")


@pytest.fixture
def record(paths: Paths) -> Journal:
    return Journal.begin(paths, mark="m", token_id="t")


def test_servers_and_search_are_read_as_libc_does() -> None:
    assert resolver.parse(TEXT) == resolver.Resolver(
        ("10.0.0.2", "fe80::1%eth0"), ("corp.example", "example.net")
    )
    assert resolver.parse("").servers == ("127.0.0.1",)


def test_the_stub_comes_first_and_the_rest_stays() -> None:
    text = resolver.with_stub(TEXT)
    assert "nameserver 127.0.73.53" in text.splitlines()[1]
    assert text.endswith(
        "nameserver 10.0.0.2\nsearch corp.example example.net.\nnameserver fe80::1%eth0\noptions edns0\n"
    )
    assert resolver.parse(text) == resolver.parse(TEXT)


def test_install_twice_changes_nothing_more_and_uninstall_restores(paths: Paths, record: Journal) -> None:
    paths.resolv_conf.write_text(TEXT)
    first = resolver.install(record, paths)
    written = paths.resolv_conf.stat().st_mtime_ns
    assert resolver.install(record, paths) == first == resolver.parse(TEXT)
    assert paths.resolv_conf.stat().st_mtime_ns == written
    assert resolver.stands(paths)
    resolver.uninstall(record, paths)
    assert paths.resolv_conf.read_text() == TEXT
    assert record.changes == ()


def test_a_file_that_a_dhcp_client_rewrote_gets_the_stub_again(paths: Paths, record: Journal) -> None:
    paths.resolv_conf.write_text(TEXT)
    resolver.install(record, paths)
    paths.resolv_conf.write_text("nameserver 10.9.9.9\n")
    assert not resolver.stands(paths)
    assert resolver.install(record, paths).servers == ("10.9.9.9",)
    assert resolver.stands(paths)
    resolver.uninstall(record, paths)
    assert paths.resolv_conf.read_text() == "nameserver 10.9.9.9\n"


def test_a_link_is_replaced_and_comes_back(paths: Paths, record: Journal, tmp_path: Path) -> None:
    (tmp_path / "other.conf").write_text("nameserver 10.0.0.5\n")
    paths.resolv_conf.symlink_to("other.conf")
    assert resolver.install(record, paths).servers == ("10.0.0.5",)
    assert resolver.install(record, paths).servers == ("10.0.0.5",)
    assert not paths.resolv_conf.is_symlink()
    assert (tmp_path / "other.conf").read_text() == "nameserver 10.0.0.5\n"
    resolver.uninstall(record, paths)
    assert paths.resolv_conf.readlink() == Path("other.conf")


def test_no_file_at_all_is_no_hindrance(paths: Paths, record: Journal) -> None:
    assert resolver.install(record, paths).servers == ("127.0.0.1",)
    resolver.uninstall(record, paths)
    assert not paths.resolv_conf.exists()

"""What a machine lacks for a lab is said with its cure; commands get a clean environment."""

from pathlib import Path

import pytest

from isthmus.lab import namespaces


def test_without_a_subordinate_id_range_the_cure_is_told(tmp_path: Path) -> None:
    table = tmp_path / "subuid"
    table.write_text("somebody-else:100000:65536\n")
    lacking = namespaces.preflight(root=False, subids=[str(table)])
    assert any("usermod --add-subuids" in line and "as root" in line for line in lacking)


def test_missing_tools_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "SYSTEM_PATH", "/nowhere")
    lacking = namespaces.preflight(root=True)
    assert "nft is missing: install the package nftables" in lacking
    assert "ip is missing: install the package iproute2" in lacking


def test_the_cgroup_namespace_is_never_asked_for() -> None:
    for rootless in (True, False):
        argv = namespaces.enter(7, rootless=rootless)
        assert not {"-a", "--all", "--cgroup"} & set(argv)
        assert ("--user" in argv) is rootless


def test_commands_inherit_nothing_but_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy")
    monkeypatch.setenv("TERM", "vt100")
    made = namespaces.environment("/opt/venv/bin/python", {"A": "b"})
    assert made.pop("PATH").startswith("/opt/venv/bin:")
    assert made == {"HOME": "/root", "LANG": "C.UTF-8", "TERM": "vt100", "A": "b"}

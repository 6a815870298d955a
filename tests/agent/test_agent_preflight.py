"""What preflight asks of a VM before anything is changed."""

import grp
import pwd
from types import SimpleNamespace

import pytest

from isthmus.agent import capture, preflight


def test_the_id_of_envoy_must_not_belong_to_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwd, "getpwuid", lambda number: SimpleNamespace(pw_name="alice"))
    monkeypatch.setattr(grp, "getgrgid", lambda number: SimpleNamespace(gr_name="envoy"))
    assert list(preflight._named(1337)) == [("user", "alice")]
    monkeypatch.setattr(grp, "getgrgid", lambda number: SimpleNamespace(gr_name="staff"))
    assert list(preflight._named(1337)) == [("user", "alice"), ("group", "staff")]


def test_an_id_without_a_name_is_free() -> None:
    assert list(preflight._named(2_000_000_011)) == []


def test_only_the_ports_of_envoy_have_to_be_free() -> None:
    assert preflight._ENVOY_PORTS == (capture.OUTBOUND_PORT, capture.INBOUND_PORT)

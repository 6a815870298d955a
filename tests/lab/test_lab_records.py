"""Records of labs: found while they stand, cleaned up when they do not."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from isthmus.lab import records
from isthmus.lab.processes import ProcessId, process_id
from isthmus.lab.records import HostRecord, LabError, LabRecord


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ISTHMUS_LAB_DIR", str(tmp_path / "labs"))
    return tmp_path / "labs"


def record(name: str) -> LabRecord:
    me = process_id(os.getpid())
    host = HostRecord("vm1", me, "port0-10", "10.99.0.10", None)
    return LabRecord(name, me, me, False, {"vm1": host}, {"ISTHMUS_KUBECONFIG": "/k"})


def test_what_is_saved_is_found(home: Path) -> None:
    records.save(record("one"))
    assert records.running() == (record("one"),)
    assert records.choose(None) == record("one")
    assert (home / "one").stat().st_mode & 0o777 == 0o700


def test_a_reused_pid_does_not_bring_a_lab_back_to_life(home: Path) -> None:
    stale = replace(record("old"), leader=ProcessId(os.getpid(), started=1))
    records.save(stale)
    assert records.running() == ()
    assert not home.exists()


def test_a_damaged_record_is_no_lab() -> None:
    records.save(record("one"))
    (records.lab_directory("one") / "record.json").write_text('{"name": "one"')
    assert records.running() == ()


def test_with_several_labs_one_must_be_named() -> None:
    records.save(record("one"))
    records.save(record("two"))
    with pytest.raises(LabError, match="2 labs are running; say which with --name: one, two"):
        records.choose(None)
    assert records.choose("two").name == "two"


def test_a_lab_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(LabError, match="start one with `isthmus lab up`"):
        records.choose(None)
    records.save(record("one"))
    with pytest.raises(LabError, match=r"no lab named 'x' is running \(running: one\)"):
        records.choose("x")

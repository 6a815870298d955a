"""The journal and the changes in it: a crash at any point leaves something that undo puts right."""

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from isthmus.agent import changes, journal
from isthmus.agent.changes import Directory, EditedFile, ReplacedLink
from isthmus.agent.journal import Journal
from isthmus.agent.paths import Paths

ORIGINAL = "nameserver 9.9.9.9\n"
OURS = "# MARK\nnameserver 127.0.73.53 # MARK\nnameserver 9.9.9.9\n"


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    (tmp_path / "var").mkdir()
    return Paths(
        tmp_path / "var/isthmus", tmp_path / "run/isthmus", tmp_path / "resolv.conf", tmp_path / "units"
    )


@pytest.fixture
def record(paths: Paths) -> Journal:
    return Journal.begin(paths, mark="m", token_id="vm/t")


@pytest.fixture
def file(paths: Paths) -> Path:
    paths.resolv_conf.write_text(ORIGINAL)
    paths.resolv_conf.chmod(0o640)
    os.utime(paths.resolv_conf, ns=(1_000_000_123, 2_000_000_456))
    return paths.resolv_conf


def edit(file: Path) -> EditedFile:
    return EditedFile.of(file, OURS.encode(), marker="MARK")


def test_what_was_recorded_is_there_for_the_next_process(paths: Paths, record: Journal, file: Path) -> None:
    record.record(edit(file))
    record.close()
    again = Journal.load(paths)
    assert again is not None
    assert again.changes == (edit(file),)
    assert (again.mark, again.token_id, again.joined) == ("m", "vm/t", False)


def test_a_second_process_is_told_that_the_journal_is_held(paths: Paths, record: Journal) -> None:
    with pytest.raises(journal.Busy):
        Journal.load(paths)
    record.close()
    assert Journal.load(paths) is not None


def test_a_file_comes_back_with_content_mode_times_and_inode(record: Journal, file: Path) -> None:
    before = file.stat()
    change = edit(file)
    record.record(change)
    change.apply()
    assert file.read_text() == OURS
    record.undo()
    after = file.stat()
    assert file.read_text() == ORIGINAL
    assert (after.st_mtime_ns, stat.S_IMODE(after.st_mode), after.st_ino) == (
        before.st_mtime_ns,
        0o640,
        before.st_ino,
    )


@pytest.mark.parametrize(
    "left",
    [ORIGINAL, OURS, OURS[:10], ORIGINAL + OURS[len(ORIGINAL) :], ""],
    ids=["not begun", "done", "cut while writing", "cut while restoring", "emptied"],
)
def test_undo_puts_right_what_a_crash_leaves(record: Journal, file: Path, left: str) -> None:
    change = edit(file)
    record.record(change)
    file.write_text(left)
    for _ in range(2):
        change.undo()
        assert file.read_text() == ORIGINAL
        assert file.stat().st_mtime_ns == 2_000_000_456


def test_a_file_that_somebody_else_wrote_since_loses_only_our_lines(file: Path) -> None:
    change = edit(file)
    change.apply()
    file.write_text("# MARK\nnameserver 127.0.73.53 # MARK\nnameserver 8.8.8.8\n")
    change.undo()
    assert file.read_text() == "nameserver 8.8.8.8\n"
    file.write_text("nameserver 1.1.1.1\n")
    change.undo()
    assert file.read_text() == "nameserver 1.1.1.1\n"


def test_a_file_that_was_not_there_is_gone_again(record: Journal, paths: Paths) -> None:
    change = edit(paths.resolv_conf)
    record.record(change)
    change.apply()
    record.undo()
    assert not paths.resolv_conf.exists()


def test_a_link_is_a_link_again(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.symlink_to("../run/stub.conf")
    change = ReplacedLink(str(path), os.readlink(path), "MARK")
    path.unlink()
    path.write_text(OURS)
    for _ in range(2):
        change.undo()
        assert os.readlink(path) == "../run/stub.conf"


def test_a_directory_that_was_there_keeps_what_was_in_it(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("x")
    tmp_path.chmod(0o711)
    change = Directory.of(tmp_path)
    tmp_path.chmod(0o700)
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours/file").write_text("y")
    change.undo()
    assert os.listdir(tmp_path) == ["theirs"]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o711


def test_changes_survive_json(file: Path) -> None:
    every = (edit(file), Directory("/x", ("a",)), changes.NftTable("t"), changes.Processes("m"))
    for change in every:
        assert changes.decode(json.loads(json.dumps(changes.encode(change)))) == change


def test_changes_are_undone_newest_first_and_struck_out(record: Journal, file: Path) -> None:
    first = edit(file)
    first.apply()
    second = replace(EditedFile.of(file, b"third MARK\n", marker="MARK"))
    record.record(first)
    record.record(second)
    second.apply()
    record.undo()
    assert file.read_text() == ORIGINAL
    assert record.changes == ()


def test_one_change_that_cannot_be_undone_does_not_stop_the_others(record: Journal, file: Path) -> None:
    change = edit(file)
    record.record(change)
    change.apply()
    stuck = Directory("/proc/self", None)
    record.record(stuck)
    with pytest.raises(changes.CannotUndo, match="Directory"):
        record.undo()
    assert file.read_text() == ORIGINAL
    assert record.changes == (stuck,)


def test_nothing_is_left_after_remove(paths: Paths, record: Journal) -> None:
    (paths.state / "key.pem").write_text("k")
    record.remove()
    assert os.listdir(paths.state.parent) == []


def test_a_state_directory_of_somebody_else_stays(paths: Paths) -> None:
    paths.state.mkdir(mode=0o755)
    (paths.state / "theirs").write_text("x")
    record = Journal.begin(paths, mark="m", token_id="t")
    (paths.state / "key.pem").write_text("k")
    assert stat.S_IMODE(paths.state.stat().st_mode) == 0o700
    record.remove()
    assert os.listdir(paths.state) == ["theirs"]
    assert stat.S_IMODE(paths.state.stat().st_mode) == 0o755


def test_crumbs_of_a_crash_before_the_first_and_after_the_last_entry_are_swept(paths: Paths) -> None:
    (paths.state.parent / ".isthmus.new").mkdir()
    (paths.state.parent / ".isthmus.new/journal.json").write_text("{}")
    journal.sweep(paths)
    assert os.listdir(paths.state.parent) == []


def test_a_damaged_journal_is_told_and_kept(paths: Paths, record: Journal) -> None:
    record.close()
    paths.journal.write_text("{")
    with pytest.raises(journal.JournalDamaged, match="damaged"):
        Journal.load(paths)
    assert paths.journal.exists()

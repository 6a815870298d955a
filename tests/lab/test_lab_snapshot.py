"""Two states of a machine become the differences between them."""

from isthmus.lab import snapshot
from isthmus.lab.snapshot import Snapshot


def test_equal_states_have_no_differences() -> None:
    state = Snapshot({"nftables": "table inet x {\n}", "file /etc/hosts": "-rw-r--r-- 0:0 5 abc"})
    assert state.differences(Snapshot.parse(state.text())) == ()


def test_each_difference_says_what_was_and_what_is() -> None:
    before = Snapshot({"listening": "tcp A\ntcp B", "gone": "x", "same": "s"})
    after = Snapshot({"listening": "tcp B\ntcp C", "new": "y", "same": "s"})
    assert before.differences(after) == (
        "gone: gone, was: x",
        "listening: was tcp A, is tcp C",
        "new: new: y",
    )


def test_the_real_machine_does_not_change_by_being_looked_at() -> None:
    first = snapshot.machine()
    assert first.differences(snapshot.machine()) == ()
    assert "file /etc/resolv.conf" in first.facts

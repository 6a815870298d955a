"""DNS questions, as a real client library makes them, become answers from the lab's table."""

import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.lab.resolver import answer

NAMES = {"vm1": ("10.99.0.10", "fd99::10"), "six": ("fd99::11",)}


def ask(name: str, kind: str) -> dns.message.Message:
    query = dns.message.make_query(name, kind)
    reply = answer(query.to_wire(), NAMES)
    assert reply is not None
    message = dns.message.from_wire(reply)
    assert query.is_response(message)
    return message


@pytest.mark.parametrize("name", ["vm1", "vm1.lab", "VM1.Lab"])
def test_a_host_is_known_by_both_names_in_any_case(name: str) -> None:
    assert [rr.to_text() for rr in ask(name, "A").answer[0]] == ["10.99.0.10"]
    assert [rr.to_text() for rr in ask(name, "AAAA").answer[0]] == ["fd99::10"]


def test_a_family_that_the_host_lacks_is_no_data_rather_than_no_such_name() -> None:
    message = ask("six.lab", "A")
    assert (message.rcode(), message.answer) == (dns.rcode.NOERROR, [])


@pytest.mark.parametrize("name", ["nobody.lab", "vm1.example.org", "."])
def test_other_names_do_not_exist(name: str) -> None:
    assert ask(name, "A").rcode() == dns.rcode.NXDOMAIN


def test_a_response_is_not_answered() -> None:
    query = dns.message.make_query("vm1", "A")
    query.flags |= dns.flags.QR
    assert answer(query.to_wire(), NAMES) is None


@given(st.binary(max_size=80))
def test_no_bytes_upset_it(data: bytes) -> None:
    reply = answer(data, NAMES)
    assert reply is None or reply[:2] == data[:2]

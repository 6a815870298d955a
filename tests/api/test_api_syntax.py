"""The forms of names and addresses: one expression at a time says what their parts, or a library, say."""

import re
from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from isthmus.api.syntax import address, dns_label, dns_subdomain, fqdn, istio_label, wildcard_domain

PARTS = st.lists(
    st.sampled_from(["a", "Z9", "a-b", "-a", "a-", "_", "", "7", "-7", "a" * 63, "a" * 64, "é", "a\n"])
)
NUMBERS = st.lists(
    st.sampled_from(["0", "00", "01", "9", "10", "99", "100", "199", "249", "255", "256", "٣", ""])
)


@given(NUMBERS | st.lists(st.integers(0, 300).map(str), min_size=4, max_size=4))
@example(["1", "2", "3", "4\n"])
def test_an_address_is_what_the_library_takes(numbers: list[str]) -> None:
    text = ".".join(numbers)
    try:
        ip_address(text)
    except ValueError:
        assert address(text)
    else:
        assert not address(text)


@pytest.mark.parametrize("text", ["::1", "fe80::1%eth0", "::ffff:1.2.3.4", "2001:db8::"])
def test_an_address_of_the_newer_family_is_one(text: str) -> None:
    assert not address(text)


@given(PARTS)
def test_a_subdomain_is_made_of_labels(parts: list[str]) -> None:
    text = ".".join(parts)
    right = len(text) <= 253 and not any(map(dns_label, text.split(".")))
    assert right is not bool(dns_subdomain(text))


@given(PARTS)
def test_a_host_name_is_made_of_labels_and_no_number_is_last(parts: list[str]) -> None:
    text = ".".join(parts)
    *others, last = text.split(".")
    labels = [*others, last] if last or not others else others  # a dot may be at the end
    right = 0 < len(text) <= 255 and not any(map(istio_label, labels)) and not re.fullmatch("[0-9]+", last)
    assert right is not bool(fqdn(text))
    if right:
        assert not wildcard_domain(f"*.{text}") or len(text) > 253
        assert wildcard_domain(f"a.*.{text}")

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.identity import jointoken
from isthmus.identity.jointoken import TokenDamaged, hash_secret, mint, parse, secret_fits, split_address

PIN = bytes(range(32))
TEXT = mint(namespace="vms", name="mysql-7x2k", addresses=["10.1.0.2:15443", "[fd00::2]:15443"], pin=PIN).text


def test_a_token_comes_back_as_it_was_minted() -> None:
    minted = mint(namespace="vms", name="mysql", addresses=["cp.example.com:443"], pin=PIN)
    token = parse(minted.text)
    assert (token.id, token.addresses, token.pin) == ("vms/mysql", ("cp.example.com:443",), PIN)
    assert hash_secret(token.secret) == minted.secret_hash
    assert secret_fits(token.secret, minted.secret_hash)
    assert not secret_fits(bytes(32), minted.secret_hash)


def test_two_tokens_have_different_secrets() -> None:
    one, two = (mint(namespace="a", name="b", addresses=["h:1"], pin=PIN) for _ in range(2))
    assert one.secret_hash != two.secret_hash


def test_the_secret_shows_in_no_repr() -> None:
    minted = mint(namespace="vms", name="mysql", addresses=["h:1"], pin=PIN)
    token = parse(minted.text)
    assert minted.text not in repr(minted)
    assert repr(token.secret) not in repr(token)


@given(st.lists(st.tuples(st.integers(0, len(TEXT)), st.sampled_from(" \n\r\t\"'`\u200b\\")), max_size=20))
def test_white_space_and_quotes_do_no_harm(dirt: list[tuple[int, str]]) -> None:
    text = TEXT
    for place, what in dirt:
        text = text[:place] + what + text[place:]
    assert parse(text) == parse(TEXT)


@given(st.integers(0, len(TEXT) - 1))
def test_a_cut_token_is_refused(length: int) -> None:
    with pytest.raises(TokenDamaged):
        parse(TEXT[:length])


@pytest.mark.parametrize("length", [40, len(TEXT) // 2, len(TEXT) - 2, len(TEXT) - 1])
def test_a_cut_token_tells_how_long_it_should_be(length: int) -> None:
    with pytest.raises(TokenDamaged, match=f"has {length} characters and should have {len(TEXT)}"):
        parse(TEXT[:length])


def test_a_doubled_token_tells_that_it_is_too_long() -> None:
    with pytest.raises(TokenDamaged, match="too long"):
        parse(TEXT + TEXT[9:])


@given(st.integers(0, len(TEXT) - 1), st.sampled_from("abcXYZ019-_.!ä"))
def test_an_altered_character_is_refused(place: int, what: str) -> None:
    altered = TEXT[:place] + what + TEXT[place + 1 :]
    if altered != TEXT:
        with pytest.raises(TokenDamaged):
            parse(altered)


def test_every_single_bit_counts() -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for other in alphabet:  # the last character has unused bits that base64 would forgive
        if other != TEXT[-1]:
            with pytest.raises(TokenDamaged):
                parse(TEXT[:-1] + other)


@given(st.text())
def test_any_text_is_refused_in_words(text: str) -> None:
    with pytest.raises(TokenDamaged):
        parse(text)


@given(st.binary(max_size=300))
def test_any_payload_is_refused_in_words(payload: bytes) -> None:
    with pytest.raises(TokenDamaged):
        parse("isthmus1." + base64.urlsafe_b64encode(payload).decode())


@given(st.binary(max_size=300))
def test_a_forged_payload_with_a_right_checksum_is_refused_in_words(inside: bytes) -> None:
    body = (2 + len(inside) + 6).to_bytes(2, "big") + inside
    text = "isthmus1." + base64.urlsafe_b64encode(body + jointoken._checksum(body)).decode().rstrip("=")
    with pytest.raises(TokenDamaged):
        parse(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("eyJhbGciOiJSUzI1NiJ9.e30.x", "not an Isthmus join token"),
        ("isthmus2.AAAA", "another version"),
        ("token: " + TEXT, "stands before"),
        ("isthmus1.", "cut short"),
        ("isthmus1.A", "cut short"),
        ("isthmus1.AB CD!", "that no token has"),
    ],
)
def test_a_foreign_text_says_what_it_is(text: str, words: str) -> None:
    with pytest.raises(TokenDamaged, match=words):
        parse(text)


def test_no_error_repeats_the_token() -> None:
    for damaged in (TEXT[:-1], TEXT + "A", "x" + TEXT, TEXT[:60] + "!" + TEXT[61:]):
        with pytest.raises(TokenDamaged) as refused:
            parse(damaged)
        assert TEXT[20:40] not in str(refused.value)


@pytest.mark.parametrize(
    "address", ["h", "h:", ":1", "h:0", "h:65536", "h:1x", "fd00::1:80", "[h]:1", "a b:1"]
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ValueError, match="is not host:port"):
        split_address(address)
    with pytest.raises(ValueError, match="is not host:port"):
        mint(namespace="a", name="b", addresses=[address], pin=PIN)


def test_addresses_in_both_families() -> None:
    assert split_address("[fd00::2]:443") == ("fd00::2", 443)
    assert split_address("10.0.0.1:443") == ("10.0.0.1", 443)


@pytest.mark.parametrize(
    ("namespace", "name"), [("", "b"), ("a", ""), ("A", "b"), ("a/b", "c"), ("a", "../b")]
)
def test_names_that_are_none(namespace: str, name: str) -> None:
    with pytest.raises(ValueError, match="lower-case Kubernetes names"):
        mint(namespace=namespace, name=name, addresses=["h:1"], pin=PIN)


def test_a_token_without_addresses_is_not_made() -> None:
    with pytest.raises(ValueError, match="addresses"):
        mint(namespace="a", name="b", addresses=[], pin=PIN)

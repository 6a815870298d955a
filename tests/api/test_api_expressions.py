"""Expressions that Envoy takes are let through, those that RE2 refuses are not."""

import pytest

from isthmus.api.expressions import unusable


@pytest.mark.parametrize(
    "pattern",
    [
        ".*",
        "/[0-9]+/x{2,3}",
        "(?i)abc",
        "a(?i)b",
        "a(?i:b)c",
        "(?P<name>x)(?<other>y)",
        r"\pL+\p{Greek}\PN",
        r"(\Qa(b\E)?",
        r"[[:alpha:]]+[^[:^digit:]x]",
        r"\x{FF}\z\A\C",
        r"[\d\-+]+",
        "[*+?]+x",
        r"\++",
        "a{1000}",
        "(a{10}){100}",
        "(a{10}b{20}){50}",
        "x{,3}",
        "(?U)a+?",
        r"\bword\b",
        r"\p{Lu}\p{^Greek}[\pN_]",
        "(?P<n>a)|(?P<n>b)",
        r"[\d-z]",
        r"$|\z*|^*",
        r"[]a][^]a][a-]",
        r"\123\x41\_\-",
    ],
)
def test_usable(pattern: str) -> None:
    assert unusable(pattern) == ""


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "is empty"),
        ("a(?=b)", "no look-around"),
        ("a(?!b)", "no look-around"),
        ("(?<=a)b", "no look-around"),
        ("(?<!a)b", "no look-around"),
        (r"(a)\1", "no back references"),
        ("(?P<n>a)(?P=n)", "no look-around"),
        ("(?>a)", "no look-around"),
        ("a++", "possessively"),
        ("a{1001}", "at most 1000 times"),
        ("a{2,5000}", "at most 1000 times"),
        ("(a{100}){11}", "at most 1000 times"),
        ("((a{10}){11}b){10}", "at most 1000 times"),
        ("a{5,2}", "ends before it begins"),
        ("[", "not closed"),
        ("(a", "not closed"),
        ("a)", "closes nothing"),
        ("*a", "nothing before"),
        ("[z-a]", "ends before it begins"),
        ("a" * 70_000, "more than"),
        ("a\\", "ends with a backslash"),
        (r"\p{Xy", "no \\p"),
        (r"\p{L&}", "no \\p"),
        (r"\p{Nonsense}", "no class of characters"),
        (r"\pX", "no class of characters"),
        (r"[[:nope:]]", "no class of characters"),
        (r"\x{100}", "no character"),
        (r"\e\h\Z", "RE2 has no"),
        ("(?x)a", "no group"),
        ("(?P<é>a)", "no group"),
        (r"[a-\d]", "ends no range"),
        (r"[\b]", "RE2 has no"),
        ("a**", "repeats no repeat"),
    ],
)
def test_unusable(pattern: str, words: str) -> None:
    assert words in unusable(pattern)


def test_a_long_expression_is_judged_quickly() -> None:
    assert unusable("|".join(f"/p{i}(x{{3}})?" for i in range(4000))) == ""
    assert "nest" in unusable("(" * 5000 + "a" + ")" * 5000)

"""A regular expression -> why RE2 refuses it, as far as that can be told without RE2.

    next token ─▶ _escape, _group, _class, _repeat ─▶ what it is: a group's begin or end, an atom, a repeat

Envoy refuses a whole route table for one expression that it cannot take, so we look first. What cannot be
told here (how large a program becomes) is Envoy's to say, and is reported in its words.
https://github.com/google/re2/wiki/Syntax
"""

import re
from dataclasses import dataclass, field

_MOST_REPEATS = 1000
"""RE2 counts nested repeats as their product."""
_LONGEST = 64 * 1024
_DEEPEST = 1000
_LARGEST_CHARACTER = 0xFF
"""Envoy has RE2 read bytes."""

_REPEAT = re.compile(r"\{(\d+)(?:(,)(\d*))?\}")
_OPERATOR = re.compile(r"(?:[*+?]|\{\d+(?:,\d*)?\})\??")
_GROUP = re.compile(r"\(\?(?:P?<(?P<name>\w+)>|(?P<flags>[imsU]*(?:-[imsU]+)?)(?P<end>[:)]))", re.ASCII)
_BEYOND_RE2 = re.compile(r"\(\?(?:[=!>(#|&']|<[=!]|P[=>]|R|\d)")
_ESCAPE = re.compile(
    r"\\(?:[^0-9A-Za-z\x80-\U0010ffff]|[afnrtvdDsSwW]|0[0-7]{0,2}|[1-7][0-7]{1,2}|x[0-9A-Fa-f]{2}"
    r"|x\{(?P<code>[0-9A-Fa-f]+)\}|[pP](?:\{\^?(?P<long>\w+)\}|(?P<short>\w)))"
)
_ASSERTION = re.compile(r"\\[AzbBC]")
_SETS = frozenset("dDsSwWpP")
"""Letters of escapes that stand for many characters: they begin no range."""
_CATEGORIES = frozenset(
    "C Cc Cf Co Cs L Ll Lm Lo Lt Lu M Mc Me Mn N Nd Nl No "
    "P Pc Pd Pe Pf Pi Po Ps S Sc Sk Sm So Z Zl Zp Zs".split()
)
_SCRIPTS = frozenset(
    (
        "Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali "
        "Bhaiksuki Bopomofo Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian "
        "Chakma Cham Cherokee Chorasmian Common Coptic Cuneiform Cypriot Cypro_Minoan Cyrillic Deseret "
        "Devanagari Dives_Akuru Dogra Duployan Egyptian_Hieroglyphs Elbasan Elymaic Ethiopic Georgian "
        "Glagolitic Gothic Grantha Greek Gujarati Gunjala_Gondi Gurmukhi Han Hangul Hanifi_Rohingya Hanunoo "
        "Hatran Hebrew Hiragana Imperial_Aramaic Inherited Inscriptional_Pahlavi Inscriptional_Parthian "
        "Javanese Kaithi Kannada Katakana Kawi Kayah_Li Kharoshthi Khitan_Small_Script Khmer Khojki "
        "Khudawadi Lao Latin Lepcha Limbu Linear_A Linear_B Lisu Lycian Lydian Mahajani Makasar Malayalam "
        "Mandaic Manichaean Marchen Masaram_Gondi Medefaidrin Meetei_Mayek Mende_Kikakui Meroitic_Cursive "
        "Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani Myanmar Nabataean Nag_Mundari Nandinagari "
        "New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong Ogham Ol_Chiki Old_Hungarian Old_Italic "
        "Old_North_Arabian Old_Permic Old_Persian Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur Oriya "
        "Osage Osmanya Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic "
        "Samaritan Saurashtra Sharada Shavian Siddham SignWriting Sinhala Sogdian Sora_Sompeng Soyombo "
        "Sundanese Syloti_Nagri Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet Takri Tamil Tangsa Tangut "
        "Telugu Thaana Thai Tibetan Tifinagh Tirhuta Toto Ugaritic Vai Vithkuqi Wancho Warang_Citi Yezidi Yi "
        "Zanabazar_Square Any "
    ).split()
)
"""Those of Unicode 15, which Envoy 1.39 and 1.40 know."""
_POSIX = frozenset(
    "alnum alpha ascii blank cntrl digit graph lower print punct space upper word xdigit".split()
)
_POSIX_CLASS = re.compile(r"\[:\^?(.*?):\]", re.DOTALL)


class _Unusable(Exception):
    """Why RE2 refuses the expression."""


@dataclass(slots=True)
class _Reading:
    """How far an expression is read. `inner[-1]` is the largest product of repeats inside the group that is
    open, `last` of what a repeat that follows would multiply."""

    text: str
    at: int = 0
    repeatable: bool = False
    inner: list[int] = field(default_factory=lambda: [1])
    last: int = 1

    def atom(self, length: int) -> None:
        """Something that a repeat may follow."""
        self.at += length
        self.repeatable, self.last = True, 1


def unusable(pattern: str) -> str:
    """Why RE2 would refuse the expression; empty when it would not, as far as can be told here."""
    if not pattern:
        return "the regular expression is empty"
    if len(pattern) > _LONGEST:
        return f"the regular expression has {len(pattern)} characters, more than {_LONGEST}"
    try:
        _read(_Reading(pattern))
    except _Unusable as error:
        return f"{error}: {_shown(pattern)}"
    return ""


def _read(now: _Reading) -> None:
    while now.at < len(now.text):
        match now.text[now.at]:
            case "\\":
                _escape(now)
            case "(":
                _begin(now)
            case ")":
                _end(now)
            case "[":
                now.atom(_class_length(now.text, now.at))
            case "|":
                now.at, now.repeatable = now.at + 1, False
            case "*" | "+" | "?":
                _repeat(now)
            case "{" if _REPEAT.match(now.text, now.at):
                _repeat(now)
            case _:
                now.atom(1)
    if len(now.inner) > 1:
        raise _Unusable("a group is not closed")


def _escape(now: _Reading) -> None:
    if now.text.startswith(r"\Q", now.at):
        end = now.text.find(r"\E", now.at)
        now.atom((len(now.text) if end < 0 else end + 2) - now.at)
    elif found := _ASSERTION.match(now.text, now.at):
        now.atom(len(found[0]))
    else:
        now.atom(len(_escaped(now.text, now.at)[0]))


def _escaped(text: str, at: int) -> re.Match[str]:
    """The escape of one character, or of a set of them."""
    found = _ESCAPE.match(text, at)
    if found is None:
        what = text[at : at + 2]
        if len(what) < 2:
            raise _Unusable("it ends with a backslash")
        if what[1] in "123456789k":
            raise _Unusable(f"RE2 has no back references such as {what}")
        raise _Unusable(f"RE2 has no {what}")
    if found["code"] and int(found["code"], 16) > _LARGEST_CHARACTER:
        raise _Unusable(f"there is no character {found[0]}")
    name = found["short"] or found["long"] or ""
    if name and name not in _CATEGORIES and name not in _SCRIPTS:
        raise _Unusable(f"RE2 has no class of characters {found[0]}")
    return found


def _begin(now: _Reading) -> None:
    length = 1
    if now.text.startswith("(?", now.at):
        if _BEYOND_RE2.match(now.text, now.at):
            raise _Unusable("RE2 has no look-around, back references or atomic groups")
        found = _GROUP.match(now.text, now.at)
        if found is None:
            raise _Unusable(f"RE2 has no group {now.text[now.at : now.at + 4]}")
        if found["end"] == ")":
            now.at = found.end()  # flags alone are no group
            return
        length = len(found[0])
    now.at += length
    now.inner.append(1)
    if len(now.inner) > _DEEPEST:
        raise _Unusable(f"its groups nest more than {_DEEPEST} deep")
    now.repeatable, now.last = False, 1


def _end(now: _Reading) -> None:
    if len(now.inner) == 1:
        raise _Unusable("a ) closes nothing")
    product = now.inner.pop()
    now.inner[-1] = max(now.inner[-1], product)
    now.atom(1)
    now.last = product


def _repeat(now: _Reading) -> None:
    found = _OPERATOR.match(now.text, now.at)
    assert found is not None
    if not now.repeatable:
        raise _Unusable(f"there is nothing before {found[0]} to repeat")
    again = _OPERATOR.match(now.text, found.end())
    if again is not None:
        raise _Unusable(f"RE2 repeats no repeat, nor possessively: {found[0]}{again[0]}")
    if counted := _REPEAT.match(now.text, now.at):
        low, high = int(counted[1]), int(counted[3] or counted[1])
        if high < low:
            raise _Unusable(f"the repeat {counted[0]} ends before it begins")
        now.last *= max(high, 1)
        if now.last > _MOST_REPEATS:
            raise _Unusable(f"RE2 repeats at most {_MOST_REPEATS} times")
        now.inner[-1] = max(now.inner[-1], now.last)
    now.at = found.end()


def _class_length(text: str, begin: int) -> int:
    """How long the class of characters is that begins here."""
    at = begin + (2 if text.startswith("[^", begin) else 1)
    first = True
    while at < len(text):
        if text[at] == "]" and not first:
            return at + 1 - begin
        first = False
        if posix := _POSIX_CLASS.match(text, at):
            if posix[1] not in _POSIX:
                raise _Unusable(f"RE2 has no class of characters {posix[0]}")
            at = posix.end()
        else:
            at = _range_end(text, at)
    raise _Unusable("a [ is not closed")


def _range_end(text: str, at: int) -> int:
    """Where one member of a class ends: a set, a character, or a range of them."""
    low, after = _character(text, at)
    if low is None or text[after : after + 1] != "-" or text[after + 1 : after + 2] in ("", "]"):
        return after
    high, end = _character(text, after + 1)
    if high is None:
        raise _Unusable(f"{text[after + 1 : end]} ends no range")
    if high < low:
        raise _Unusable(f"the range {text[at:end]} ends before it begins")
    return end


def _character(text: str, at: int) -> tuple[int | None, int]:
    """The character at a place in a class (None: a set of many), and where it ends."""
    if text[at] != "\\":
        return ord(text[at]), at + 1
    found = _escaped(text, at)
    letter = found[0][1]
    if letter in _SETS:
        return None, found.end()
    if letter == "x":
        return int(found["code"] or found[0][2:], 16), found.end()
    if letter.isdigit():
        return int(found[0][1:], 8), found.end()
    return ord(
        {"a": "\a", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}.get(letter, letter)
    ), found.end()


def _shown(pattern: str) -> str:
    return repr(pattern if len(pattern) <= 100 else f"{pattern[:100]}…")

"""Text that must have a form (names, hosts, labels, headers, expressions) -> what is wrong with it.

Each function returns an empty string when nothing is.
"""

import re
import warnings
from ipaddress import ip_address, ip_network

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_HOST_PART = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_WILDCARD_PART = re.compile(r"\*|\*?(-?[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)")
_HEADER = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_BEYOND_RE2 = re.compile(r"(?<!\\)(?:\\\\)*(\(\?(?:=|!|<=|<!|>|\()|\\[1-9])")


def dns_label(text: str) -> str:
    """RFC 1123 label, such as a namespace's name."""
    return (
        ""
        if _LABEL.fullmatch(text)
        else "should be 1 to 63 of a-z, 0-9 and '-', beginning and ending with a-z or 0-9"
    )


def dns_label_1035(text: str) -> str:
    """RFC 1035 label, such as a Service's name: it begins with a letter."""
    return "" if _LABEL_1035.fullmatch(text) else "should be 1 to 63 of a-z, 0-9 and '-', beginning with a-z"


def dns_subdomain(text: str) -> str:
    """RFC 1123 subdomain, such as most objects' names."""
    if len(text) <= 253 and all(_LABEL.fullmatch(part) for part in text.split(".")):
        return ""
    return "should be at most 253 of a-z, 0-9, '-' and '.', each part beginning and ending with a-z or 0-9"


def label_key(text: str) -> str:
    """The key of a label or annotation: an optional DNS prefix and a name."""
    prefix, slash, name = text.rpartition("/")
    if _QUALIFIED.fullmatch(name) and (not slash or not dns_subdomain(prefix)):
        return ""
    return "should be at most 63 letters, digits, '-', '_' and '.', after an optional DNS prefix and '/'"


def label_value(text: str) -> str:
    """The value of a label; it may be empty."""
    if text == "" or _QUALIFIED.fullmatch(text):
        return ""
    return (
        "should be at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
    )


def fqdn(text: str) -> str:
    """A host name without wildcard; a dot at its end is fine."""
    plain = text.removesuffix(".")
    parts = plain.split(".")
    if len(plain) <= 255 and all(map(_HOST_PART.fullmatch, parts)) and not parts[-1].isdigit():
        return ""
    return "should be a DNS name"


def host(text: str) -> str:
    """A host name whose first part may be or begin with a wildcard, or an IP address."""
    if not address(text):
        return ""
    first, *others = text.removesuffix(".").split(".")
    if (
        text
        and len(text) <= 255
        and _WILDCARD_PART.fullmatch(first)
        and all(map(_HOST_PART.fullmatch, others))
    ):
        return ""
    if "*" in "".join(others) or "*" in first[1:]:
        return "has a '*' that does not begin the name"
    return "should be a DNS name, one that begins with '*', or an IP address"


def address(text: str) -> str:
    """An IPv4 or IPv6 address."""
    try:
        ip_address(text)
    except ValueError:
        return "should be an IP address"
    return "should be an IP address without a zone" if "%" in text else ""


def subnet(text: str) -> str:
    """An IP address or CIDR range."""
    try:
        ip_network(text, strict=False)
    except ValueError:
        return "should be an IP address or a CIDR range such as 10.1.0.0/16"
    return ""


def header_name(text: str) -> str:
    """The name of an HTTP header (RFC 9110 token)."""
    return "" if _HEADER.fullmatch(text) else "should be the name of a header: letters, digits and '-'"


def header_value(text: str) -> str:
    """The value of an HTTP header."""
    if re.search(r"[\x00\r\n]", text):
        return "may not hold line ends"
    return ""


def regex(text: str) -> str:
    """An RE2 expression, as far as Python can tell."""
    if not text:
        return "may not be empty"
    if match := _BEYOND_RE2.search(text):
        return f"is no RE2 expression: RE2 has no {match[1]}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            re.compile(text)
        except re.error as error:
            # RE2 knows flags in the middle and escapes (\\pL, \\z, \\Q…\\E) that Python does not
            if "global flags" in str(error) or "bad escape" in str(error):
                return ""
            return f"is no RE2 expression: {error}"
        except (RecursionError, OverflowError):
            return "is too large an expression"
    return ""

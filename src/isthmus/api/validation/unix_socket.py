"""Addresses of Unix sockets -> their problems."""

from collections.abc import Iterator

from isthmus.api.meta import Problem
from isthmus.api.rules import wrong

PREFIX = "unix://"


def unix_socket(field: str, url: str) -> Iterator[Problem]:
    """`unix:///path` or `unix://@abstract`."""
    path = url.removeprefix(PREFIX)
    if path.startswith("@"):
        return
    if not path.startswith("/"):
        text = (
            "UDS must be an absolute path or abstract socket: unix address is not an absolute path to a file"
        )
        yield from wrong(field, url, text)
    elif path.endswith("/"):
        yield from wrong(field, url, "UDS may not be a dir: unix address is not an absolute path to a file")

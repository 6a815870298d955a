"""Text in nft's language -> the kernel's tables, one transaction a call; and back."""

import json
import shutil
import subprocess
from typing import Any

FAMILY = "inet"
_TIMEOUT_S = 10.0


class NftFailed(Exception):
    """nft is missing or refused; the text holds its own words."""


def binary() -> str:
    """Where nft is."""
    found = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin:/usr/local/sbin")
    if found is None:
        raise NftFailed("nft is not installed: apt-get install nftables (or: dnf install nftables)")
    return found


def apply(script: str) -> None:
    """Runs the script as one transaction: all of it or none."""
    _run("-f", "-", script=script)


def tables() -> list[tuple[str, str]]:
    """Every table as (family, name)."""
    return [
        (item["table"]["family"], item["table"]["name"])
        for item in _json("list", "tables")
        if "table" in item
    ]


def exists(name: str) -> bool:
    """Whether our family has the table."""
    return (FAMILY, name) in tables()


def delete(name: str) -> None:
    """Deletes one table; no other is looked at."""
    _run("delete", "table", FAMILY, name)


def items(name: str) -> list[dict[str, Any]]:
    """All that is in a table, as nft's JSON objects."""
    return _json("list", "table", FAMILY, name)


def _json(*arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(_run("-j", *arguments))["nftables"]
    return found


def _run(*arguments: str, script: str | None = None) -> str:
    try:
        done = subprocess.run(
            [binary(), *arguments],
            input=script,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NftFailed(f"nft {' '.join(arguments)} gave no answer in {_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        words = " ".join(done.stderr.split())[:400]
        raise NftFailed(f"nft {' '.join(arguments)} refused: {words or f'exit code {done.returncode}'}")
    return done.stdout

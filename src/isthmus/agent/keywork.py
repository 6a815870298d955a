"""Keys, requests and checks -> done by the smith, a process that is gone afterwards.

The agent needs cryptography for some moments a day, and would carry it all the time. Keys go through pipes.
"""

import json
import subprocess
import sys
from dataclasses import dataclass

from isthmus.agent.membership import Credentials

_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Asked:
    """A private key and the signing request for it, both PEM; late, a proof that the old key is held."""

    key: bytes
    csr: str
    signature: str = ""

    def __repr__(self) -> str:
        return "Asked(…)"


def request(key: bytes | None = None) -> Asked:
    """A signing request for this key, or for a new one."""
    return _asked(_done("request", key=(key or b"").decode()))


def prove(key: bytes, nonce: bytes) -> Asked:
    """A signing request for a new key, signed by the old one for this nonce."""
    return _asked(_done("prove", key=key.decode(), nonce=nonce.hex()))


def check(credentials: Credentials, spiffe_id: str) -> None:
    """ValueError unless the certificate is for this identity and for its key, and the roots can be read."""
    key, chain, roots = (part.decode() for part in (credentials.key, credentials.chain, credentials.roots))
    _done("check", key=key, chain=chain, roots=roots, spiffe_id=spiffe_id)


def _asked(answer: dict[str, str]) -> Asked:
    return Asked(answer["key"].encode(), answer["csr"], answer.get("signature", ""))


def _done(work: str, **order: str) -> dict[str, str]:
    done = subprocess.run(
        # not what lies in the directory where somebody happens to be
        [sys.executable, "-P", "-m", "isthmus.agent.smith"],
        input=json.dumps({"work": work, **order}),
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
    )
    if done.returncode:
        raise ValueError(f"{work} failed: {' '.join(done.stderr.split()[-30:])}")
    answer: dict[str, str] = json.loads(done.stdout)
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer

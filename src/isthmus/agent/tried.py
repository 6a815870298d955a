"""The key of a join that failed, for the next try with the same token.

The control plane has bound the token to that key: a new one would be refused. It lies in a file beside the
run directory, for root only. It goes when a join takes it up, with `leave`, or with the power; when its token
has expired, with the next join at the latest.
"""

import contextlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from isthmus.agent import durable
from isthmus.agent.paths import Paths


@dataclass(frozen=True, slots=True)
class Tried:
    """A token by its id, the key that belongs to it as PEM, and until when (RFC 3339; empty: not told)."""

    token: str
    key: str
    until: str = ""

    def __repr__(self) -> str:
        return f"Tried({self.token!r}, …)"

    def save(self, paths: Paths) -> None:
        """Puts the key by."""
        durable.write(paths.tried, json.dumps(asdict(self)).encode())


def recall(paths: Paths, token: str) -> bytes | None:
    """The key with which this token was tried; one whose time is over is removed."""
    try:
        found = Tried(**json.loads(paths.tried.read_bytes()))
        over = bool(found.until) and datetime.fromisoformat(found.until) <= datetime.now(UTC)
    except FileNotFoundError:
        return None
    except (TypeError, ValueError):
        over = True
    if over:
        forget(paths)
        return None
    return found.key.encode() if found.token == token else None


def forget(paths: Paths) -> None:
    """Removes the key, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        paths.tried.unlink()

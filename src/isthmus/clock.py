"""Time and chance, named once: what the loops of the product wait by.

Functions that decide take the time as an argument; only the owners of loops look at a clock.
"""

import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache


def rfc3339(seconds: float | None = None) -> str:
    """A moment (seconds since the epoch; default now) as Kubernetes writes it: RFC 3339, UTC."""
    return _spelled(int(time.time() if seconds is None else seconds))


@lru_cache(maxsize=16)  # thousands of writes have the same second
def _spelled(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def backoff(base_s: float, cap_s: float, chance: Callable[[], float] = random.random) -> Iterator[float]:
    """Endless waits between attempts: doubling from `base_s` to `cap_s`, each between half and all of it.

    Jitter keeps a thousand VMs from knocking at the same moment when their control plane comes back.
    """
    wait = base_s
    while True:
        yield wait * (0.5 + chance() / 2)
        wait = min(wait * 2, cap_s)


def rest_s(took_s: float, share: float, *, free_s: float = 0.01) -> float:
    """How long work that took so long leaves the time to others, if it may take that share of it.

    What is quick (`free_s`) need not rest: a lone change goes out at once, and so does the next one.
    """
    return took_s * (1 / share - 1) if took_s > free_s else 0.0

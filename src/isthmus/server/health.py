"""What an agent found out about its workload -> the condition `Healthy` of its WorkloadEntry, as in Istio."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from isthmus.api.meta import Object
from isthmus.identity.enrol import HEALTHY

MAX_MESSAGE = 1000


def reported(entry: Object, *, healthy: bool, message: str, now: str) -> Object:
    """The entry with its health; `now` is RFC 3339."""
    old: list[Mapping[str, Any]] = list(entry.status.get("conditions", ()))
    before = next((each for each in old if each.get("type") == HEALTHY), {})
    status = str(healthy)
    changed = before.get("status") != status
    fresh = {
        "type": HEALTHY,
        "status": status,
        "lastProbeTime": now,
        "lastTransitionTime": now if changed else before.get("lastTransitionTime", now),
        "reason": "ProbeSucceeded" if healthy else "ProbeFailed",
        "message": _printable(message),
    }
    conditions = [fresh if each is before else each for each in old]
    if not before:
        conditions.append(fresh)
    return replace(entry, status={**entry.status, "conditions": conditions})


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text[:MAX_MESSAGE])

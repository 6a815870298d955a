"""Applied objects -> what became of them: programmed into the proxies, or refused and why."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from isthmus.api.kinds import KINDS
from isthmus.cli.tables import condition

if TYPE_CHECKING:
    from isthmus.cli.client import Client

_INTERVAL_S = 0.1


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one object ended."""

    name: str
    state: Literal["programmed", "refused", "late"]
    text: str


def verdict(document: Mapping[str, Any], generation: int) -> Verdict | None:
    """What the object's condition says about this generation, None while it says nothing final."""
    found = condition(document, "Programmed")
    if int(found.get("observedGeneration", 0)) < generation:
        return None
    text = ": ".join(str(part) for part in (found.get("reason"), found.get("message")) if part)
    match found.get("status"):
        case "True":
            return Verdict(named(document), "programmed", text)
        case "False":
            return Verdict(named(document), "refused", text)
    return None


def wait(
    client: "Client",
    documents: Sequence[Mapping[str, Any]],
    timeout_s: float,
    tell: Callable[[Verdict], None],
) -> bool:
    """Waits until all objects that make configuration are settled; True when all are programmed."""
    left = [doc for doc in documents if KINDS[doc["kind"]].programmed]
    deadline = time.monotonic() + timeout_s
    good = True
    while left:
        waiting, latest = [], dict[str, Mapping[str, Any]]()
        for wanted in left:
            meta = wanted["metadata"]
            seen = client.get(KINDS[wanted["kind"]], meta.get("namespace", ""), meta["name"])
            found = verdict(seen, meta["generation"])
            if found is None:
                waiting.append(wanted)
                latest[named(wanted)] = condition(seen, "Programmed")
                continue
            good = good and found.state == "programmed"
            tell(found)
        left = waiting
        if left and time.monotonic() >= deadline:
            for wanted in left:
                text = str(latest[named(wanted)].get("message") or "no word from the control plane yet")
                tell(Verdict(named(wanted), "late", text))
            return False
        if left:
            time.sleep(_INTERVAL_S)
    return good


def named(document: Mapping[str, Any]) -> str:
    """A document as people call it: `VirtualService/bookinfo/reviews`."""
    meta = document["metadata"]
    return "/".join(part for part in (document["kind"], meta.get("namespace", ""), meta["name"]) if part)

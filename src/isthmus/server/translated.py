"""What an object sets that does nothing yet -> its condition `Translated`, from the moment it is written.

object --admission--> condition False with the fields, or none
store  --at the start of the server--> the same for every object: a newer server may do more
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from isthmus.api.kinds import KINDS
from isthmus.api.meta import Object
from isthmus.api.support import untranslated
from isthmus.store.base import Mutate, Store

TYPE = "Translated"
_MOST_TOLD = 10
_MOST_WRITES = 50


def with_condition(obj: Object, now: str) -> Object:
    """The object with the condition that its spec deserves; the same object when it has it."""
    old: list[Mapping[str, Any]] = list(obj.status.get("conditions", ()))
    found = next((condition for condition in old if condition.get("type") == TYPE), None)
    wanted = _condition(obj, found, now)
    if wanted == found:
        return obj
    conditions = [condition for condition in old if condition.get("type") != TYPE]
    conditions += [wanted] if wanted else []
    rest = {name: value for name, value in obj.status.items() if name != "conditions"}
    return replace(obj, status={**rest, "conditions": conditions} if conditions else rest)


async def retell(store: Store, now: Callable[[], str]) -> None:
    """Brings the condition of every stored object up to date."""
    writes = []
    for kind in KINDS:
        objects, _ = await store.list(kind)
        stale = [obj for obj in objects if with_condition(obj, "") is not obj]
        writes += [Mutate(obj.key, partial(_told, now=now())) for obj in stale]
    for begin in range(0, len(writes), _MOST_WRITES):
        await store.apply(writes[begin : begin + _MOST_WRITES])


def _told(obj: Object | None, now: str) -> Object | None:
    return obj and with_condition(obj, now)


def _condition(obj: Object, old: Mapping[str, Any] | None, now: str) -> Mapping[str, Any] | None:
    problems = untranslated(obj)
    if not problems:
        return None
    more = f"; and {len(problems) - _MOST_TOLD} more" if len(problems) > _MOST_TOLD else ""
    return {
        "type": TYPE,
        "status": "False",
        "lastTransitionTime": old.get("lastTransitionTime", now) if old else now,
        "reason": "NotYet",
        "message": "; ".join(map(str, problems[:_MOST_TOLD])) + more,
    }

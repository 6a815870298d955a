"""What the control plane does by the clock: its certificate is renewed, old join tokens are swept away.

Neither may end the process: what the disk or the store refuses is told once, and tried again.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from isthmus.api.join import JoinTokenSpec
from isthmus.api.meta import Object
from isthmus.identity.ca import AuthorityUnusable
from isthmus.identity.serving import ServingIdentity
from isthmus.identity.times import moment
from isthmus.store.base import Mutate, Store, StoreError

INTERVAL_S = 3600.0
AGAIN_S = 60.0
KEPT = timedelta(days=1)
"""How long a token is shown after it expired: who wonders why it was refused looks for it."""
_AT_ONCE = 50

_log = logging.getLogger(__name__)


async def keep_renewed(identity: ServingIdentity) -> None:
    """Renews the doors' certificate for ever."""
    failing = False
    while True:
        await asyncio.sleep(AGAIN_S if failing else INTERVAL_S)
        try:
            renewed = identity.renew_if_due()
        except (OSError, AuthorityUnusable) as error:
            if not failing:
                _log.error("serving certificate not renewed, trying again: %s", error)
            failing = True
            continue
        failing = False
        if renewed:
            _log.info("serving certificate renewed")


async def keep_swept(store: Store, now: Callable[[], datetime]) -> None:
    """Deletes old join tokens for ever."""
    failing = False
    while True:
        try:
            swept = await sweep(store, now())
        except StoreError as error:
            if not failing:
                _log.warning("join tokens not swept, trying again: %s", error)
            failing = True
        else:
            failing = False
            if swept:
                _log.info("join tokens swept count=%d", swept)
        await asyncio.sleep(INTERVAL_S)


async def sweep(store: Store, now: datetime) -> int:
    """Deletes the join tokens that expired more than a day before `now`; how many."""

    def outdated(token: Object | None) -> bool:
        spec = token.spec if token else None
        expired = moment(spec.expires_at) if isinstance(spec, JoinTokenSpec) else None
        return expired is not None and now.astimezone(UTC) - expired > KEPT

    def swept(token: Object | None) -> Object | None:
        return None if outdated(token) else token  # it may have been made anew meanwhile

    tokens, _ = await store.list("JoinToken")
    old = [token.key for token in tokens if outdated(token)]
    for begin in range(0, len(old), _AT_ONCE):
        await store.apply([Mutate(key, swept) for key in old[begin : begin + _AT_ONCE]])
    return len(old)

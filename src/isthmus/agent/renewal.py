"""A certificate -> the next one, at about half its life, with a fresh key each time; late if need be.

Until the join is proven the key stays: the token is bound to it, and only with it can be given back.
"""

import asyncio
import logging
import random
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime

from isthmus.agent import door, keywork, late
from isthmus.agent.certificate import Certificate
from isthmus.agent.membership import Credentials, Membership
from isthmus.agent.paths import Paths
from isthmus.agent.sds import Secrets
from isthmus.clock import backoff

_LOG = logging.getLogger("isthmus.agent")
_HALF, _JITTER = 0.5, 0.05
_BACKDATED_S = 120.0
"""The control plane dates certificates back this far, for clocks that are behind: no part of their life."""


def renew_in_s(certificate: Certificate, now: datetime, chance: Callable[[], float]) -> float:
    """Seconds until the certificate should be renewed: half of what it lives, give or take a little."""
    ends = certificate.ends
    began = certificate.begins.timestamp() + _BACKDATED_S
    life_s = max(ends.timestamp() - began, 0)
    share = 1 - _HALF + _JITTER * (2 * chance() - 1)
    return max(0.0, (ends - now).total_seconds() - life_s * share)


async def keep_fresh(
    membership: Membership, secrets: Secrets, paths: Paths, joined: Callable[[], bool]
) -> None:
    """Renews for ever; a failure is told once and tried again until it works."""
    while True:
        certificate = Certificate.first(secrets.credentials.chain)
        await asyncio.sleep(renew_in_s(certificate, datetime.now(UTC), random.random))
        life_s = (certificate.ends - certificate.begins).total_seconds()
        waits, quiet = backoff(0.5, max(1.0, min(60.0, life_s / 20))), False
        while True:
            try:
                fresh = await renewed(membership, secrets.credentials, same_key=not joined())
            except (door.DoorClosed, OSError, ValueError, subprocess.TimeoutExpired) as error:
                if not quiet:
                    _LOG.warning("renewal failed until=%s reason=%s", _until(secrets.credentials), error)
                quiet = True
                await asyncio.sleep(next(waits))
                continue
            break
        # in force at once: a full disk must not let the one in use run out
        await secrets.replace(fresh)
        _LOG.info("certificate renewed until=%s", _until(fresh))
        await _keep(fresh, paths)


async def _keep(fresh: Credentials, paths: Paths) -> None:
    """Saves the credentials; while the disk refuses, tries again until the next ones are due."""
    waits, quiet, loop = backoff(0.5, 60), False, asyncio.get_running_loop()
    due = loop.time() + renew_in_s(Certificate.first(fresh.chain), datetime.now(UTC), random.random)
    while True:
        try:
            await asyncio.to_thread(fresh.save, paths)
        except OSError as error:
            if not quiet:
                _LOG.error("certificate not saved, used all the same reason=%s", error)
            quiet, wait = True, next(waits)
            if loop.time() + wait > due:
                return
            await asyncio.sleep(wait)
            continue
        if quiet:
            _LOG.info("certificate saved at last")
        return


async def renewed(membership: Membership, credentials: Credentials, *, same_key: bool = False) -> Credentials:
    """New credentials, checked; ValueError when the control plane's answer does not fit what was asked."""
    if Certificate.first(credentials.chain).ends <= datetime.now(UTC):
        # the mTLS door does not open for it any more
        fresh = await asyncio.to_thread(late.renewed_late, membership, credentials)
    else:
        asked = await asyncio.to_thread(keywork.request, credentials.key if same_key else None)
        chain, roots = await door.certify(membership.doors, credentials, asked.csr, 10)
        fresh = Credentials(asked.key, chain.encode(), roots.encode())
    await asyncio.to_thread(keywork.check, fresh, membership.spiffe_id)
    return fresh


def _until(credentials: Credentials) -> str:
    return Certificate.first(credentials.chain).ends.strftime("%Y-%m-%d %H:%M:%S UTC")

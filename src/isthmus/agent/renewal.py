"""A certificate -> the next one, at about half its life, with a fresh key each time; late if need be."""

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime

from cryptography import x509

from isthmus.agent import door, enrol, late
from isthmus.agent.membership import Credentials, Membership
from isthmus.agent.paths import Paths
from isthmus.agent.sds import Secrets
from isthmus.clock import backoff
from isthmus.identity import keys

_LOG = logging.getLogger("isthmus.agent")
_HALF, _JITTER = 0.5, 0.05
_BACKDATED_S = 120.0
"""The control plane dates certificates back this far, for clocks that are behind: no part of their life."""


def leaf(chain: bytes) -> x509.Certificate:
    """The VM's own certificate in a chain."""
    return keys.certificates(chain.decode())[0]


def renew_in_s(certificate: x509.Certificate, now: datetime, chance: Callable[[], float]) -> float:
    """Seconds until the certificate should be renewed: half of what it lives, give or take a little."""
    ends = certificate.not_valid_after_utc
    began = certificate.not_valid_before_utc.timestamp() + _BACKDATED_S
    life_s = max(ends.timestamp() - began, 0)
    share = 1 - _HALF + _JITTER * (2 * chance() - 1)
    return max(0.0, (ends - now).total_seconds() - life_s * share)


async def keep_fresh(membership: Membership, secrets: Secrets, paths: Paths) -> None:
    """Renews for ever; a failure is told once and tried again until it works."""
    while True:
        certificate = leaf(secrets.credentials.chain)
        await asyncio.sleep(renew_in_s(certificate, datetime.now(UTC), random.random))
        life_s = (certificate.not_valid_after_utc - certificate.not_valid_before_utc).total_seconds()
        waits, quiet = backoff(0.5, max(1.0, min(60.0, life_s / 20))), False
        while True:
            try:
                fresh = await renewed(membership, secrets.credentials)
            except (door.DoorClosed, OSError, ValueError) as error:
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
    due = loop.time() + renew_in_s(leaf(fresh.chain), datetime.now(UTC), random.random)
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


async def renewed(membership: Membership, credentials: Credentials) -> Credentials:
    """New credentials, checked; ValueError when the control plane's answer does not fit what was asked."""
    if leaf(credentials.chain).not_valid_after_utc <= datetime.now(UTC):
        # the mTLS door does not open for it any more
        fresh = await asyncio.to_thread(late.renewed_late, membership, credentials)
        held = enrol.private_key(fresh.key).public_key()
        check(fresh, membership.spiffe_id, keys.pin(held))
        return fresh
    key = keys.new_key()
    chain, roots = await door.certify(membership.doors, credentials, keys.request_pem(key), 10)
    fresh = Credentials(keys.key_pem(key), chain.encode(), roots.encode())
    check(fresh, membership.spiffe_id, keys.pin(key.public_key()))
    return fresh


def check(credentials: Credentials, spiffe_id: str, pin: bytes) -> None:
    """ValueError unless the certificate is for this identity and this key, and the roots can be read."""
    certificate = leaf(credentials.chain)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    ids = names.get_values_for_type(x509.UniformResourceIdentifier)
    if ids != [spiffe_id]:
        raise ValueError(f"the certificate is for {ids}, expected {spiffe_id}")
    public_key = certificate.public_key()
    if not isinstance(public_key, keys.PublicKey) or keys.pin(public_key) != pin:
        raise ValueError("the certificate is for another key than ours")
    keys.certificates(credentials.roots.decode())


def _until(credentials: Credentials) -> str:
    return leaf(credentials.chain).not_valid_after_utc.strftime("%Y-%m-%d %H:%M:%S UTC")

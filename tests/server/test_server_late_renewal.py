"""A VM whose certificate has ended: what gets it the next one, and what does not."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from enrolment_world import World, world
from starlette.applications import Starlette

from hanging_up import hang_up
from isthmus.agent import keywork, late
from isthmus.agent.door import DoorClosed
from isthmus.agent.membership import Credentials, Membership
from isthmus.api.meta import Key
from isthmus.identity import keys
from isthmus.identity.ca import Authority
from isthmus.identity.late import NONCE_LIFE_S, LateRegistrar, LateRequest
from isthmus.identity.possession import challenge, signed
from isthmus.identity.refusal import Refused
from isthmus.server.enrolment import RateLimit
from isthmus.server.late_renewal import late_renewal_routes, late_request
from isthmus.store.base import Delete

ENTRY = Key("WorkloadEntry", "vms", "mysql-10.0.0.5")


@dataclass
class Late:
    """A world with one VM in it, whose certificate lives for a minute."""

    world: World
    registrar: LateRegistrar
    key: keys.PrivateKey
    chain: str
    monotonic: list[float]

    def request(self, *, key: keys.PrivateKey | None = None, chain: str = "") -> LateRequest:
        """What an honest VM sends, but for the key that signs and the chain that it shows."""
        new, nonce = keys.new_key(), self.registrar.nonce()
        signature = signed(key or self.key, challenge(nonce, new.public_key()))
        return LateRequest(chain or self.chain, keys.request_pem(new), nonce, signature)

    async def refusal(self, request: LateRequest) -> Refused:
        with pytest.raises(Refused) as refused:
            await self.registrar.renew(request)
        return refused.value


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Late]:
    async with world(tmp_path) as made:
        await made.group(annotations={"isthmus.dev/certificate-ttl": "60s"})
        key, at = keys.new_key(), [0.0]
        application = made.application(await made.token(), csr=keys.request_pem(key))
        chain = (await made.registrar.enrol(application)).issued.chain
        registrar = LateRegistrar(made.store, made.authority, made.now, lambda: at[0])
        yield Late(made, registrar, key, chain, at)


@pytest.mark.parametrize("away", [timedelta(0), timedelta(minutes=2), timedelta(days=6, hours=23)])
async def test_a_vm_that_was_away_gets_its_next_certificate(here: Late, away: timedelta) -> None:
    here.world.offset[0] = away
    request = here.request()
    leaf = keys.certificates((await here.registrar.renew(request)).chain)[0]
    assert leaf.subject.rfc4514_string() == "CN=mysql-10.0.0.5"
    assert leaf.not_valid_after_utc > here.world.now()
    assert leaf.public_key() != here.key.public_key()
    assert (await here.refusal(request)).status == 409  # a nonce is good once


async def test_who_was_away_for_too_long_joins_again(here: Late) -> None:
    here.world.offset[0] = timedelta(days=7, minutes=2)
    refused = await here.refusal(here.request())
    assert (refused.status, "more than 7 days ago" in refused.error) == (403, True)
    assert "new token" in refused.hint


async def test_nothing_but_the_old_key_proves(here: Late) -> None:
    assert (await here.refusal(here.request(key=keys.new_key()))).status == 401
    other = keys.request_pem(keys.new_key())
    assert (await here.refusal(replace(here.request(), csr=other))).status == 401
    assert (await here.refusal(replace(here.request(), nonce=here.registrar.nonce()))).status == 401


async def test_a_nonce_is_ours_and_young(here: Late) -> None:
    assert (await here.refusal(replace(here.request(), nonce=b"x" * 32))).status == 409
    request = here.request()
    here.monotonic[0] = NONCE_LIFE_S + 1
    assert (await here.refusal(request)).status == 409


async def test_certificates_of_others_are_worth_nothing(here: Late, tmp_path: Path) -> None:
    stranger = Authority.open(tmp_path / "other", "cluster.local", here.world.now)
    spiffe = here.world.serving.spiffe
    forged = stranger.sign(here.key.public_key(), spiffe, common_name=ENTRY.name, ttl=timedelta(hours=1))
    assert (await here.refusal(here.request(chain=forged.chain))).status == 401
    assert (await here.refusal(here.request(chain=here.world.authority.roots))).status == 401
    assert (await here.refusal(here.request(chain="no certificate"))).status == 401
    serving = here.world.serving
    assert (await here.refusal(here.request(chain=serving.chain, key=serving.key))).status == 403


async def test_a_workload_that_left_or_is_another_vms_now_is_refused(here: Late) -> None:
    await here.world.store.apply([Delete(ENTRY)])
    assert "is not registered" in (await here.refusal(here.request())).error
    here.world.offset[0] = timedelta(minutes=2)
    await here.world.registrar.enrol(here.world.application(await here.world.token(name="second")))
    refused = await here.refusal(here.request())
    assert (refused.status, "after this certificate" in refused.error) == (403, True)


async def test_another_service_account_is_refused(here: Late) -> None:
    await here.world.store.apply([Delete(ENTRY)])
    await here.world.apply(
        {
            "apiVersion": "networking.istio.io/v1",
            "kind": "WorkloadEntry",
            "metadata": {"name": ENTRY.name, "namespace": "vms"},
            "spec": {"address": "10.0.0.5", "serviceAccount": "other"},
        }
    )
    assert "another service account" in (await here.refusal(here.request())).error


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"{}", b"[" * 50_000, b'{"chain": "x", "csr": "x", "nonce": "zz"}', b'{"chain": 1}'],
)
def test_other_bodies_are_refused(document: bytes) -> None:
    with pytest.raises(Refused) as refused:
        late_request(document)
    assert refused.value.status == 400


def test_long_parts_are_refused() -> None:
    document = {"chain": "x" * 40_000, "csr": "", "nonce": "", "signature": ""}
    with pytest.raises(Refused, match="chain is not a text of at most"):
        late_request(json.dumps(document).encode())


class Door:
    """The HTTPS door on loopback."""

    def __init__(self, here: Late, limit: RateLimit | None = None) -> None:
        routes = late_renewal_routes(
            here.registrar, roots=lambda: here.world.authority.roots, now=here.world.now, limit=limit
        )
        config = uvicorn.Config(Starlette(routes=routes), lifespan="off", log_config=None)
        config.load()
        config.ssl = here.world.serving.server_context(alpn=["http/1.1"], clients=False)
        self.server = uvicorn.Server(config)
        self.socket = socket.create_server(("127.0.0.1", 0))

    async def __aenter__(self) -> str:
        self.server.lifespan = self.server.config.lifespan_class(self.server.config)
        await self.server.startup([self.socket])
        return f"127.0.0.1:{self.socket.getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        await self.server.shutdown([self.socket])
        await hang_up()


def membership(here: Late, address: str, **more: Any) -> Membership:
    pinned = {"api": (address,), "pin": here.world.serving.pin().hex(), **more}
    return Membership(
        "vms", ENTRY.name, "spiffe://cluster.local/ns/vms/sa/mysql", "10.0.0.5", (), "vms/token", **pinned
    )


def credentials(here: Late) -> Credentials:
    return Credentials(keys.key_pem(here.key), here.chain.encode(), here.world.authority.roots.encode())


async def renewed(here: Late, member: Membership) -> Credentials:
    return await asyncio.to_thread(late.renewed_late, member, credentials(here))


async def test_the_agent_finds_its_way_back(here: Late) -> None:
    here.world.offset[0] = timedelta(hours=1)
    async with Door(here) as address:
        fresh = await renewed(here, membership(here, address))
        await asyncio.to_thread(keywork.check, fresh, "spiffe://cluster.local/ns/vms/sa/mysql")
        assert fresh.key != credentials(here).key


async def test_the_agent_is_told_to_join_again(here: Late) -> None:
    async with Door(here) as address:
        with pytest.raises(DoorClosed, match="new token"):
            await renewed(here, membership(here, address, pin=""))
        with pytest.raises(DoorClosed, match="not the one that the token pins"):
            await renewed(here, membership(here, address, pin="00" * 32))
        here.world.offset[0] = timedelta(days=8)
        with pytest.raises(DoorClosed, match="new token") as closed:
            await renewed(here, membership(here, address))
        assert closed.value.refused


async def test_attempts_are_counted(here: Late) -> None:
    async with Door(here, RateLimit(burst=1, per_second=0.001)) as address:
        with pytest.raises(DoorClosed, match="too many renewals"):
            await renewed(here, membership(here, address))

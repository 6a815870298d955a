"""A VM with a token becomes a workload: who may, under which name, and of many at once only one."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from enrolment_world import World, spec_of, world

from isthmus.api.join import JoinTokenSpec
from isthmus.api.meta import Key
from isthmus.identity import keys
from isthmus.identity.jointoken import Token
from isthmus.identity.refusal import Refused
from isthmus.store.base import Delete, UpdateStatus


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


def _token_key(token: Token) -> Key:
    return Key("JoinToken", token.namespace, token.name)


async def refusal(here: World, token: Token, /, **changes: Any) -> Refused:
    """The refusal of an application, after which nothing may have changed."""
    before = await here.entries()
    with pytest.raises(Refused) as refused:
        await here.registrar.enrol(here.application(token, **changes))
    assert await here.entries() == before
    return refused.value


async def test_a_vm_becomes_a_workload(here: World) -> None:
    await here.group(annotations={"isthmus.dev/certificate-ttl": "60s"})
    key = keys.new_key()
    token = await here.token()
    enrolled = await here.registrar.enrol(here.application(token, csr=keys.request_pem(key)))
    leaf = keys.certificates(enrolled.issued.chain)[0]
    assert await here.entries() == ["vms/mysql-10.0.0.5"]
    assert str(enrolled.spiffe) == "spiffe://cluster.local/ns/vms/sa/mysql"
    assert leaf.public_key() == key.public_key()
    assert leaf.subject.rfc4514_string() == "CN=mysql-10.0.0.5"
    assert enrolled.ttl == timedelta(seconds=60)
    assert spec_of(enrolled.entry).address == "10.0.0.5"
    assert (await here.status(token))["workload"] == "mysql-10.0.0.5"


async def test_names_in_a_signing_request_are_claims_and_count_for_nothing(here: World) -> None:
    await here.group()
    builder = x509.CertificateSigningRequestBuilder(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "isthmus")])
    ).add_extension(
        x509.SubjectAlternativeName(
            [
                x509.UniformResourceIdentifier("spiffe://cluster.local/ns/isthmus-system/sa/isthmus"),
                x509.DNSName("isthmus.isthmus-system.svc"),
            ]
        ),
        critical=True,
    )
    key = keys.new_key()
    csr = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    enrolled = await here.registrar.enrol(here.application(await here.token(), csr=csr))
    leaf = keys.certificates(enrolled.issued.chain)[0]
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier("spiffe://cluster.local/ns/vms/sa/mysql")]
    assert leaf.subject.rfc4514_string() == "CN=mysql-10.0.0.5"


async def test_of_fifty_at_once_one_wins(here: World) -> None:
    await here.group()
    token = await here.token()
    applications = [here.application(token) for _ in range(50)]
    results = await asyncio.gather(*map(here.registrar.enrol, applications), return_exceptions=True)
    winners = [result for result in results if not isinstance(result, BaseException)]
    losers = [result for result in results if isinstance(result, Refused)]
    assert (len(winners), len(losers)) == (1, 49)
    assert {loser.status for loser in losers} == {409}
    assert all("already used at 20" in loser.error for loser in losers)
    assert await here.entries() == ["vms/mysql-10.0.0.5"]


async def test_of_fifty_addresses_at_once_one_wins(here: World) -> None:
    await here.group()
    token = await here.token()
    applications = [here.application(token, address=f"10.0.1.{n}") for n in range(50)]
    results = await asyncio.gather(*map(here.registrar.enrol, applications), return_exceptions=True)
    assert sum(not isinstance(result, BaseException) for result in results) == 1
    assert len(await here.entries()) == 1


async def test_the_same_key_may_try_again(here: World) -> None:
    await here.group()
    token = await here.token()
    csr = keys.request_pem(keys.new_key())
    first = await here.registrar.enrol(here.application(token, csr=csr))
    again = await here.registrar.enrol(here.application(token, csr=csr))
    assert first.entry == again.entry
    assert first.issued.serial != again.issued.serial
    # also after the VM's rollback took the entry away
    await here.store.apply([Delete(first.entry.key)])
    await here.registrar.enrol(here.application(token, csr=csr))
    assert await here.entries() == ["vms/mysql-10.0.0.5"]


async def test_the_same_key_at_another_address_is_another_vm(here: World) -> None:
    await here.group()
    token = await here.token()
    csr = keys.request_pem(keys.new_key())
    await here.registrar.enrol(here.application(token, csr=csr))
    refused = await refusal(here, token, csr=csr, address="10.0.0.6")
    assert (refused.status, "another address" in refused.error) == (409, True)
    assert "--address: 10.0.0.5" in refused.hint


async def test_another_token_brings_a_reinstalled_vm_back(here: World) -> None:
    await here.group()
    first = await here.registrar.enrol(here.application(await here.token()))
    again = await here.registrar.enrol(here.application(await here.token(name="second")))
    assert first.entry.meta.uid == again.entry.meta.uid


@pytest.mark.parametrize(
    "changes", [{"secret": bytes(32)}, {"secret": b""}, {"token": "t2"}, {"namespace": "x"}]
)
async def test_an_unknown_token_is_told_nothing(here: World, changes: dict[str, Any]) -> None:
    await here.group()
    refused = await refusal(here, await here.token(), **changes)
    assert refused.status == 401
    assert refused.error == "this control plane does not know the join token"
    assert "vms" not in refused.error + refused.hint
    assert "mysql" not in refused.error + refused.hint


async def test_a_tampered_secret_is_unknown_bit_by_bit(here: World) -> None:
    await here.group()
    token = await here.token()
    for bit in (0, 100, 255):
        wrong = (int.from_bytes(token.secret, "big") ^ 1 << bit).to_bytes(32, "big")
        assert (await refusal(here, token, secret=wrong)).status == 401
    assert await here.status(token) == {}


async def test_a_key_that_left_may_come_back_with_its_token_at_another_address(here: World) -> None:
    await here.group()
    token, csr = await here.token(), keys.request_pem(keys.new_key())
    first = await here.registrar.enrol(here.application(token, csr=csr))
    kept = await here.store.get(_token_key(token))
    assert kept is not None
    assert isinstance(kept.spec, JoinTokenSpec)
    assert first.token_expires == kept.spec.expires_at
    await here.store.apply([Delete(first.entry.key)])
    refused = await refusal(here, token)
    assert (refused.status, "already used at 20" in refused.error) == (409, True)
    again = await here.registrar.enrol(here.application(token, csr=csr, address="10.0.0.6"))
    assert again.spiffe == first.spiffe
    assert await here.entries() == ["vms/mysql-10.0.0.6"]
    assert (await here.status(token))["workload"] == "mysql-10.0.0.6"
    refused = await refusal(here, token, address="10.0.0.6")
    assert "already used at 20" in refused.error


async def test_an_expired_token_is_refused_even_for_its_key(here: World) -> None:
    await here.group()
    token = await here.token()
    csr = keys.request_pem(keys.new_key())
    await here.registrar.enrol(here.application(token, csr=csr))
    here.offset[0] += timedelta(minutes=15)
    refused = await refusal(here, token, csr=csr)
    assert (refused.status, "expired at 20" in refused.error) == (403, True)
    assert "--group vms/mysql" in refused.hint


@pytest.mark.parametrize(
    ("skew", "words"),
    [
        (timedelta(minutes=10), "10 min 0 s ahead of"),
        (timedelta(minutes=-10), "10 min 0 s behind"),
        (timedelta(days=-20000), "behind"),
    ],
)
async def test_a_clock_that_is_off_is_refused_with_the_measure(
    here: World, skew: timedelta, words: str
) -> None:
    await here.group()
    token = await here.token()
    application_ = here.application(token)
    refused = await refusal(here, token, time=application_.time + skew + timedelta(milliseconds=100))
    assert refused.status == 422
    assert words in refused.error
    assert await here.status(token) == {}


async def test_a_clock_that_is_a_little_off_will_do(here: World) -> None:
    await here.group()
    token = await here.token()
    await here.registrar.enrol(here.application(token, time=here.now() - timedelta(minutes=4)))


@pytest.mark.parametrize(
    "csr",
    [
        "nonsense",
        "x" * 20_000,
        keys.request_pem(ec.generate_private_key(ec.SECP384R1())),
    ],
)
async def test_a_bad_signing_request_does_not_use_the_token(here: World, csr: str) -> None:
    await here.group()
    token = await here.token()
    assert (await refusal(here, token, csr=csr)).status == 422
    assert await here.status(token) == {}
    await here.registrar.enrol(here.application(token))


async def test_a_token_of_a_group_that_is_gone(here: World) -> None:
    refused = await refusal(here, await here.token())
    assert (refused.status, "WorkloadGroup vms/mysql" in refused.error) == (409, True)


async def test_another_groups_address_is_not_taken_over(here: World) -> None:
    await here.group()
    await here.group("web", "shop")
    await here.registrar.enrol(here.application(await here.token()))
    thief = await here.token("web", "shop")
    refused = await refusal(here, thief)
    assert refused.status == 409
    assert "10.0.0.5 belongs to another workload" in refused.error
    assert "vms" not in refused.error + refused.hint
    assert "mysql" not in refused.error + refused.hint
    assert await here.status(thief) == {}


async def test_a_hand_written_entry_is_not_taken_over(here: World) -> None:
    await here.group()
    document = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {"name": "mysql-10.0.0.5", "namespace": "vms"},
        "spec": {"address": "10.9.9.9", "serviceAccount": "admin"},
    }
    await here.apply(document)
    token = await here.token()
    assert (await refusal(here, token)).status == 409
    document["metadata"] = {"name": "by-hand", "namespace": "vms"}
    document["spec"] = {"address": "fd00:0::5", "serviceAccount": "admin"}
    await here.apply(document)
    assert (await refusal(here, token, address="fd00::5")).status == 409


async def test_of_two_groups_at_once_at_most_one_gets_an_address(here: World) -> None:
    await here.group()
    await here.group("web", "shop")
    tokens = [await here.token(), await here.token("web", "shop")]
    applications = [here.application(token) for token in tokens]
    results = await asyncio.gather(*map(here.registrar.enrol, applications), return_exceptions=True)
    assert sum(isinstance(result, Refused) for result in results) >= 1
    assert len(await here.entries()) <= 1
    assert here.registrar._claims == {}


async def test_networks_may_use_the_same_addresses(here: World) -> None:
    await here.group(template={"serviceAccount": "a", "network": "east"})
    await here.group("web", "shop", template={"serviceAccount": "a", "network": "west"})
    for token in (await here.token(), await here.token("web", "shop")):
        await here.registrar.enrol(here.application(token))
    assert len(await here.entries()) == 2


async def test_deleting_the_group_takes_its_workloads_along(here: World) -> None:
    group = await here.group()
    await here.registrar.enrol(here.application(await here.token()))
    await here.store.apply([Delete(group.key)])
    assert await here.entries() == []


async def test_a_workloads_status_survives_its_return(here: World) -> None:
    await here.group()
    enrolled = await here.registrar.enrol(here.application(await here.token()))
    key = enrolled.entry.key
    conditions = [{"type": "Programmed", "status": "True"}, {"type": "Healthy", "status": "True"}]
    await here.store.apply([UpdateStatus(key, {"conditions": conditions})])
    await here.registrar.enrol(here.application(await here.token(name="second")))
    entry = await here.store.get(Key("WorkloadEntry", "vms", key.name))
    assert entry is not None
    # but for its health: whoever is there now has yet to be found healthy
    assert entry.status["conditions"] == conditions[:1]


async def test_the_address_of_a_connected_member_is_not_given_to_another_key(here: World) -> None:
    await here.group()
    key = keys.request_pem(keys.new_key())
    token, second = await here.token(), await here.token(name="second")
    enrolled = await here.registrar.enrol(here.application(token, csr=key))
    here.connected.add(enrolled.entry.key)
    refused = await refusal(here, second)
    assert refused.status == 409
    assert "is connected with another key; leave there first or delete the WorkloadEntry" in refused.error
    assert await here.status(second) == {}
    await here.registrar.enrol(here.application(token, csr=key))
    here.connected.clear()
    await here.registrar.enrol(here.application(second))

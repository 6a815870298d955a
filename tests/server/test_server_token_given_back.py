"""A join fails and gives its token back: who may do that, and what its certificate is worth then."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from agent_door import Door, Vm, open_door, refused

from isthmus.api.meta import Key
from isthmus.identity import keys
from isthmus.identity.enrol import Enrolled
from isthmus.identity.jointoken import Token
from isthmus.identity.refusal import Refused
from isthmus.identity.times import ENROLLED_ANNOTATION, moment
from isthmus.server.recorder import notices
from isthmus.store.base import Delete, UpdateStatus


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with open_door(tmp_path) as made:
        await made.world.group()
        yield made


async def enrolled(door: Door, token: Token, address: str = "10.0.0.5") -> Vm:
    """A VM with a key of its own that has used the token."""
    key = keys.new_key()
    application = door.world.application(token, csr=keys.request_pem(key), address=address)
    found = await door.world.registrar.enrol(application)
    return Vm(door, key, found.issued.chain, found.entry)


async def renewed(vm: Vm, key: Any) -> Vm:
    """The same workload with its next certificate, for a key."""
    *chain, _ = (await vm.renew(keys.request_pem(key))).cert_chain
    return Vm(vm.door, key, "".join(chain), vm.entry)


async def test_the_key_that_used_a_token_makes_it_as_new(door: Door) -> None:
    token, before = await door.world.token(), door.world.store.revision
    vm = await enrolled(door, token)
    answer = await vm.leave(token.name)
    assert (answer.token_given_back, answer.detail) == (True, "")
    assert await door.world.entries() == []
    status = await door.world.status(token)
    assert set(status) == {"givenBackBy", "givenBackAt"}
    told = [
        (notice.reason, notice.type, notice.text)
        for event in door.world.store.changes("JoinToken", before)
        for notice in notices(event)
    ]
    assert told == [
        ("GivenBack", "Warning", "the join as mysql-10.0.0.5 failed, and the token is unused again")
    ]
    # for another VM, at another address, which then has it alone
    other = await enrolled(door, token, "10.0.0.6")
    assert await door.world.entries() == ["vms/mysql-10.0.0.6"]
    assert set(await door.world.status(token)) == {"usedBy", "usedAt", "workload"}
    with pytest.raises(Refused, match="already used at 20"):
        await enrolled(door, token)
    assert not (await other.leave()).token_given_back


async def test_entry_and_token_go_in_one_write(door: Door) -> None:
    token = await door.world.token()
    vm = await enrolled(door, token)
    before = door.world.store.revision
    await vm.leave(token.name)
    changed = [
        (event.revision - before, event.type, event.object.key.kind)
        for kind in ("JoinToken", "WorkloadEntry")
        for event in door.world.store.changes(kind, before)
    ]
    assert changed == [(1, "MODIFIED", "JoinToken"), (2, "DELETED", "WorkloadEntry")]


async def test_until_then_a_second_vm_is_refused(door: Door) -> None:
    token = await door.world.token()
    await enrolled(door, token)
    with pytest.raises(Refused, match="already used at 20"):
        await enrolled(door, token, "10.0.0.6")


async def test_a_renewed_certificate_for_the_same_key_will_do(door: Door) -> None:
    token = await door.world.token()
    vm = await enrolled(door, token)
    assert (await (await renewed(vm, vm.key)).leave(token.name)).token_given_back


async def test_another_key_gives_nothing_back_though_its_certificate_is_good(door: Door) -> None:
    token, second = await door.world.token(), await door.world.token(name="second")
    vm = await enrolled(door, token)
    other = await enrolled(door, second, "10.0.0.6")
    before = await door.world.status(token)
    for stranger in (await renewed(vm, keys.new_key()), other):
        answer = await stranger.leave(token.name)
        assert (answer.token_given_back, answer.detail) == (False, "it is not this key's")
        assert await door.world.status(token) == before
    # they left all the same
    assert await door.world.entries() == []


@pytest.mark.parametrize("name", ["nothing", "x" * 10_000, "vms/token", "../token"])
async def test_what_is_no_token_is_told_like_another_keys(door: Door, name: str) -> None:
    vm = await enrolled(door, await door.world.token())
    answer = await vm.leave(name)
    assert (answer.token_given_back, answer.detail) == (False, "it is not this key's")


async def test_a_token_of_another_namespace_cannot_be_named(door: Door) -> None:
    await door.world.group("web", "shop")
    theirs = await door.world.token("web", "shop", name="theirs")
    key = keys.new_key()
    csr = keys.request_pem(key)
    await door.world.registrar.enrol(door.world.application(theirs, csr=csr, address="10.0.0.6"))
    own = await door.world.registrar.enrol(door.world.application(await door.world.token(), csr=csr))
    vm = Vm(door, key, own.issued.chain, own.entry)
    assert not (await vm.leave("theirs")).token_given_back
    assert (await door.world.status(theirs))["usedBy"]


async def test_an_expired_token_stays_used(door: Door) -> None:
    token = await door.world.token()
    vm = await enrolled(door, token)
    door.world.offset[0] += timedelta(minutes=15)
    answer = await vm.leave(token.name)
    assert not answer.token_given_back
    assert "it expired at 20" in answer.detail
    assert (await door.world.status(token))["usedBy"]
    assert await door.world.entries() == []


async def test_saying_so_twice_is_fine_until_somebody_else_has_used_it(door: Door) -> None:
    token = await door.world.token()
    vm = await enrolled(door, token)
    assert (await vm.leave(token.name)).token_given_back
    status = await door.world.status(token)
    assert (await vm.leave(token.name)).token_given_back
    assert await door.world.status(token) == status
    other = await enrolled(door, token, "10.0.0.6")
    assert (await vm.leave(token.name)).detail == "it is not this key's"
    assert await door.world.entries() == ["vms/mysql-10.0.0.6"]
    assert (await other.leave(token.name)).token_given_back


async def test_of_many_at_once_that_wait_for_it_one_wins(door: Door) -> None:
    token = await door.world.token()
    vm = await enrolled(door, token)
    waiting = [enrolled(door, token, f"10.0.1.{n}") for n in range(20)]
    _, again, *results = await asyncio.gather(
        vm.leave(token.name), vm.leave(token.name), *waiting, return_exceptions=True
    )
    assert not isinstance(again, BaseException)
    winners = [result for result in results if isinstance(result, Vm)]
    assert len(winners) <= 1
    if not winners:  # all of them came before it was given back
        winners = [await enrolled(door, token, "10.0.1.77")]
    late = [enrolled(door, token, f"10.0.2.{n}") for n in range(20)]
    assert all(isinstance(each, Refused) for each in await asyncio.gather(*late, return_exceptions=True))
    assert await door.world.entries() == [f"vms/{winners[0].entry.key.name}"]


async def test_of_twenty_after_it_was_given_back_one_wins(door: Door) -> None:
    token = await door.world.token()
    await (await enrolled(door, token)).leave(token.name)
    results = await asyncio.gather(*(enrolled(door, token) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(result, Vm) for result in results) == 1
    assert sum(isinstance(result, Refused) for result in results) == 19


async def test_the_failed_joins_certificate_is_worth_nothing_even_at_the_same_address(door: Door) -> None:
    token = await door.world.token()
    failed = await enrolled(door, token)
    rotated = await renewed(failed, keys.new_key())
    await failed.leave(token.name)
    for vm in (failed, rotated):
        code, text = await refused(vm.renew(keys.request_pem(keys.new_key())))
        assert (code, "not registered" in text) == (grpc.StatusCode.PERMISSION_DENIED, True)
    # at once, and with the same name: what was signed before is older than this enrolment
    heir = await enrolled(door, token)
    for vm in (failed, rotated):
        for call in (vm.renew(keys.request_pem(keys.new_key())), vm.prove(80), vm.leave(), vm.report(True)):
            code, text = await refused(call)
            assert code is grpc.StatusCode.PERMISSION_DENIED
            assert "after this certificate" in text
    assert await door.world.entries() == [f"vms/{heir.entry.key.name}"]
    assert await renewed(heir, keys.new_key())


async def test_a_certificate_is_never_older_than_its_own_enrolment(door: Door) -> None:
    token = await door.world.token()
    await (await enrolled(door, token)).leave(token.name)
    application = door.world.application(token)
    found: Enrolled = await door.world.registrar.enrol(application)
    since = moment(found.entry.meta.annotations[ENROLLED_ANNOTATION])
    assert since is not None
    assert found.issued.not_before + timedelta(minutes=2) >= since


async def test_a_clock_that_was_set_back_lets_nobody_wait_for_hours(door: Door) -> None:
    token = await door.world.token()
    vm = await enrolled(door, token)
    await vm.leave(token.name)
    ahead = (door.world.now() + timedelta(hours=3)).isoformat()
    key = Key("JoinToken", token.namespace, token.name)
    await door.world.store.apply([UpdateStatus(key, {"givenBackBy": "x", "givenBackAt": ahead})])
    with pytest.raises(Refused, match="rests for a moment") as error:
        await enrolled(door, token)
    assert "clock set back" in error.value.hint


async def test_nobody_is_locked_out_by_a_certificate_from_a_clock_that_was_set_back(door: Door) -> None:
    """Its next certificate would be older than its enrolment: it keeps the one that it has."""
    door.world.offset[0] = timedelta(minutes=1)
    vm = await enrolled(door, await door.world.token())
    door.world.offset[0] = timedelta(0)
    code, text = await refused(vm.renew(keys.request_pem(keys.new_key())))
    assert (code, "clock was set back" in text) == (grpc.StatusCode.UNAVAILABLE, True)
    door.world.offset[0] = timedelta(minutes=1)
    assert await renewed(vm, keys.new_key())


async def test_a_sleep_that_ends_early_refuses_nobody(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    token = await door.world.token()
    await (await enrolled(door, token)).leave(token.name)
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda seconds: sleep(seconds * 0.9))
    assert await enrolled(door, token)


async def test_a_deleted_token_is_not_made_anew(door: Door) -> None:
    token = await door.world.token()
    vm = await enrolled(door, token)
    key = Key("JoinToken", token.namespace, token.name)
    await door.world.store.apply([Delete(key)])
    assert not (await vm.leave(token.name)).token_given_back
    assert await door.world.store.get(key) is None
    assert await door.world.entries() == []

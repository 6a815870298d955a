"""What an enrolled VM may do at the mTLS door: renew, tell its health, leave; and who else may not."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from agent_door import MYSQL, Door, Vm, joined, open_door, refused
from cryptography.hazmat.primitives.asymmetric import ec
from enrolment_world import spec_of

from isthmus._pb.isthmus.agent.v1 import agent_pb2 as agent_v1
from isthmus.api.meta import Object
from isthmus.identity import keys
from isthmus.identity.ca import Authority
from isthmus.store.base import Delete, Mutate, UpdateStatus


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with open_door(tmp_path) as made:
        yield made


async def test_a_live_certificate_gets_the_next_one(door: Door) -> None:
    vm = await joined(door, annotations={"isthmus.dev/certificate-ttl": "60s"})
    key = keys.new_key()
    *chain, roots = (await vm.renew(keys.request_pem(key))).cert_chain
    leaf = keys.certificates("".join(chain))[0]
    assert leaf.public_key() == key.public_key()
    assert leaf.subject.rfc4514_string() == "CN=mysql-10.0.0.5"
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    assert life == timedelta(seconds=60, minutes=2)
    assert roots == door.world.authority.roots
    again = Vm(door, key, "".join(chain), vm.entry)
    assert (await again.renew(keys.request_pem(keys.new_key()))).cert_chain


async def test_a_shorter_life_may_be_asked_for_a_longer_not(door: Door) -> None:
    vm = await joined(door, annotations={"isthmus.dev/certificate-ttl": "1h"})
    for asked, expected in ((60, 60), (10**9, 3600), (2**62, 3600), (-5, 3600)):
        answer = await vm.renew(keys.request_pem(keys.new_key()), asked)
        leaf = keys.certificates(answer.cert_chain[0])[0]
        life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
        assert life == timedelta(seconds=expected, minutes=2)


@pytest.mark.parametrize(
    ("csr", "words"),
    [
        ("x" * 20_000, "at most 16384"),
        ("nonsense", "not a PEM"),
        (keys.request_pem(ec.generate_private_key(ec.SECP384R1())), "expected P-256"),
    ],
)
async def test_a_bad_signing_request_is_refused(door: Door, csr: str, words: str) -> None:
    vm = await joined(door)
    code, text = await refused(vm.renew(csr))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert words in text


async def test_a_workload_that_left_gets_nothing(door: Door) -> None:
    vm = await joined(door)
    await door.world.store.apply([Delete(vm.entry.key)])
    for call in (vm.renew(keys.request_pem(keys.new_key())), vm.prove(80)):
        code, text = await refused(call)
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "vms/mysql-10.0.0.5 is not registered (left?)" in text


async def test_a_changed_service_account_ends_renewal(door: Door) -> None:
    vm = await joined(door)

    def demoted(entry: Object | None) -> Object:
        assert entry is not None
        return replace(entry, spec=spec_of(entry).model_copy(update={"service_account": "other"}))

    await door.world.store.apply([Mutate(vm.entry.key, demoted)])
    for call in (vm.renew(keys.request_pem(keys.new_key())), vm.prove(80), vm.leave()):
        code, text = await refused(call)
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "'other' now" in text
    assert await door.world.entries() == ["vms/mysql-10.0.0.5"]


async def test_a_foreign_authoritys_certificate_does_not_get_in(door: Door, tmp_path: Path) -> None:
    await joined(door)
    foreign = Authority.open(tmp_path / "foreign", "cluster.local", door.world.now)
    key = keys.new_key()
    issued = foreign.sign(key.public_key(), MYSQL, common_name="mysql-10.0.0.5", ttl=timedelta(hours=1))
    code, _ = await refused(
        Vm(door, key, issued.chain, await _nobody(door)).renew(keys.request_pem(keys.new_key()))
    )
    assert code is grpc.StatusCode.UNAVAILABLE


async def test_without_a_certificate_nobody_gets_in(door: Door) -> None:
    await joined(door)
    method = "/isthmus.agent.v1.Agent/Leave"
    code, _ = await refused(door.call(method, agent_v1.LeaveRequest(), agent_v1.LeaveResponse))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert await door.world.entries() == ["vms/mysql-10.0.0.5"]


async def test_an_expired_certificate_does_not_get_in(door: Door) -> None:
    vm = await joined(door)
    key = keys.new_key()
    door.world.offset[0] = timedelta(seconds=-90)
    issued = door.world.authority.sign(
        key.public_key(), MYSQL, common_name="mysql-10.0.0.5", ttl=timedelta(seconds=60)
    )
    door.world.offset[0] = timedelta(0)
    code, _ = await refused(Vm(door, key, issued.chain, vm.entry).leave())
    assert code is grpc.StatusCode.UNAVAILABLE


async def test_the_control_plane_is_no_workload(door: Door) -> None:
    serving = door.world.serving
    assert isinstance(serving.key, ec.EllipticCurvePrivateKey)
    vm = Vm(door, serving.key, serving.chain, await _nobody(door))
    code, _ = await refused(vm.renew(keys.request_pem(keys.new_key())))
    assert code is grpc.StatusCode.PERMISSION_DENIED


async def _nobody(door: Door) -> Object:
    return await door.world.group("nobody")


async def test_a_caller_that_hammers_is_slowed_down(door: Door) -> None:
    vm = await joined(door)
    codes = set()
    for _ in range(8):
        calls = [vm.prove() for _ in range(20)]
        for result in await asyncio.gather(*calls, return_exceptions=True):
            codes.add(result.code() if isinstance(result, grpc.aio.AioRpcError) else None)
    assert codes == {None, grpc.StatusCode.RESOURCE_EXHAUSTED}


async def test_an_unknown_call_is_unimplemented(door: Door) -> None:
    vm = await joined(door)
    call = vm.call("/isthmus.agent.v1.Agent/Nothing", agent_v1.LeaveRequest(), agent_v1.LeaveResponse)
    assert (await refused(call))[0] is grpc.StatusCode.UNIMPLEMENTED


async def test_leaving_takes_only_the_caller_out(door: Door) -> None:
    vm = await joined(door)
    other = await door.world.token(name="second")
    await door.world.registrar.enrol(door.world.application(other, address="10.0.0.6"))
    await vm.leave()
    await vm.leave()
    assert await door.world.entries() == ["vms/mysql-10.0.0.6"]


async def test_health_is_noted_on_the_callers_entry(door: Door) -> None:
    vm = await joined(door)
    await vm.report(healthy=False, message="HTTP status 503\x07" + "x" * 2000)
    told = await vm.health()
    assert (told["status"], told["reason"]) == ("False", "ProbeFailed")
    assert told["message"].startswith("HTTP status 503 xx")
    assert len(told["message"]) == 1000
    await vm.report(healthy=True)
    healthy = await vm.health()
    assert (healthy["status"], healthy["reason"], healthy["message"]) == ("True", "ProbeSucceeded", "")
    await vm.report(healthy=True)
    assert (await vm.health())["lastTransitionTime"] == healthy["lastTransitionTime"]


async def test_health_takes_the_place_of_no_other_condition(door: Door) -> None:
    vm = await joined(door)
    others = [
        {"type": "Programmed", "status": "True"},
        {"type": "Healthy", "status": "Unknown"},
        {"type": "Z"},
    ]
    await door.world.store.apply([UpdateStatus(vm.entry.key, {"conditions": others, "more": 1})])
    await vm.report(healthy=True)
    entry = await door.world.store.get(vm.entry.key)
    assert entry is not None
    assert [each["type"] for each in entry.status["conditions"]] == ["Programmed", "Healthy", "Z"]
    assert entry.status["more"] == 1


async def test_who_has_left_has_no_health(door: Door) -> None:
    vm = await joined(door)
    await vm.leave()
    with pytest.raises(grpc.aio.AioRpcError, match="not registered"):
        await vm.report(healthy=True)
    assert await door.world.entries() == []

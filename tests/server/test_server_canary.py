"""A real canary before a real proxy: what it refuses never arrives, and nothing depends on it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import pytest

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "xds"), str(TESTS / "envoy")]

from golden import CASES, manifests  # noqa: E402
from real_envoy import can_unshare  # noqa: E402
from xds_envoy import cluster, endpoints, listener, page, routes, running  # noqa: E402
from xds_mesh import Mesh, credentials, serving, until  # noqa: E402

from isthmus.api.meta import Key  # noqa: E402
from isthmus.envoy.resource import ROUTES, Resource  # noqa: E402
from isthmus.server.canary import SILENCE_S, Canary  # noqa: E402
from isthmus.xds.vetting import VETTED, Clearance, Vetting, Withheld  # noqa: E402
from quiet_ports import quiet_ports  # noqa: E402

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not can_unshare(), reason="needs network namespaces (unshare --user --net)"),
]

RULE = Key("VirtualService", "shop", "ratings")
OTHER = Key("DestinationRule", "shop", "ratings")


@asynccontextmanager
async def resident(vetting: Vetting, *, silence_s: float = SILENCE_S) -> AsyncIterator[Canary]:
    """A canary that is live."""
    canary = Canary(vetting, silence_s=silence_s)
    async with asyncio.TaskGroup() as tasks:
        running_ = tasks.create_task(canary.run())
        await until(lambda: canary.state == "live")
        try:
            yield canary
        finally:
            running_.cancel()


async def seen(vetting: Vetting, *resources: Resource) -> list[str]:
    """The words against each, empty for none."""

    def said(resource: Resource) -> Clearance | Withheld:
        return vetting.judge(resource)

    await until(lambda: Clearance.PENDING not in [said(each) for each in resources])
    verdicts = [said(each) for each in resources]
    return [each.text if isinstance(each, Withheld) else "" for each in verdicts]


async def programmed(mesh: Mesh, key: Key, answer: str) -> None:
    try:
        await until(lambda: mesh.programmed(key).startswith(answer))
    except TimeoutError:
        pytest.fail(f"{key} is {mesh.programmed(key)}, not {answer}")


def status_of(pid: int) -> dict[str, str]:
    """What the kernel says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def short_of_memory(pid: int | None) -> int:
    """How gladly the kernel ends a process where memory is short, up to 1000."""
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def config(port: int, route: Resource, *, timeout_s: float = 1.0) -> list[Resource]:
    backend = cluster("backend", OTHER, timeout_s=timeout_s)
    return [backend, endpoints("backend", 9, backend), listener(port, "web"), route]


async def test_what_it_refuses_never_reaches_a_proxy(tmp_path: Path) -> None:
    mesh, files, (port,) = Mesh(), credentials(tmp_path), quiet_ports()
    mesh.commit(*config(port, routes("web", RULE, body="good")), touched=(RULE, OTHER))
    async with (
        resident(mesh.vetting),
        serving(mesh, files) as ads_port,
        running(tmp_path, files, ads_port) as admin,
    ):
        await programmed(mesh, RULE, "True Programmed")
        sent = mesh.fleet.sent[ROUTES]
        bad = routes("web", RULE, body="bad", regex="a{1,2000}")
        (second,), neighbour = quiet_ports(), Key("Service", "shop", "neighbour")
        mesh.commit(
            *config(port, bad, timeout_s=2),
            listener(second, "web", neighbour),
            touched=(RULE, OTHER, neighbour),
        )
        await programmed(mesh, RULE, "False Rejected")
        text = mesh.programmed(RULE)
        assert "the canary refused RouteConfiguration 'web'" in text
        assert "the last good version stays" in text
        assert "invalid repetition size: {1,2000}" in text  # Envoy's own words
        await programmed(mesh, OTHER, "True Programmed")
        await programmed(mesh, neighbour, "True Programmed")
        assert await page(port) == await page(second) == "200 good"
        assert await admin.stat("http.web.rds.web.update_rejected") == 0
        assert await admin.stat("listener_manager.lds.update_rejected") == 0
        assert mesh.fleet.sent[ROUTES] == sent
        assert mesh.vetting.counts["late"] == mesh.vetting.counts["unseen"] == 0

        mesh.commit(*config(port, routes("web", RULE, body="mended")), touched=(RULE,))
        await programmed(mesh, RULE, "True Programmed")
        assert await page(port) == "200 mended"


async def test_it_is_killed_and_everything_goes_on(tmp_path: Path) -> None:
    mesh, files, (port,) = Mesh(), credentials(tmp_path), quiet_ports()
    mesh.commit(*config(port, routes("web", RULE, body="0")), touched=(RULE, OTHER))
    async with (
        resident(mesh.vetting) as canary,
        serving(mesh, files) as ads_port,
        running(tmp_path, files, ads_port),
    ):
        await programmed(mesh, RULE, "True Programmed")
        first = canary.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        for number in range(1, 6):
            started = monotonic()
            mesh.commit(*config(port, routes("web", RULE, body=str(number))), touched=(RULE,))
            await programmed(mesh, RULE, "True Programmed")
            assert monotonic() - started < 20
            assert await page(port) == f"200 {number}"
        await until(lambda: canary.state == "live")
        assert canary.pid != first
        assert (await seen(mesh.vetting, routes("web", regex="a{1,2000}")))[0].startswith("invalid")


async def test_it_hangs_and_is_started_again(tmp_path: Path) -> None:
    mesh, files, (port,) = Mesh(), credentials(tmp_path), quiet_ports()
    mesh.commit(*config(port, routes("web", RULE, body="0")), touched=(RULE, OTHER))
    async with (
        resident(mesh.vetting, silence_s=4) as canary,
        serving(mesh, files) as ads_port,
        running(tmp_path, files, ads_port),
    ):
        await programmed(mesh, RULE, "True Programmed")
        first = canary.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        mesh.commit(*config(port, routes("web", RULE, body="1")), touched=(RULE,))
        await programmed(mesh, RULE, "True Programmed")  # without a word of it
        assert await page(port) == "200 1"
        assert mesh.vetting.counts["late"] == 1
        await until(lambda: canary.pid not in (None, first) and canary.state == "live", seconds=20)
        assert canary.starts == 2
        assert (await seen(mesh.vetting, routes("web", regex="a{1,2000}")))[0].startswith("invalid")


async def test_where_memory_is_short_it_goes_first() -> None:
    async with resident(Vetting(monotonic)) as canary:
        assert short_of_memory(canary.pid) == 1000


async def test_it_runs_for_people_without_rights(tmp_path: Path) -> None:
    script = tmp_path / "serve.py"
    script.write_text(AS_A_PERSON)
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--user", "--map-user=1000", "--map-group=1000", sys.executable, str(script)),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, wrong = await process.communicate()
    assert said.decode().split() == ["1000", "live", "refused"], wrong.decode()


AS_A_PERSON = """
import asyncio, os
from time import monotonic
from isthmus.server.canary import SILENCE_S, Canary
from isthmus.xds.vetting import Clearance, Vetting
from xds_envoy import routes

async def main():
    vetting = Vetting(monotonic)
    canary = Canary(vetting)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(canary.run())
        while canary.state == "starting":
            await asyncio.sleep(0.01)
        bad = routes("web", regex="(")
        while vetting.judge(bad) is Clearance.PENDING:
            await asyncio.sleep(0.01)
        refused = "passed" if vetting.judge(bad) is Clearance.PASSED else "refused"
        print(os.geteuid(), canary.state, refused)
        running.cancel()

asyncio.run(main())
"""


async def test_it_has_its_own_network_and_no_rights() -> None:
    async with resident(Vetting(monotonic)) as canary:
        pid = canary.pid
        assert pid is not None
        assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
        status = status_of(pid)
        assert status["NoNewPrivs"] == "1"
        if os.geteuid() == 0:
            assert int(status["CapEff"], 16) == 0
            assert status["Uid"].split()[0] == "65534"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_addresses_that_are_not_here_and_equal_names_are_no_matter() -> None:
    vetting = Vetting(monotonic)
    async with resident(vetting):
        same = [routes("9080", body=str(number)) for number in range(40)]
        bad = routes("9080", regex="(")
        found = await seen(vetting, *same, bad, listener(80, "web", address="192.0.2.1"), listener(80, "web"))
        assert [bool(text) for text in found] == [False] * 40 + [True, False, False]
        assert vetting.counts == {"accepted": 42, "refused": 1}


async def test_every_golden_world_is_taken() -> None:
    vetting = Vetting(monotonic)
    async with resident(vetting):
        for case in CASES:
            made = manifests(case)
            resources = [each for type_url in VETTED for each in made[type_url].values()]
            assert [text for text in await seen(vetting, *resources) if text] == [], case.name
        assert set(vetting.counts) == {"accepted"}


async def test_without_an_envoy_it_is_off_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    vetting = Vetting(monotonic)
    canary = Canary(vetting, binary=lambda: None)
    await canary.run()
    assert canary.state == "off (there is no Envoy on this machine)"
    assert "canary off" in caplog.text
    assert vetting.judge(listener(80, "web")) is Clearance.PASSED
    assert vetting.counts == {"unseen": 1}


async def test_one_that_does_not_come_up_is_not_waited_for(tmp_path: Path) -> None:
    broken = tmp_path / "envoy"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    vetting = Vetting(monotonic)
    canary = Canary(vetting, binary=lambda: broken)
    async with asyncio.TaskGroup() as tasks:
        supervising = tasks.create_task(canary.run())
        await until(lambda: canary.state == "starting again")
        await until(lambda: vetting.judge(listener(80, "web")) is Clearance.PASSED)
        supervising.cancel()

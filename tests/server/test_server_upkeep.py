"""What the clock brings, and a disk that is full."""

import asyncio
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from enrolment_world import World, world

from isthmus.identity import keys
from isthmus.server import access, upkeep
from isthmus.server.advertised import register
from isthmus.server.upkeep import keep_renewed, sweep


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def test_join_tokens_are_swept_a_day_after_they_expired(here: World) -> None:
    await here.group()
    await here.token(name="old")
    here.offset[0] = timedelta(days=1)
    await here.token(name="young")
    assert await sweep(here.store, here.now()) == 0
    here.offset[0] = timedelta(days=1, minutes=16)
    assert await sweep(here.store, here.now()) == 1
    tokens, _ = await here.store.list("JoinToken")
    assert [token.key.name for token in tokens] == ["young"]


async def test_a_certificate_that_cannot_be_written_is_tried_again(
    here: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upkeep, "INTERVAL_S", 0.001)
    monkeypatch.setattr(upkeep, "AGAIN_S", 0.001)
    here.offset[0] = timedelta(days=20)
    before, tries = here.serving.chain, []

    def full(*_: object) -> None:
        tries.append(1)
        raise OSError(28, "No space left on device")

    async with asyncio.TaskGroup() as tasks, asyncio.timeout(60):
        with monkeypatch.context() as disk:
            disk.setattr(keys, "write_durably", full)
            task = tasks.create_task(keep_renewed(here.serving))
            while len(tries) < 3:  # noqa: ASYNC110 - a loop of ours is waited for
                await asyncio.sleep(0.001)
        while here.serving.chain == before:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        task.cancel()
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 1


async def test_a_restart_writes_nothing_about_itself(here: World) -> None:
    await register(here.store, ["10.0.0.1", "fd00::1"], probe_port=15014)
    revision = here.store.revision
    await here.store.close()  # from now on every write is StoreUnavailable
    await register(here.store, ["10.0.0.1", "fd00::1"], probe_port=15014)
    assert here.store.revision == revision


def test_people_wait_when_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    access.admin_access(tmp_path, server="https://a:1", roots="r")
    before = (tmp_path / "users.json").stat().st_mtime_ns

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(access, "write_durably", full)
    users = access.admin_access(tmp_path, server="https://b:1", roots="r")
    assert [account.name for account in users.all()] == ["admin"]
    assert (tmp_path / "users.json").stat().st_mtime_ns == before
    assert "No space left" in caplog.text

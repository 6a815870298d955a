"""A store for each test: opened once, or closed and opened again before every read."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from store_world import StoreWorld


@pytest.fixture(params=["open", "reopened"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreWorld]:
    """A store, its clock, and what a test does with it."""
    found = StoreWorld(tmp_path / "isthmus.db", reopens=request.param == "reopened")
    await found.open()
    yield found
    await found.store.close()

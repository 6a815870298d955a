"""Each store for each test: opened once, or closed and opened again before every read."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from store_world import STORES, StoreWorld


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    """Which store."""
    return str(request.param)


@pytest.fixture(params=["open", "reopened"])
async def world(request: pytest.FixtureRequest, store: str, tmp_path: Path) -> AsyncIterator[StoreWorld]:
    """A store, its clock, and what a test does with it."""
    found = StoreWorld(STORES[store], tmp_path, reopens=request.param == "reopened")
    await found.open()
    yield found
    await found.store.close()

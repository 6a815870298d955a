from datetime import UTC, datetime
from pathlib import Path

import pytest
from identity_clock import Clock

from isthmus.identity.ca import Authority


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime.now(UTC).replace(microsecond=0))


@pytest.fixture
def authority(tmp_path: Path, clock: Clock) -> Authority:
    return Authority.open(tmp_path / "ca", "cluster.local", clock)

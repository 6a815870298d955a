"""A clock for tests."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    time: datetime

    def __call__(self) -> datetime:
        return self.time

    def forward(self, **span: float) -> None:
        self.time += timedelta(**span)

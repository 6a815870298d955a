"""A signal -> the orderly end of whatever runs."""

import asyncio
import contextlib
import signal
from collections.abc import Coroutine, Iterator

_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""SIGHUP too: a terminal that is closed takes the sidecar down in order, and not with the rules in place."""


class Stopped(Exception):
    """Somebody asked the agent to stop."""


async def until(stop: asyncio.Event, work: Coroutine[None, None, None]) -> None:
    """Runs the work; raises Stopped when the event comes first, and the work's own first failure bare."""

    async def watch() -> None:
        await stop.wait()
        raise Stopped

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(watch())
            group.create_task(work)
    except BaseExceptionGroup as errors:
        raise first(errors) from None


def first(error: BaseException) -> BaseException:
    """The one failure of a group that says most."""
    while isinstance(error, BaseExceptionGroup):
        # being told to stop explains whatever else broke on the way down
        stopped = [each for each in error.exceptions if isinstance(each, Stopped)]
        error = stopped[0] if stopped else error.exceptions[0]
    return error


@contextlib.contextmanager
def signals(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in _STOPPING:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in _STOPPING:
            loop.remove_signal_handler(number)

"""The end of a server in a test: no connection of it is left for the garbage collector of a later test."""

import asyncio


async def hang_up() -> None:
    """Ends every connection of this loop, those that are still shaking hands too."""
    known = asyncio.get_running_loop()._transports  # type: ignore[attr-defined]  # told of nowhere else
    for transport in [*known.values()]:
        transport.abort()
    await asyncio.sleep(0)  # the loop closes what was aborted
    assert not [each for each in known.values() if each._sock is not None]

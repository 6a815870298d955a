"""The end of a server in a test: no connection of it is left for the garbage collector of a later test."""

import asyncio


async def hang_up() -> None:
    """Ends every connection of this loop: those that are still shaking hands, those accepted just now."""
    known = asyncio.get_running_loop()._transports  # type: ignore[attr-defined]  # told of nowhere else
    await asyncio.sleep(0)  # who was accepted last becomes one
    while left := [each for each in known.values() if each._sock is not None]:
        for transport in left:
            transport.abort()
        await asyncio.sleep(0)  # the loop closes what was aborted

"""A connection to the real machine's loopback becomes one to a lab host: a plain TCP relay in the leader.

The listening socket was opened outside and handed in: a socket stays in the network namespace of its birth.
"""

import asyncio
import contextlib

CHUNK = 65536


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str, port: int) -> None:
    """Carry one accepted connection to `address:port` and back until both sides have finished."""
    try:
        far_reader, far_writer = await asyncio.open_connection(address, port)
    except OSError:
        writer.transport.abort()  # as a closed port would look, not like an empty answer
        return
    try:
        async with asyncio.TaskGroup() as directions:
            directions.create_task(_pump(reader, far_writer))
            directions.create_task(_pump(far_reader, writer))
    finally:
        writer.close()
        far_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

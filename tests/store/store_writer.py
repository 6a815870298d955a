"""A process that writes until it is killed, and says on its output what was acknowledged."""

import asyncio
import sys
from pathlib import Path

from store_world import entry, key

from isthmus.store.base import Create, Mutate
from isthmus.store.sqlite import SqliteStore


async def main() -> None:
    """Writes pairs of objects and a counter from several tasks at once, for ever."""
    store = await SqliteStore.open(Path(sys.argv[1]))
    objects, _ = await store.list("WorkloadEntry")

    async def write(writer: int) -> None:
        number = 1 + max(
            (int(obj.key.name.split("-")[2]) for obj in objects if obj.key.name.startswith(f"one-{writer}-")),
            default=0,
        )
        while True:
            name = f"{writer}-{number}"
            await store.apply([Create(entry(f"one-{name}")), Create(entry(f"two-{name}"))])
            sys.stdout.write(f"{name}\n")
            sys.stdout.flush()
            await store.apply([Mutate(key(f"two-{name}"), lambda obj: obj)])
            number += 1

    async with asyncio.TaskGroup() as tasks:
        for writer in range(4):
            tasks.create_task(write(writer))


asyncio.run(main())

"""`python -m bench.writers PORT DIRECTORY SECONDS VERB KIND PREFIX PRESENT`: sixteen clients write for long.

create   new objects                patch   the spec of those that are there, PREFIX0 … PREFIX(PRESENT - 1)

Each waits for its answer, which comes when the write is durable. What they did is printed as JSON: how many
writes, how many in each second, median and 99th percentile of their latencies in ms, and the part of a core
that this process took. It is a process of its own, so that the server is measured and not the client.
"""

import asyncio
import json
import resource
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import uvloop

from bench import client
from bench.servers import Api, at

CLIENTS = 16


async def write(api: Api, seconds: float, verb: str, kind: str, prefix: str, present: int) -> dict[str, Any]:
    """Writes; gives what was done."""
    by_second: dict[int, int] = {}
    latencies: list[float] = []
    began = time.monotonic()

    async def one(index: int) -> None:
        async with client.connected(api) as connection:
            for turn in count():
                number = index + turn * CLIENTS
                started = time.monotonic()
                if started - began >= seconds:
                    return
                if verb == "create":
                    name = f"{prefix}{number}"
                    await connection.ask("POST", client.path(kind), client.document(kind, name, number))
                else:
                    name = f"{prefix}{number % present}"
                    changed = client.document(kind, name, number + 7919 * (1 + number // present))
                    patch = {"spec": changed["spec"]}
                    await connection.ask("PATCH", f"{client.path(kind)}/{name}", patch)
                done = time.monotonic()
                latencies.append((done - started) * 1000)
                by_second[int(done - began)] = by_second.get(int(done - began), 0) + 1

    async with asyncio.TaskGroup() as tasks:
        for index in range(CLIENTS):
            tasks.create_task(one(index))
    used = resource.getrusage(resource.RUSAGE_SELF)
    cores = (used.ru_utime + used.ru_stime) / seconds
    whole = [by_second.get(second, 0) for second in range(int(seconds))]
    latencies.sort()
    p50, p99 = (latencies[int(len(latencies) * part)] for part in (0.5, 0.99))
    return {"writes": len(latencies), "by_second": whole, "p50": p50, "p99": p99, "cores": cores}


def main() -> None:
    """Runs the command."""
    port, directory, seconds, verb, kind, prefix, present = sys.argv[1:]
    api = at(int(port), Path(directory))
    print(json.dumps(uvloop.run(write(api, float(seconds), verb, kind, prefix, int(present)))))


if __name__ == "__main__":
    main()

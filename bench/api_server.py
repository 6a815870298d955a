"""The API and its store alone, with TLS, in a process of their own: no mesh, no proxies."""

import asyncio
import signal
import socket
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import uvloop

from isthmus.identity.ca import Authority
from isthmus.identity.jointoken import mint
from isthmus.identity.serving import ServingIdentity
from isthmus.server.access import admin_access
from isthmus.server.app import prepare_process
from isthmus.server.doors import api_server
from isthmus.server.kube_api import kube_api
from isthmus.server.paths import Paths
from isthmus.store.sqlite import SqliteStore


async def serve(directory: Path) -> None:
    """Serves until it is stopped; says when it is ready, as `isthmus serve` does."""
    authority = Authority.open(directory / "ca", "cluster.local", _now)
    identity = ServingIdentity.open(directory / "serving", authority, ("127.0.0.1",), _now)
    store = await SqliteStore.open(directory / "isthmus.db")
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        port = listener.getsockname()[1]
        users = admin_access(directory, server=f"https://127.0.0.1:{port}", roots=authority.roots)
        routes = kube_api(
            store,
            authenticate=users.authenticate,
            mint_token=partial(mint, addresses=[f"127.0.0.1:{port}"], pin=identity.pin()),
        )
        server = api_server(Paths(routes), identity, users)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, partial(setattr, server, "should_exit", True))
        print(f"ready: API https://127.0.0.1:{port}", flush=True)
        await server.serve([listener])
    await store.close()


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    prepare_process()
    uvloop.run(serve(Path(sys.argv[1])))

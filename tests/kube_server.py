"""A real API server over TLS on loopback, in a thread of its own: store, routes, kubeconfig."""

import asyncio
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import uvicorn

from hanging_up import hang_up
from isthmus.identity.ca import Authority
from isthmus.identity.jointoken import mint
from isthmus.identity.serving import ServingIdentity
from isthmus.server.access import KUBECONFIG, admin_access
from isthmus.server.backups import backup_routes
from isthmus.server.kube_api import kube_api
from isthmus.server.paths import Paths
from isthmus.server.people_tls import for_people
from isthmus.server.user_api import user_routes
from isthmus.store.base import Store
from isthmus.store.sqlite import SqliteStore

T = TypeVar("T")


@dataclass(slots=True)
class Reply:
    """What the server answered."""

    code: int
    document: Any
    warnings: list[str] = field(default_factory=list)


class KubeServer:
    """A running API server. `request` speaks to it as any HTTP client would."""

    def __init__(self, store: Store, port: int, directory: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.store, self.port, self.loop = store, port, loop
        self.kubeconfig = directory / KUBECONFIG
        self.context = ssl.create_default_context(cafile=str(directory / "roots.pem"))
        self.token = (directory / "token").read_text()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Does something with the store in the server's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def connect(self) -> http.client.HTTPSConnection:
        """A connection to the server."""
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=self.context)

    def headers(self) -> dict[str, str]:
        """What an authorised client sends."""
        return {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}

    def request(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None
    ) -> Reply:
        """One request; the body is JSON, or bytes as they are."""
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = self.connect()
        connection.request(method, path, raw, self.headers() | (headers or {}))
        response = connection.getresponse()
        content = response.read()
        connection.close()
        warnings = response.headers.get_all("Warning") or []
        is_json = (response.headers["content-type"] or "").startswith("application/json")
        return Reply(response.status, json.loads(content) if is_json else content, warnings)

    def apply(self, *objects: dict[str, Any], dry_run: bool = False) -> Reply:
        """One batch."""
        return self.request(
            "POST", "/apis/isthmus.dev/v1alpha1/apply", {"objects": objects, "dryRun": dry_run}
        )


class _Server(uvicorn.Server):
    """uvicorn, which says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()


@contextmanager
def kube_server(directory: Path) -> Iterator[KubeServer]:
    """Starts a server whose state is in the directory, and stops it."""
    authority = Authority.open(directory / "ca", "cluster.local", lambda: datetime.now(UTC))
    identity = ServingIdentity.open(
        directory / "serving", authority, ("127.0.0.1",), lambda: datetime.now(UTC)
    )
    started: list[KubeServer] = []
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        store = await SqliteStore.open(directory / "isthmus.db")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            # connections inherit it: else every answer waits 40 ms for an acknowledgement
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            port = listener.getsockname()[1]
            users = admin_access(directory, server=f"https://127.0.0.1:{port}", roots=authority.roots)
            (directory / "roots.pem").write_text(authority.roots)
            kubeconfig = (directory / KUBECONFIG).read_text()
            (directory / "token").write_text(kubeconfig.split("token: ")[1].split()[0])
            routes = kube_api(
                store,
                authenticate=users.authenticate,
                more=lambda known: [*user_routes(users, known), *backup_routes(store, known)],
                mint_token=partial(mint, addresses=[f"127.0.0.1:{port}"], pin=identity.pin()),
            )
            config = uvicorn.Config(
                Paths(routes),
                lifespan="off",
                log_config=None,
                access_log=False,
                ws="none",
                timeout_graceful_shutdown=1,
            )
            config.load()
            for_people(config, identity.server_context(alpn=["http/1.1"], clients=False), users)
            server = _Server(config)
            started.append(KubeServer(store, port, directory, asyncio.get_running_loop()))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(server.serve([listener]))
                await server.listens.wait()
                ready.set()
                await asyncio.to_thread(stop.wait)
                server.should_exit = True
        await hang_up()
        await store.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(60), "the server did not start"
        yield started[0]
    finally:
        stop.set()
        thread.join(60)

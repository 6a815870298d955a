"""`GET /apis/isthmus.dev/v1alpha1/backup`: the whole store as one file, made while work goes on.

The file is a store of its own, as `archives` packs it. Keys and certificates never leave through here: they
are files of the state directory.
"""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from isthmus.server.roles import User
from isthmus.server.status_errors import forbidden
from isthmus.store.sqlite import SqliteStore

PATH = "/apis/isthmus.dev/v1alpha1/backup"


def backup_routes(store: SqliteStore, guarded: Any) -> list[Route]:
    """The route; `guarded` makes an endpoint of a handler that wants to know who asks."""

    async def backup(_: Request, user: User) -> Response:
        if not user.is_admin:
            raise forbidden(
                user.name, 'get resource "backup" in API group "isthmus.dev"', "backup.isthmus.dev"
            )
        directory = await asyncio.to_thread(lambda: Path(tempfile.mkdtemp(prefix="isthmus-backup-")))
        path = directory / "isthmus.db"
        try:
            await store.copy(path)
        except BaseException:
            _forget(path)
            raise
        return FileResponse(
            path, media_type="application/vnd.sqlite3", background=BackgroundTask(_forget, path)
        )

    return [Route(PATH, guarded(backup), methods=["GET"])]


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.parent.rmdir()

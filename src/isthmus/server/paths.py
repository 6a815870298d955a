"""A request -> the first route that its path fits, and nothing in between.

Every handler of ours tells its own refusals (`kube_api.told`), so there is no middleware for them to pass:
what a framework does around each request would cost a write a tenth of its time.
"""

from collections.abc import Sequence
from typing import TypeGuard

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

AT_ONCE = "isthmus.dev/at-once"
"""The extension of ASGI by which a server takes a whole answer: `(Response) -> whether it did`."""


class Paths:
    """An ASGI application over routes; endpoints are coroutine functions."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._plain = {route.path: route for route in reversed(routes) if _is_plain(route)}
        self._patterns = [route for route in routes if not _is_plain(route)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        refused: Response = PlainTextResponse("Not Found", status_code=404)
        plain = self._plain.get(scope["path"])
        for route in (plain, *self._patterns) if plain else self._patterns:
            match, found = route.matches(scope)
            if match is Match.FULL:
                scope.update(found)
                if isinstance(route, Route):
                    response: Response = await route.endpoint(Request(scope, receive, send))
                    at_once = scope["extensions"].get(AT_ONCE) if "extensions" in scope else None
                    if at_once is None or type(response) is not Response or not at_once(response):
                        await response(scope, receive, send)
                else:
                    await route.handle(scope, receive, send)
                return
            if match is Match.PARTIAL:
                refused = PlainTextResponse("Method Not Allowed", status_code=405)
        await refused(scope, receive, send)


def _is_plain(route: BaseRoute) -> TypeGuard[Route]:
    return isinstance(route, Route) and not route.param_convertors

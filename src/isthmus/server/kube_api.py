"""Requests in Kubernetes' shape -> what answers them, for those who are known and may ask.

    /api, /apis, /openapi/v3      what is served                    kube_discovery
    GET                           get, list, watch                  kube_reads
    POST, PUT, PATCH              writes, also of /status           kube_writes
    DELETE                        of one or of many                 kube_deletes
    /apis/isthmus.dev/v1alpha1/apply                                batch: many objects, all or nothing

Every answer that is not the one asked for is a `Status`; warnings come in headers.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

from isthmus.api.meta import Problem
from isthmus.server import kube_discovery
from isthmus.server.admission import (
    Admission,
    FinalizersSettled,
    Foresee,
    NamespaceEnds,
    NamespaceMissing,
)
from isthmus.server.authentication import Authenticate
from isthmus.server.batch import apply_batch
from isthmus.server.join_tokens import MintToken
from isthmus.server.kube_access import review, rules_review, subject_review
from isthmus.server.kube_bodies import object_body
from isthmus.server.kube_deletes import Deletes
from isthmus.server.kube_http import Target, answer, flag, form, target
from isthmus.server.kube_reads import Reads
from isthmus.server.kube_writes import Writes
from isthmus.server.roles import Act, User, allowed, denial
from isthmus.server.status_errors import (
    Failure,
    failure_of,
    invalid,
    method_not_allowed,
    no_such_path,
    resource,
    unauthorized,
)
from isthmus.store.base import Store, StoreError

_log = logging.getLogger(__name__)
_WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
_REVIEWS = "/apis/authorization.k8s.io/v1"

Handler = Callable[[Request], Awaitable[Response]]
Known = Callable[[Request, User], Awaitable[Response]]
"""A handler for requests of which it is known who makes them."""


def kube_api(
    store: Store,
    *,
    authenticate: Authenticate,
    more: Callable[[Callable[[Known], Handler]], Sequence[Route]] = lambda _: (),
    mint_token: MintToken,
    foresee: Foresee = lambda _: {},
    now: Callable[[], float] = time.time,
) -> list[BaseRoute]:
    """The routes of the API. `foresee` warns of objects before they are written.

    `more` makes further routes below `/apis`, for those who are known.
    """
    admission = Admission(store, foresee=foresee)
    api = _Api(Reads(store), Writes(store, admission, mint_token, now), Deletes(store))

    def known(handler: Known) -> Handler:
        return guarded(handler, authenticate)

    async def apply(request: Request, user: User) -> Response:
        return await apply_batch(admission, request, user, now)

    async def review_subject(request: Request, user: User) -> Response:
        await object_body(request)
        return answer(subject_review(user), code=201)

    async def review_access(request: Request, user: User) -> Response:
        return answer(review(await object_body(request), user), code=201)

    async def review_rules(request: Request, user: User) -> Response:
        return answer(rules_review(await object_body(request), user), code=201)

    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
    return [
        *more(known),
        # those asked for most come first: routes are tried in turn
        Route("/apis/isthmus.dev/v1alpha1/apply", known(apply), methods=["POST"]),
        Route(_WHO, known(review_subject), methods=["POST"]),
        Route(f"{_REVIEWS}/selfsubjectaccessreviews", known(review_access), methods=["POST"]),
        Route(f"{_REVIEWS}/selfsubjectrulesreviews", known(review_rules), methods=["POST"]),
        Route("/api/v1/{rest:path}", known(api.serve), methods=methods),
        Route("/apis/{group}/{version}/{rest:path}", known(api.serve), methods=methods),
        Route("/version", told(_document(lambda _: kube_discovery.version()))),
        *(Route(path, told(_fine)) for path in ("/healthz", "/livez", "/readyz")),
        Route("/api", known(_discovery(core=True))),
        Route("/apis", known(_discovery(core=False))),
        Route("/openapi/v3", known(_known(_document(lambda _: kube_discovery.schema_index())))),
        Route("/openapi/v3/{path:path}", known(_known(_schema))),
        Route("/openapi/v2", known(_known(_old_schema))),
        Route("/apis/{group}", known(_known(_document(lambda path: kube_discovery.group(path["group"]))))),
        Route("/api/v1", known(_known(_document(lambda _: kube_discovery.resources("", "v1"))))),
        Route(
            "/apis/{group}/{version}",
            known(_known(_document(lambda path: kube_discovery.resources(path["group"], path["version"])))),
        ),
        _Elsewhere(told(_nowhere)),
    ]


def guarded(handler: Known, authenticate: Authenticate) -> Handler:
    """A handler for everybody; who is not known gets 401."""

    async def checked(request: Request) -> Response:
        user = authenticate(request)
        if user is None:
            raise unauthorized()
        return await handler(request, user)

    return told(checked)


def told(handler: Handler) -> Handler:
    """A handler whose refusals become `Status` documents."""

    async def answered(request: Request) -> Response:
        try:
            return await handler(request)
        except Exception as error:
            failure = _failure(error)
            if failure.code == 500:
                _log.exception("request failed method=%s path=%s", request.method, request.url.path)
        response = answer(failure.document(), code=failure.code, warnings=failure.warnings)
        if again := failure.details.get("retryAfterSeconds"):
            response.headers["retry-after"] = str(again)
        return response

    return answered


def _failure(error: Exception) -> Failure:
    match error:
        case Failure():
            return error
        case NamespaceMissing(key=key):
            details = {"name": key.namespace, "kind": "namespaces"}
            return Failure(404, "NotFound", f'namespaces "{key.namespace}" not found', details)
        case NamespaceEnds(key=key):
            text = f"unable to create new content in namespace {key.namespace} because it is being terminated"
            return Failure(403, "Forbidden", f'"{key.name}" is forbidden: {text}', {"name": key.name})
        case FinalizersSettled(key=key):
            return invalid(key, [Problem("metadata.finalizers", f"Forbidden: {error}")])
        case StoreError():
            return failure_of(error)
        case RecursionError():
            return Failure(400, "BadRequest", "the object is nested too deeply")
    return Failure(500, "InternalError", "Internal error occurred: see the server's log")


def _document(make: Callable[[Mapping[str, str]], Mapping[str, Any] | None]) -> Handler:
    async def document(request: Request) -> Response:
        found = make(request.path_params)
        if found is None:
            raise no_such_path()
        return answer(found)

    return document


def _known(handler: Handler) -> Known:
    return lambda request, _: handler(request)


def _discovery(*, core: bool) -> Known:
    async def discover(request: Request, _: User) -> Response:
        api_version = kube_discovery.aggregated(request)
        if api_version is None:
            return answer(kube_discovery.core_versions() if core else kube_discovery.groups())
        response = answer(kube_discovery.aggregated_groups(api_version, core=core))
        response.headers["content-type"] = kube_discovery.aggregated_type(api_version)
        response.headers["vary"] = "Accept"
        return response

    return discover


async def _schema(request: Request) -> Response:
    found = kube_discovery.schema(request.path_params["path"])
    if found is None:
        raise no_such_path()
    return answer(found)


async def _old_schema(request: Request) -> Response:
    body, media_type = kube_discovery.old_schema(request.headers.get("accept", ""))
    return Response(body, media_type=media_type)


async def _fine(_: Request) -> Response:
    return Response("ok", media_type="text/plain")


async def _nowhere(_: Request) -> Response:
    raise no_such_path()


class _Elsewhere(BaseRoute):
    """Every path: that of a `Route` ends before a line break."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """All of HTTP."""
        return (Match.FULL if scope["type"] == "http" else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers the request."""
        response = await self._handler(Request(scope, receive))
        await response(scope, receive, send)


@dataclass(frozen=True, slots=True)
class _Api:
    """What a request on a resource does."""

    reads: Reads
    writes: Writes
    deletes: Deletes

    async def serve(self, request: Request, user: User) -> Response:
        """Answers a request on a kind's objects, or on one of them."""
        group, version = request.path_params.get("group", ""), request.path_params.get("version", "v1")
        wanted = target(group, version, request.path_params["rest"])
        if wanted is None:
            raise no_such_path()
        verb, handler = self._handler(request, wanted)
        act = Act(verb, wanted.kind, wanted.namespace or "", wanted.name, wanted.status)
        if not allowed(user, act):
            what = f'{resource(wanted.kind)} "{wanted.name}"' if wanted.name else resource(wanted.kind)
            details = {"name": wanted.name, "group": wanted.kind.group, "kind": wanted.kind.plural}
            raise Failure(
                403,
                "Forbidden",
                f"{what} is forbidden: {denial(user, act)}",
                {name: value for name, value in details.items() if value},
            )
        form(request)  # what cannot be shown is not done
        return await handler(request, wanted)

    def _handler(
        self, request: Request, wanted: Target
    ) -> tuple[str, Callable[[Request, Target], Awaitable[Response]]]:
        reads, writes = self.reads, self.writes
        match request.method, bool(wanted.name), wanted.status:
            case "GET" | "HEAD", False, _:
                return "watch" if flag(request, "watch") else "list", reads.many
            case "GET" | "HEAD", True, _:
                return "get", reads.get
            case "POST", False, _ if wanted.namespace is not None or not wanted.kind.namespaced:
                return "create", writes.create
            case "PUT", True, _:
                return "update", writes.replace
            case "PATCH", True, _:
                return "patch", writes.patch
            case "DELETE", True, False:
                return "delete", self.deletes.one
            case "DELETE", False, _ if wanted.namespace is not None or not wanted.kind.namespaced:
                return "deletecollection", self.deletes.many
        raise method_not_allowed(request.method, wanted.kind)

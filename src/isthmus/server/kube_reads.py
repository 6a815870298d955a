"""GET of one object or of many: as they are, as a table, in pages, from a revision on, or as a watch.

https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
"""

import base64
import binascii
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from isthmus.api.meta import Object, Problem
from isthmus.api.text import dumped, text
from isthmus.server import kube_tables
from isthmus.server.kube_encoding import Encodings
from isthmus.server.kube_http import Target, answer, flag, form, number, version
from isthmus.server.kube_watch import LONGEST_S, Watched, WatchResponse
from isthmus.server.selectors import Selects, field_selector, label_selector
from isthmus.server.status_errors import Failure, bad_request, not_found, option_invalid
from isthmus.store.base import Store

_SNAPSHOTS = 64
"""Lists that clients read in pages at the same time."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """A list that is read in pages: every page is of the same moment."""

    objects: Sequence[Object]
    revision: int
    asked: tuple[str, ...]


@dataclass(slots=True)
class Reads:
    """What a GET on a kind or an object answers."""

    store: Store
    encodings: Encodings = field(default_factory=Encodings)
    _snapshots: OrderedDict[tuple[int, tuple[str, ...]], _Snapshot] = field(default_factory=OrderedDict)

    async def get(self, request: Request, wanted: Target) -> Response:
        """One object."""
        obj = await self.store.get(wanted.key)
        if obj is None:
            raise not_found(wanted.key)
        self._not_older(version(request.query_params.get("resourceVersion")))
        return answer(shown(obj, wanted, request, text))

    async def many(self, request: Request, wanted: Target) -> Response:
        """The objects of a kind that a request selects, or a watch of them."""
        number(request, "timeoutSeconds")
        watches = bool(flag(request, "watch"))
        if problems := list(_problems(request, watches=watches)):
            raise option_invalid(request.method, *problems)
        if watches:
            return self._watch(request, wanted)
        selects = selection(request, wanted)
        snapshot, start = await self._snapshot(request, wanted)
        limit = number(request, "limit")
        chosen = snapshot.objects[start:]
        selected = [obj for obj in chosen if selects(obj)] if _selects_some(request) else list(chosen)
        page = selected[:limit] if limit else selected
        metadata: dict[str, Any] = {"resourceVersion": str(snapshot.revision)}
        if len(page) < len(selected):
            metadata["continue"] = self._remember(snapshot, page[-1])
            if not _selects_some(request):
                metadata["remainingItemCount"] = len(selected) - len(page)
        return answer(self._list(page, wanted, request, metadata))

    def _list(
        self, page: Sequence[Object], wanted: Target, request: Request, metadata: dict[str, Any]
    ) -> bytes:
        wants = form(request)
        if wants == "table":
            return dumped(kube_tables.table(wanted.kind, rows(page, wanted, include(request)), metadata))
        if wants == "metadata":
            kind, api_version = "PartialObjectMetadataList", "meta.k8s.io/v1"
            items = [dumped(kube_tables.metadata_document(obj)) for obj in page]
        else:
            kind, api_version = f"{wanted.kind.kind}List", wanted.api_version
            items = [text(obj, api_version) for obj in page]
        head = dumped({"kind": kind, "apiVersion": api_version, "metadata": metadata})
        return head[:-1] + b',"items":[' + b",".join(items) + b"]}"

    async def _snapshot(self, request: Request, wanted: Target) -> tuple[_Snapshot, int]:
        """The list that is asked for, and where to begin in it."""
        query, asked = request.query_params, _asked(request, wanted)
        token = query.get("continue", "")
        if token:
            if query.get("resourceVersion", "") not in ("", "0"):
                raise bad_request("specifying resource version is not allowed when using continue")
            revision, after = _place(token)
            known = self._snapshots.get((revision, asked))
            if known is None:
                raise Failure(
                    410,
                    "Expired",
                    "The provided continue parameter is too old to display a consistent list result. "
                    "You must start a new list without the continue parameter.",
                )
            return known, _index_after(known.objects, after)
        exact = self._check_revision(request)
        objects, revision = await self.store.list(wanted.kind.kind, wanted.namespace)
        if exact is not None and exact != revision:
            known = self._snapshots.get((exact, asked))
            if known is None:
                raise Failure(
                    410, "Expired", f"The resourceVersion for the provided list is too old: {exact}"
                )
            return known, 0
        return _Snapshot(objects, revision, asked), 0

    def _remember(self, snapshot: _Snapshot, last: Object) -> str:
        key = (snapshot.revision, snapshot.asked)
        self._snapshots[key] = snapshot
        self._snapshots.move_to_end(key)
        while len(self._snapshots) > _SNAPSHOTS:
            self._snapshots.popitem(last=False)
        place = {"v": "meta.k8s.io/v1", "rv": snapshot.revision, "after": [last.key.namespace, last.key.name]}
        return base64.urlsafe_b64encode(dumped(place)).decode().rstrip("=")

    def _check_revision(self, request: Request) -> int | None:
        """The revision that must be met exactly, if any; a Failure when the asked one is not here yet."""
        query = request.query_params
        match, revision = query.get("resourceVersionMatch", ""), version(query.get("resourceVersion"))
        self._not_older(revision)
        # with a limit and no match rule, Kubernetes reads the very revision
        legacy = not match and revision and number(request, "limit")
        return revision if match == "Exact" or legacy else None

    def _not_older(self, revision: int | None) -> None:
        if revision and revision > self.store.revision:
            causes = [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]
            raise Failure(
                504,
                "Timeout",
                f"Too large resource version: {revision}, current: {self.store.revision}",
                {"causes": causes, "retryAfterSeconds": 1},
            )

    def _watch(self, request: Request, wanted: Target) -> Response:
        initial, bookmarks = flag(request, "sendInitialEvents"), bool(flag(request, "allowWatchBookmarks"))
        since = version(request.query_params.get("resourceVersion")) or None
        if initial:
            since = None
        elif initial is False and since is None:
            since = self.store.revision
        watched = Watched(
            wanted,
            selection(request, wanted),
            form(request),
            since,
            min(float(number(request, "timeoutSeconds")), LONGEST_S) or LONGEST_S,
            bookmarks=bookmarks,
            marks_end=bool(initial) and bookmarks,
            include=include(request),
        )
        return WatchResponse(self.store, self.encodings, watched)


def selection(request: Request, wanted: Target) -> Selects:
    """The objects that a request means; 400 when that cannot be read."""
    query = request.query_params
    try:
        labels = label_selector(query.get("labelSelector", ""))
        fields = field_selector(query.get("fieldSelector", ""), wanted.kind)
    except ValueError as error:
        raise bad_request(str(error)) from None
    return lambda obj: labels(obj) and fields(obj)


def _selects_some(request: Request) -> bool:
    return any(request.query_params.get(name) for name in ("labelSelector", "fieldSelector"))


def shown(
    obj: Object, wanted: Target, request: Request, document: Callable[[Object, str], bytes] = text
) -> Mapping[str, Any] | bytes:
    """One object in the form that the client asks for."""
    match form(request):
        case "whole":
            return document(obj, wanted.api_version)
        case "metadata":
            return kube_tables.metadata_document(obj)
    metadata = {"resourceVersion": str(obj.meta.resource_version)}
    return kube_tables.table(wanted.kind, rows([obj], wanted, include(request)), metadata)


def rows(objects: Sequence[Object], wanted: Target, wants: str) -> list[dict[str, Any]]:
    """Objects as rows of a table."""
    now = kube_tables.utc_now()
    return [kube_tables.row(obj, wanted.kind, wanted.api_version, now, include=wants) for obj in objects]


def include(request: Request) -> str:
    """What comes with each row of a table; empty: the metadata."""
    wants = request.query_params.get("includeObject", "")
    if wants not in {"", "None", "Metadata", "Object"} and form(request) == "table":
        raise bad_request(f"includeObject: Invalid value: {wants[:40]!r}: None, Metadata or Object")
    return "" if wants == "Metadata" else wants


def _problems(request: Request, *, watches: bool) -> Iterator[Problem]:
    """What is wrong with the parameters of a list or a watch, in Kubernetes' words."""
    query, match = request.query_params, request.query_params.get("resourceVersionMatch", "")
    initial = flag(request, "sendInitialEvents")
    if not watches and initial is not None:
        yield Problem("sendInitialEvents", "Forbidden: sendInitialEvents is forbidden for list")
    if watches and initial is not None and match != "NotOlderThan":
        said = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        yield Problem("resourceVersionMatch", said)
    if watches and initial is not None and match not in {"", "NotOlderThan"}:
        said = f'Unsupported value: "{match[:40]}": supported values: "NotOlderThan"'
        yield Problem("resourceVersionMatch", said)
    if watches and initial is None and match:
        said = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        yield Problem("resourceVersionMatch", said)
    if watches or not match:
        return
    if not query.get("resourceVersion"):
        said = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
        yield Problem("resourceVersionMatch", said)
    if match not in {"Exact", "NotOlderThan"}:
        said = f'Unsupported value: "{match[:40]}": supported values: "Exact", "NotOlderThan"'
        yield Problem("resourceVersionMatch", said)
    if match == "Exact" and query.get("resourceVersion") == "0":
        said = 'Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        yield Problem("resourceVersionMatch", said)


def _asked(request: Request, wanted: Target) -> tuple[str, ...]:
    query = request.query_params
    return (
        wanted.kind.kind,
        "*" if wanted.namespace is None else f"in {wanted.namespace}",
        query.get("labelSelector", ""),
        query.get("fieldSelector", ""),
    )


def _place(token: str) -> tuple[int, tuple[str, str]]:
    try:
        place = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        revision, (namespace, name) = place["rv"], place["after"]
    except (ValueError, TypeError, KeyError, binascii.Error):
        raise bad_request("continue key is not valid: it is not one that was given here") from None
    if not (isinstance(revision, int) and isinstance(namespace, str) and isinstance(name, str)):
        raise bad_request("continue key is not valid: it is not one that was given here")
    return revision, (namespace, name)


def _index_after(objects: Sequence[Object], after: tuple[str, str]) -> int:
    low, high = 0, len(objects)
    while low < high:
        middle = (low + high) // 2
        key = objects[middle].key
        if (key.namespace, key.name) <= after:
            low = middle + 1
        else:
            high = middle
    return low

"""`POST /apis/isthmus.dev/v1alpha1/apply`: many documents -> all of them applied, or all their mistakes.

{"objects": […], "dryRun": false} ─▶ {"results": [{"object": …, "action": "created", "warnings": […]}]}
                                  or 422 {"errors": [{"index": 0, "key": …, "field": …, "message": …}]}
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from isthmus.api.codec import decode, encode
from isthmus.api.inspection import inspected
from isthmus.api.kinds import KINDS
from isthmus.api.meta import Key, Object, Problem
from isthmus.clock import rfc3339
from isthmus.server.admission import Admission, Draft, NamespaceMissing, Rejected
from isthmus.server.kube_bodies import BATCH_LIMIT, json_body
from isthmus.server.kube_http import answer, manager_name
from isthmus.server.kube_ownership import own
from isthmus.server.managed_fields import Manager
from isthmus.server.roles import Act, User, allowed, denial
from isthmus.server.status_errors import Failure, bad_request, batch_invalid, resource


async def apply_batch(
    admission: Admission, request: Request, user: User, now: Callable[[], float]
) -> Response:
    """Answers one batch; nothing of it is written when anything of it is wrong."""
    body = await json_body(request, BATCH_LIMIT)
    documents = body.get("objects") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(documents, list) or set(body) - {"objects", "dryRun"}:
        raise bad_request('the body of the request is not {"objects": [...], "dryRun": true or false}')
    dry_run = body.get("dryRun", False)
    if not isinstance(dry_run, bool):
        raise bad_request("dryRun is true or false")
    if not documents:
        return answer({"results": []})
    names = [_name(document) for document in documents]
    decoded = [decode(document)[0] for document in documents]
    errors = [
        (index, problem)
        for index, (document, obj) in enumerate(zip(documents, decoded, strict=True))
        if obj is None
        for problem in inspected(document)
        if problem.severity == "error"
    ]
    writer = _Writer(manager_name(request), rfc3339(now()))
    drafts = {index: writer.draft(obj) for index, obj in enumerate(decoded) if obj is not None}
    for draft in drafts.values():
        _authorise(user, draft.obj.key)
    errors += [(index, problem) for index, draft in drafts.items() for problem in _unbatchable(draft.obj)]
    if errors:
        # what can be read is judged all the same, so that one round shows every mistake
        promised = {document["metadata"]["name"] for document in documents if _is_namespace(document)}
        judged = await admission.problems(list(drafts.values()), promised=promised)
        errors += [
            (index, problem)
            for index, problems in zip(drafts, judged, strict=True)
            for problem in problems
            if problem.severity == "error"
        ]
        raise _refusal(errors, names)
    try:
        outcomes = await admission.write(list(drafts.values()), dry_run=dry_run)
    except Rejected as rejected:
        raise _refusal(rejected.errors, names) from None
    except NamespaceMissing as error:
        gone = Problem("metadata.namespace", f"namespace {error.key.namespace} was deleted meanwhile")
        raise _refusal([(0, gone)], [str(error.key)]) from None
    results = [
        {
            "object": encode(outcome.object, documents[index]["apiVersion"]),
            "action": outcome.action,
            "warnings": list(outcome.warnings),
        }
        for index, outcome in enumerate(outcomes)
    ]
    return answer({"results": results})


@dataclass(frozen=True, slots=True)
class _Writer:
    """Who applies, and when."""

    name: str
    time: str

    def draft(self, obj: Object) -> Draft:
        """What a file says should be."""
        # a resourceVersion in the file is that of the day it was saved: it says what should be from now on
        return Draft(replace(obj, status={}), "apply", finish=self.finish)

    def finish(self, obj: Object, before: Object | None) -> Object:
        """The object as it is stored: who deletes it must wait for the same as before."""
        meta = replace(obj.meta, managed_fields=before.meta.managed_fields if before else ())
        if before and not meta.finalizers:
            meta = replace(meta, finalizers=before.meta.finalizers)
        manager = Manager(self.name, "Update", KINDS[obj.key.kind].api_versions[0])
        return own(replace(obj, meta=meta), before, manager=manager, time=self.time)


def _authorise(user: User, key: Key) -> None:
    kind = KINDS[key.kind]
    for verb in ("create", "update"):
        act = Act(verb, kind, key.namespace, key.name)
        if not allowed(user, act):
            what = f'{resource(kind)} "{key.name}"'
            raise Failure(403, "Forbidden", f"{what} is forbidden: {denial(user, act)}")


def _unbatchable(obj: Object) -> list[Problem]:
    if obj.key.kind != "JoinToken":
        return []
    return [Problem("kind", "a JoinToken is not applied", "isthmus token create --group NAMESPACE/GROUP")]


def _refusal(errors: Sequence[tuple[int, Problem]], names: Sequence[str]) -> Failure:
    in_order = sorted(errors, key=lambda error: error[0])
    return batch_invalid([(index, names[index], problem) for index, problem in in_order])


def _is_namespace(document: Any) -> bool:
    return (
        isinstance(document, Mapping)
        and document.get("kind") == "Namespace"
        and isinstance(document.get("metadata"), Mapping)
        and isinstance(document["metadata"].get("name"), str)
    )


def _name(document: Any) -> str:
    """What to call a document that may be no object at all."""
    if not isinstance(document, Mapping):
        return ""
    metadata = document.get("metadata")
    parts = [document.get("kind")]
    if isinstance(metadata, Mapping):
        parts += [metadata.get("namespace"), metadata.get("name")]
    return "/".join(part for part in parts if isinstance(part, str) and part)

"""`/apis/isthmus.dev/v1alpha1/users`: an admin makes, lists and removes users; credentials are told once.

POST   {"name": …, "grants": [{"role": "editor", "namespace": "shop"}], "request": CSR as PEM or nothing}
       ─▶ {"name": …, "token": …} or {"name": …, "certificate": PEM}
"""

import asyncio
import re
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from isthmus.server.kube_bodies import OBJECT_LIMIT, json_body
from isthmus.server.kube_http import answer
from isthmus.server.roles import ROLES, Grant, User
from isthmus.server.status_errors import Failure, bad_request, field_invalid, forbidden
from isthmus.server.users import Account, NameTaken, Users

PATH = "/apis/isthmus.dev/v1alpha1/users"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._:-]{0,62}")


class UserApi:
    """What requests about users do. Only an admin may make them."""

    def __init__(self, users: Users) -> None:
        self._users = users

    async def create(self, request: Request, user: User) -> Response:
        """A new user, and what they are known by."""
        _admin(user, "create")
        body = await json_body(request, OBJECT_LIMIT)
        if not isinstance(body, dict) or set(body) - {"name", "grants", "request"}:
            raise bad_request('the body of the request is not {"name": …, "grants": […], "request": …}')
        name = body.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise field_invalid("name", f"Invalid value: {name!r:.80}: up to 63 letters, digits and @._:-")
        grants, request_pem = _grants(body.get("grants")), body.get("request")
        try:
            if request_pem is None:
                token = await asyncio.to_thread(self._users.add_with_token, name, grants)
                return answer({"name": name, "token": token}, code=201)
            pem = str(request_pem).encode()
            certificate = await asyncio.to_thread(self._users.add_with_certificate, name, grants, pem)
            return answer({"name": name, "certificate": certificate}, code=201)
        except NameTaken as error:
            raise Failure(409, "AlreadyExists", str(error)) from None
        except ValueError as error:
            raise field_invalid("request", f"Invalid value: {error}") from None

    async def list(self, request: Request, user: User) -> Response:
        """All users with their roles."""
        _admin(user, "list")
        return answer({"items": [_shown(account) for account in self._users.all()]})

    async def delete(self, request: Request, user: User) -> Response:
        """Forgets a user."""
        _admin(user, "delete")
        name = request.path_params["name"]
        if name == user.name:
            text = "you are this user: let another admin delete you"
            raise Failure(409, "Conflict", f"user {name} was not deleted: {text}")
        if not await asyncio.to_thread(self._users.remove, name):
            raise Failure(404, "NotFound", f'users "{name[:80]}" not found')
        details = {"name": name, "kind": "users"}
        return answer({"kind": "Status", "apiVersion": "v1", "status": "Success", "details": details})


def _shown(account: Account) -> dict[str, Any]:
    grants = [
        {"role": grant.role, **({"namespace": grant.namespace} if grant.namespace else {})}
        for grant in account.grants
    ]
    known_by = "certificate" if account.certificate else "token"
    return {"name": account.name, "grants": grants, "knownBy": known_by}


def _grants(value: Any) -> list[Grant]:
    if not isinstance(value, list) or not value:
        raise field_invalid("grants", "Required value: a list with at least one role")
    found = []
    for index, row in enumerate(value):
        at = f"grants[{index}]"
        if not isinstance(row, dict) or set(row) - {"role", "namespace"}:
            raise field_invalid(at, "Invalid value: is not {role, namespace}")
        role, namespace = row.get("role"), row.get("namespace", "")
        if role not in ROLES:
            raise field_invalid(f"{at}.role", f"Unsupported value: supported values: {', '.join(ROLES)}")
        if not isinstance(namespace, str) or not re.fullmatch(r"[a-z0-9-]{0,63}", namespace):
            raise field_invalid(f"{at}.namespace", "Invalid value: is no namespace")
        found.append(Grant(role, namespace))
    return found


def _admin(user: User, verb: str) -> None:
    if not user.is_admin:
        raise forbidden(user.name, f'{verb} resource "users" in API group "isthmus.dev"', "users.isthmus.dev")


def user_routes(users: Users, guarded: Any) -> list[Route]:
    """The routes; `guarded` makes an endpoint of a handler that wants to know who asks."""
    api = UserApi(users)

    async def many(request: Request, user: User) -> Response:
        return await (api.create if request.method == "POST" else api.list)(request, user)

    return [
        Route(PATH, guarded(many), methods=["GET", "POST"]),
        Route(PATH + "/{name}", guarded(api.delete), methods=["DELETE"]),
    ]

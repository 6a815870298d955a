"""A request -> who asks, or nobody: by a bearer token, or by the certificate of the TLS connection."""

import hashlib
import hmac
from collections.abc import Callable, Mapping

from starlette.requests import Request

from isthmus.server.roles import User

Authenticate = Callable[[Request], User | None]
"""The user who makes a request, None when that is not known."""


def token_hash(token: str) -> str:
    """What the server keeps of a bearer token: SHA-256 in hex (a token is random, so no salt)."""
    return hashlib.sha256(token.encode()).hexdigest()


def bearer_token(request: Request) -> str:
    """The token in a request's Authorization header, empty when there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def by_token(token: str, user_by_hash: Mapping[str, User]) -> User | None:
    """The user of a token, of which only hashes are known."""
    if not token:
        return None
    seen = token_hash(token)
    # all hashes are compared, each in constant time: how long it takes tells nothing
    users = [user for known, user in user_by_hash.items() if hmac.compare_digest(known, seen)]
    return users[0] if users else None


def bearer_tokens(user_by_hash: Mapping[str, User]) -> Authenticate:
    """Knows users by bearer tokens alone."""
    return lambda request: by_token(bearer_token(request), user_by_hash)

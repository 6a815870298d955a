"""The Authorization header of a request -> who asks, or nobody."""

import hashlib
import hmac
from collections.abc import Callable, Mapping

from starlette.requests import Request

Authenticate = Callable[[Request], str | None]
"""The name of the user who makes a request, None when that is not known."""


def token_hash(token: str) -> str:
    """What the server keeps of a bearer token: SHA-256 in hex (a token is random, so no salt)."""
    return hashlib.sha256(token.encode()).hexdigest()


def bearer_tokens(user_by_hash: Mapping[str, str]) -> Authenticate:
    """Knows users by bearer tokens, of which it has the hashes only."""

    def authenticate(request: Request) -> str | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return None
        seen = token_hash(token.strip())
        # all hashes are compared, each in constant time: how long it takes tells nothing
        users = [user for known, user in user_by_hash.items() if hmac.compare_digest(known, seen)]
        return users[0] if users else None

    return authenticate

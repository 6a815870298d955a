"""A request for a JoinToken -> the object that is stored, and the one string that holds the secret.

The string is answered once; the store has only the hash of its secret.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from isthmus.api.duration import parse_duration
from isthmus.api.join import JoinTokenSpec
from isthmus.api.meta import Key, Object, Problem
from isthmus.api.validate import validate
from isthmus.clock import rfc3339
from isthmus.store.base import Store

DEFAULT_TTL_S = 900.0


class Minted(Protocol):
    """A new token: the text for the person, the hash for the store."""

    @property
    def text(self) -> str:
        """The string that is carried to the VM."""

    @property
    def secret_hash(self) -> str:
        """SHA-256 of the secret in hex."""


class MintToken(Protocol):
    """Makes a token with a fresh secret (`identity.jointoken.mint` with addresses and pin given)."""

    def __call__(self, *, namespace: str, name: str) -> Minted:
        """The token of the JoinToken object `namespace/name`."""


async def problems(store: Store, obj: Object) -> list[Problem]:
    """What stands against a new JoinToken."""
    spec = obj.spec
    assert isinstance(spec, JoinTokenSpec)
    found = [problem for problem in validate(obj) if problem.severity == "error"]
    found += [
        Problem(f"spec.{field}", "is set by the server", "leave it out")
        for field, value in (("expiresAt", spec.expires_at), ("secretHash", spec.secret_hash))
        if value
    ]
    if await store.get(Key("WorkloadGroup", obj.key.namespace, spec.group)) is None:
        text = f"WorkloadGroup {obj.key.namespace}/{spec.group} does not exist"
        found.append(Problem("spec.group", text, "apply the WorkloadGroup first"))
    return found


def issue(obj: Object, mint: MintToken, now: Callable[[], float]) -> tuple[Object, str]:
    """The JoinToken to be stored, and the token's text."""
    spec = obj.spec
    assert isinstance(spec, JoinTokenSpec)
    ttl_s = parse_duration(spec.ttl) if spec.ttl else DEFAULT_TTL_S
    minted = mint(namespace=obj.key.namespace, name=obj.key.name)
    stored = JoinTokenSpec(
        group=spec.group, expires_at=rfc3339(now() + ttl_s), secret_hash=minted.secret_hash
    )
    return replace(obj, spec=stored), minted.text

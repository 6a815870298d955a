"""isthmus.dev kinds: what Istio has no word for."""

from pydantic import Field

from isthmus.api.duration import Duration
from isthmus.api.meta import Model


class JoinTokenSpec(Model):
    """Spec of a JoinToken: one VM may join the group with it, once, until it expires.

    The secret itself is shown once, in the answer to the request that made the token; only its hash is kept.
    """

    group: str
    """Name of the WorkloadGroup, in the token's own namespace, that a VM joins with this token."""
    ttl: Duration | None = None
    """How long the token may be used, from its creation; 15 minutes when left out. Only read at creation."""
    expires_at: str = ""
    """RFC 3339 time after which the token is refused. Set by the server."""
    secret_hash: str = Field(default="", repr=False)
    """SHA-256 of the token's secret, hexadecimal. Set by the server."""

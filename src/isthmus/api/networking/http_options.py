"""Parts of an HTTP route of their own: cross-origin rules, delegates, rewrites by expression.

https://istio.io/latest/docs/reference/config/networking/virtual-service/
"""

from typing import Literal

from isthmus.api.duration import Duration
from isthmus.api.meta import Model
from isthmus.api.shapes import StringMatch


class CorsPolicy(Model):
    """Cross-origin requests that browsers may make (https://developer.mozilla.org/docs/Web/HTTP/CORS)."""

    allow_origin: tuple[str, ...] = ()
    """Old way to spell `allowOrigins`: whole origins, or `*`."""
    allow_origins: tuple[StringMatch, ...] = ()
    """Origins that may make requests."""
    allow_methods: tuple[str, ...] = ()
    """Methods that requests may have; sent in Access-Control-Allow-Methods."""
    allow_headers: tuple[str, ...] = ()
    """Headers that requests may have; sent in Access-Control-Allow-Headers."""
    expose_headers: tuple[str, ...] = ()
    """Headers of answers that scripts may read; sent in Access-Control-Expose-Headers."""
    max_age: Duration | None = None
    """How long browsers may remember the answer to a preflight; whole seconds."""
    allow_credentials: bool | None = None
    """Whether requests may carry cookies and the like."""
    unmatched_preflights: Literal["UNSPECIFIED", "FORWARD", "IGNORE"] = "UNSPECIFIED"
    """Whether a preflight from another origin goes on to the destination: FORWARD when left out."""


class Delegate(Model):
    """The VirtualService that continues a rule."""

    name: str = ""
    """Name of the VirtualService, which has no hosts of its own."""
    namespace: str = ""
    """Its namespace; the root's own when left out."""


class RegexRewrite(Model):
    """Replaces what an expression finds."""

    match: str = ""
    """RE2 expression that finds what is replaced, wherever it stands."""
    rewrite: str = ""
    """What replaces it; \\1 to \\9 stand for the groups of the expression."""

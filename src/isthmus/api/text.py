"""Object -> the JSON text of its document, without building the document first.

The text begins with `{"apiVersion":"…"`; what follows is the same in every version of the kind.
"""

from typing import Any

from pydantic_core import to_json

from isthmus.api.codec import encode_metadata
from isthmus.api.kinds import KINDS
from isthmus.api.meta import Object


def text(obj: Object, api_version: str | None = None) -> bytes:
    """The document in the preferred version, unless another is asked for."""
    return head(api_version or KINDS[obj.key.kind].api_versions[0]) + tail(obj)


def head(api_version: str) -> bytes:
    """The beginning of a document's text."""
    return b'{"apiVersion":"' + api_version.encode() + b'"'


def tail(obj: Object) -> bytes:
    """All of a document's text but its beginning; made once for an object."""
    if not obj.tail:
        object.__setattr__(obj, "tail", _tail(obj))
    return obj.tail


def _tail(obj: Object) -> bytes:
    kind = KINDS[obj.key.kind]
    parts = [f',"kind":"{kind.kind}","metadata":'.encode(), dumped(encode_metadata(obj.meta))]
    spec = obj.spec.model_dump_json(by_alias=True, exclude_unset=True).encode()
    if kind.has_spec:
        parts += (b',"spec":', spec)
    elif spec != b"{}":
        parts += (b",", spec[1:-1])
    if obj.status:
        parts += (b',"status":', dumped(dict(obj.status)))
    parts.append(b"}")
    return b"".join(parts)


def dumped(value: Any) -> bytes:
    """A JSON value without spaces, in UTF-8."""
    return to_json(value)

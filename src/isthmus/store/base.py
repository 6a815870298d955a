"""The store as everybody else sees it: read, write all or nothing, watch from a revision.

Every write of an object gets a revision of its own from one counter; it is the object's `resourceVersion`.
What `apply` has returned is durable.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from isthmus.api.meta import Key, Object

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
"""How Kubernetes tells a writer that the object is no longer in the state that it saw."""


class StoreError(Exception):
    """Root of what a store can say no with."""


class NotFound(StoreError):
    """The object to be changed does not exist."""

    def __init__(self, key: Key) -> None:
        super().__init__(f"{key} does not exist")
        self.key = key


class AlreadyExists(StoreError):
    """The object to be created exists."""

    def __init__(self, key: Key) -> None:
        super().__init__(f"{key} exists already")
        self.key = key


class Conflict(StoreError):
    """The object is not in the state that the writer saw."""

    def __init__(self, key: Key, text: str) -> None:
        super().__init__(f"{key}: {text}")
        self.key = key
        self.text = text


class Expired(StoreError):
    """Events after the asked revision are no longer (or not yet) known: list again and watch from there."""


class StoreUnavailable(StoreError):
    """The write could not be made durable (disk full, I/O error, store closed); nothing was changed."""


class StoreUnreadable(StoreError):
    """The store's file cannot be used as it is, and was left as it is."""


Propagation = Literal["Background", "Foreground", "Orphan"]


@dataclass(frozen=True, slots=True)
class Create:
    """Adds an object; AlreadyExists when its key is taken. The server's metadata is set here."""

    obj: Object


@dataclass(frozen=True, slots=True)
class Update:
    """Replaces spec and the metadata that clients write; the status stays. Equal content changes nothing."""

    obj: Object
    resource_version: int | None = None
    """The state that the writer saw; Conflict when it is no longer that."""
    uid: str = ""


@dataclass(frozen=True, slots=True)
class UpdateStatus:
    """Replaces the status alone. Equal content changes nothing."""

    key: Key
    status: Mapping[str, Any]
    resource_version: int | None = None
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Delete:
    """Removes an object; a namespace with everything in it.

    An object with finalizers stays, marked as deleted, until an update takes the last of them away. What it
    owns goes after it (Background), before it (Foreground), or stays without this owner (Orphan).
    """

    key: Key
    resource_version: int | None = None
    uid: str = ""
    propagation: Propagation = "Background"


@dataclass(frozen=True, slots=True)
class Mutate:
    """Makes of the latest state (None: absent) the next one (None: delete), status included.

    `change` runs inside the writer: pure and quick. What it raises refuses the whole `apply`.
    """

    key: Key
    change: Callable[[Object | None], Object | None]


Write = Create | Update | UpdateStatus | Delete | Mutate


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one object. A deleted object is told in its last state, with the deletion's revision."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Object
    revision: int
    before: Object | None = None
    """The state before, unless it was added."""


class Store(Protocol):
    """Objects by key, with a revision for every change."""

    @property
    def revision(self) -> int:
        """The revision of the newest change that readers see."""

    async def get(self, key: Key) -> Object | None:
        """The object, None when there is none."""

    async def list(self, kind: str, namespace: str | None = None) -> tuple[tuple[Object, ...], int]:
        """All objects of a kind (in a namespace) by namespace and name, and the revision they are at."""

    async def apply(self, writes: Sequence[Write]) -> tuple[Object | None, ...]:
        """Makes all the writes or none, durably. Returns what stands at each write's key afterwards."""

    def changes(self, kind: str, since: int) -> Sequence[Event]:
        """The changes of a kind after revision `since` that readers see by now; Expired when not known."""

    def watch(self, kind: str | None, since: int) -> AsyncIterator[Event]:
        """Every change after revision `since`, in order, without end; Expired when those are not known."""

    async def close(self) -> None:
        """Finishes the writes under way; later ones are refused."""

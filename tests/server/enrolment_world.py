"""A store, an authority and groups with tokens: what enrolment needs around it."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from isthmus.api.codec import decode
from isthmus.api.meta import Key, Object
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.identity import keys
from isthmus.identity.ca import Authority
from isthmus.identity.enrol import Application, Registrar
from isthmus.identity.jointoken import Token, mint, parse
from isthmus.identity.serving import ServingIdentity
from isthmus.store.base import Create
from isthmus.store.sqlite import SqliteStore


@dataclass
class World:
    """One control plane's identity side, with a clock that the test may move."""

    store: SqliteStore
    authority: Authority
    serving: ServingIdentity
    registrar: Registrar
    connected: set[Key] = field(default_factory=set)
    """WorkloadEntries whose VMs have a stream open."""
    offset: list[timedelta] = field(default_factory=lambda: [timedelta(0)])

    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset[0]

    async def apply(self, document: dict[str, Any]) -> Object:
        obj, problems = decode(document)
        assert obj is not None, problems
        (made,) = await self.store.apply([Create(obj)])
        assert made is not None
        return made

    async def group(self, name: str = "mysql", namespace: str = "vms", **more: Any) -> Object:
        """A WorkloadGroup; `annotations` are its own, `template` and `metadata` its spec's."""
        annotations = more.pop("annotations", {})
        spec = {"template": {"serviceAccount": name}, **more}
        return await self.apply(
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "WorkloadGroup",
                "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
                "spec": spec,
            }
        )

    async def token(self, group: str = "mysql", namespace: str = "vms", name: str = "token") -> Token:
        """A fresh token of the group, good for 15 minutes."""
        minted = mint(namespace=namespace, name=name, addresses=["127.0.0.1:1"], pin=self.serving.pin())
        expires = (self.now() + timedelta(minutes=15)).isoformat()
        await self.apply(
            {
                "apiVersion": "isthmus.dev/v1alpha1",
                "kind": "JoinToken",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"group": group, "expiresAt": expires, "secretHash": minted.secret_hash},
            }
        )
        return parse(minted.text)

    def application(self, token: Token, /, **changes: Any) -> Application:
        """What an honest VM at 10.0.0.5 with a fresh key sends, changed as the test wants."""
        honest = Application(
            namespace=token.namespace,
            token=token.name,
            secret=token.secret,
            csr=keys.request_pem(keys.new_key()),
            address="10.0.0.5",
            hostname="vm-1",
            time=self.now(),
        )
        return replace(honest, **changes)

    async def entries(self) -> list[str]:
        """The WorkloadEntries there are."""
        objects, _ = await self.store.list("WorkloadEntry")
        return [f"{obj.key.namespace}/{obj.key.name}" for obj in objects]

    async def status(self, token: Token) -> dict[str, Any]:
        """What is noted about a token."""
        obj = await self.store.get(Key("JoinToken", token.namespace, token.name))
        assert obj is not None
        return dict(obj.status)


@contextlib.asynccontextmanager
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """An empty control plane."""
    offset = [timedelta(0)]

    def now() -> datetime:
        return datetime.now(UTC) + offset[0]

    authority = Authority.open(tmp_path / "ca", "cluster.local", now)
    serving = ServingIdentity.open(tmp_path / "serving", authority, ["127.0.0.1", "::1"], now)
    store = await SqliteStore.open(tmp_path / "store.db")
    try:
        connected: set[Key] = set()
        registrar = Registrar(store, authority, now, connected=connected.__contains__)
        yield World(store, authority, serving, registrar, connected, offset)
    finally:
        await store.close()


def spec_of(entry: Object) -> WorkloadEntrySpec:
    """The entry's spec, as its type."""
    assert isinstance(entry.spec, WorkloadEntrySpec)
    return entry.spec

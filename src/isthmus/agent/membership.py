"""Who this VM is in the mesh, on disk: what enrolment gave it, key, certificate, last good orders."""

import base64
import contextlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from isthmus.agent import durable
from isthmus.agent.paths import Paths


class MembershipDamaged(ValueError):
    """The file is there but does not say what we wrote."""


@dataclass(frozen=True, slots=True)
class Membership:
    """What the control plane said when the VM enrolled, and the last host configuration that it sent."""

    namespace: str
    workload: str
    """The WorkloadEntry's name."""
    spiffe_id: str
    address: str
    doors: tuple[str, ...]
    """Where the control plane's ADS door answers, as host:port."""
    token_id: str
    gateway: bool = False
    """Whether this host is a gateway: its Envoy listens itself, and nothing is captured."""
    api: tuple[str, ...] = ()
    """Where the control plane's API door answers, as host:port; empty when an older agent joined."""
    pin: str = ""
    """SHA-256 of that door's public key, in hex."""
    token_until: str = ""
    """When the token expires with which the VM joined, RFC 3339."""
    host_version: str = ""
    host_config: bytes = b""
    """The last good isthmus.agent.v1.HostConfig: a VM comes back with it while the control plane is away."""

    @classmethod
    def load(cls, paths: Paths) -> "Membership | None":
        """The membership on disk; None if this VM never enrolled, MembershipDamaged if it makes no sense."""
        try:
            document: dict[str, Any] = json.loads(paths.agent.read_bytes())
            document["doors"] = tuple(document["doors"])
            document["api"] = tuple(document.get("api", ()))
            document["host_config"] = base64.b64decode(document["host_config"])
            return cls(**document)
        except FileNotFoundError:
            return None
        except (KeyError, TypeError, ValueError) as error:
            raise MembershipDamaged(
                f"{paths.agent}, which says who this VM is, is damaged ({error!r})"
            ) from None

    @classmethod
    def recall(cls, paths: Paths) -> "Membership | None":
        """The membership as far as it can be read: what leads out must not fail because of it."""
        try:
            return cls.load(paths)
        except MembershipDamaged:
            return None

    def save(self, paths: Paths) -> None:
        """Writes the membership so that a crash leaves the old or the new one."""
        document = asdict(self) | {"host_config": base64.b64encode(self.host_config).decode()}
        durable.write(paths.agent, json.dumps(document, indent=1).encode())

    def with_host(self, version: str, body: bytes) -> Self:
        """The same with newer orders."""
        return replace(self, host_version=version, host_config=body)

    @property
    def name(self) -> str:
        return f"{self.namespace}/{self.workload}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Key, certificate chain and trust bundle, as PEM. The key never leaves this VM, nor any repr."""

    key: bytes
    chain: bytes
    roots: bytes

    def __repr__(self) -> str:
        return "Credentials(…)"

    @classmethod
    def load(cls, paths: Paths) -> Self:
        """The credentials on disk, after finishing a replacement that a crash interrupted."""
        with contextlib.suppress(OSError):
            # no room on the disk: the whole of it is read from where it waits
            finish_replacement(paths)
        if (waiting := _waiting(paths)) is not None:
            return cls(**waiting)
        return cls(_key(paths).read_bytes(), _chain(paths).read_bytes(), _roots(paths).read_bytes())

    @classmethod
    def recall(cls, paths: Paths) -> Self | None:
        """The credentials as far as they can be read: what leads out must not fail because of them."""
        try:
            return cls.load(paths)
        except (OSError, KeyError, TypeError, ValueError):
            return None

    def save(self, paths: Paths) -> None:
        """Writes key, chain and roots so that a crash leaves all old or all new."""
        whole = {name: base64.b64encode(value).decode() for name, value in asdict(self).items()}
        durable.write(_next(paths), json.dumps(whole).encode())
        finish_replacement(paths)


def save_key(paths: Paths, pem: bytes) -> None:
    """Keeps the new key before its certificate exists: a join that was cut short may use it again."""
    durable.write(_key(paths), pem)


def saved_key(paths: Paths) -> bytes | None:
    """The key that an earlier join left."""
    try:
        return _key(paths).read_bytes()
    except FileNotFoundError:
        return None


def finish_replacement(paths: Paths) -> None:
    """Three files cannot be replaced in one step: this one file holds all three until they are."""
    whole = _waiting(paths)
    if whole is None:
        return
    durable.write(_roots(paths), whole["roots"])
    durable.write(_chain(paths), whole["chain"])
    durable.write(_key(paths), whole["key"])
    _next(paths).unlink()


def _waiting(paths: Paths) -> dict[str, bytes] | None:
    try:
        document = json.loads(_next(paths).read_bytes())
    except FileNotFoundError:
        return None
    return {name: base64.b64decode(value) for name, value in document.items()}


def _key(paths: Paths) -> Path:
    return paths.state / "key.pem"


def _chain(paths: Paths) -> Path:
    return paths.state / "chain.pem"


def _roots(paths: Paths) -> Path:
    return paths.state / "roots.pem"


def _next(paths: Paths) -> Path:
    return paths.state / "next-credentials.json"

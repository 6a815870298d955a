"""SPIFFE ids as a type that cannot be wrong (https://spiffe.io/docs/latest/spiffe-specs/spiffe-id/)."""

import re
from dataclasses import dataclass

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]{1,253}")


@dataclass(frozen=True, slots=True, order=True)
class SpiffeId:
    """Who a workload is: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`."""

    trust_domain: str
    namespace: str
    service_account: str

    def __post_init__(self) -> None:
        if not _TRUST_DOMAIN.fullmatch(self.trust_domain):
            raise ValueError(f"trust domain {self.trust_domain!r} may hold only a-z, 0-9, '.', '_' and '-'")
        for name, segment in (("namespace", self.namespace), ("service account", self.service_account)):
            if not _SEGMENT.fullmatch(segment) or segment in {".", ".."}:
                raise ValueError(f"{name} {segment!r}: a SPIFFE id takes letters, digits, '.', '_', '-' only")

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    @classmethod
    def parse(cls, uri: str) -> "SpiffeId":
        """The id that `uri` spells, exactly; ValueError for anything else (no queries, no dots, no %)."""
        match = re.fullmatch(r"spiffe://([^/]+)/ns/([^/]+)/sa/([^/]+)", uri)
        if match is None:
            raise ValueError(f"{uri!r} is not spiffe://<trust domain>/ns/<namespace>/sa/<service account>")
        return cls(*match.groups())

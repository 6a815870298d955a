"""What AuthorizationPolicies call callers -> the SPIFFE ids that they have in this mesh.

A trust domain that is the mesh's own, or one of its aliases, stands for all of them, and so does
`cluster.local`: policies go on meaning the same callers while a mesh changes its trust domain.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

_LOCAL = "cluster.local"
_PARTS = 5
"""`<trust domain>/ns/<namespace>/sa/<service account>`."""


@dataclass(frozen=True, slots=True)
class Names:
    """How the policies of a namespace name callers."""

    namespace: str
    domains: tuple[str, ...]
    """The mesh's trust domain, and its aliases."""

    def principals(self, said: Sequence[str]) -> tuple[str, ...]:
        """The principals, in each trust domain that they are meant in."""
        return tuple(dict.fromkeys(each for value in said for each in self._principal(value)))

    def trust_domains(self, said: Sequence[str]) -> tuple[str, ...]:
        """The trust domains, with their aliases."""
        return tuple(
            dict.fromkeys(
                each for value in said for each in (self.domains if value in self.domains else (value,))
            )
        )

    def account(self, said: str) -> str:
        """A regular expression of ids' paths: of `name` (in the policy's namespace) or `namespace/name`."""
        namespace, separator, name = said.partition("/")
        if not separator:
            namespace, name = self.namespace, said
        return f"/ns/{re.escape(namespace)}/(.+/|)sa/{re.escape(name)}(/.+)?"

    def _principal(self, said: str) -> tuple[str, ...]:
        domain, *rest = said.split("/")
        if len(rest) + 1 != _PARTS or domain == "*":
            return (said,)
        if domain != _LOCAL and not any(_alike(domain, own) for own in self.domains):
            return (said,)
        return tuple(
            said if domain.startswith("*") and own.endswith(domain[1:]) else "/".join((own, *rest))
            for own in self.domains
        )


def _alike(one: str, other: str) -> bool:
    """Whether the trust domains are the same, either with `*` before or behind."""
    return one == other or any(
        (pattern.endswith("*") and text.startswith(pattern[:-1]))
        or (pattern.startswith("*") and text.endswith(pattern[1:]))
        for text, pattern in ((one, other), (other, one))
    )

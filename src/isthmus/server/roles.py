"""Who may do what: four roles, each everywhere or in one namespace. Pure.

admin    everything
editor   reads and writes objects; Namespaces only when it edits everywhere
viewer   reads everything but Secrets
agent    reads services and workloads, reports the health of workloads
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from isthmus.api.kinds import Kind

Role = Literal["admin", "editor", "viewer", "agent"]
ROLES: tuple[Role, ...] = ("admin", "editor", "viewer", "agent")
READING = frozenset({"get", "list", "watch"})
_AGENT_READS = frozenset({"Namespace", "Service", "ServiceEntry", "WorkloadEntry", "WorkloadGroup"})


@dataclass(frozen=True, slots=True)
class Grant:
    """A role, everywhere or (when it names one) in a namespace."""

    role: Role
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class User:
    """A person or a robot, and what they may do."""

    name: str
    grants: Sequence[Grant]

    @property
    def is_admin(self) -> bool:
        """Whether they may do everything."""
        return Grant("admin") in self.grants


@dataclass(frozen=True, slots=True)
class Act:
    """Something that a user wants to do."""

    verb: str
    kind: Kind
    namespace: str
    """Empty: in all namespaces, or to a kind that stands in none."""
    name: str = ""
    status: bool = False


def allowed(user: User, act: Act) -> bool:
    """Whether any of the user's roles allows it."""
    return any(_grants(grant, act) for grant in user.grants)


def _grants(grant: Grant, act: Act) -> bool:
    if grant.namespace:
        # a namespaced role also sees the Namespace that it is about
        own = act.kind.kind == "Namespace" and act.name == grant.namespace and act.verb == "get"
        if not own and act.namespace != grant.namespace:
            return False
    match grant.role:
        case "admin":
            return True
        case "editor":
            return not (grant.namespace and act.kind.kind == "Namespace" and act.verb not in READING)
        case "viewer":
            return act.verb in READING and act.kind.kind != "Secret"
        case "agent":
            reports = act.kind.kind == "WorkloadEntry" and act.status
            return (act.verb in READING or reports) and act.kind.kind in _AGENT_READS


def denial(user: User, act: Act) -> str:
    """What the refusal says."""
    part = "/status" if act.status else ""
    where = f' in the namespace "{act.namespace}"' if act.namespace else " at the cluster scope"
    return (
        f'User "{user.name}" cannot {act.verb} resource "{act.kind.plural}{part}" '
        f'in API group "{act.kind.group}"{where}'
    )

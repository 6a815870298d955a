"""Namespace + exportTo -> what a class of proxies may see: the key under which configuration is shared."""

from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.mesh import services, workloads
from isthmus.mesh.hosts import exported
from isthmus.mesh.model import Scope


def scope_of(q: Reader, workload: Key) -> Scope | None:
    """The scope of a workload's proxy; None when the workload is not registered."""
    return Scope(workload.namespace) if q(workloads.exists, workload) else None


def visible_hosts(q: Reader, scope: Scope) -> tuple[str, ...]:
    """The hosts that a scope sees, sorted."""
    return tuple(host for host in q(services.hosts) if q(visible, host, scope.namespace))


def visible(q: Reader, host: str, viewer: str) -> bool:
    """Whether a host is exported to a namespace."""
    service = q(services.service, host)
    return service is not None and exported(service.export_to, service.namespace, viewer)

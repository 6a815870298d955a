"""ServiceEntry: a service that the platform does not know, such as a database on VMs.

https://istio.io/latest/docs/reference/config/networking/service-entry/
"""

from typing import Annotated, Literal

from pydantic import Field

from isthmus.api.meta import Model
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.api.shapes import PortNumber, WorkloadSelector


class ServiceEntryPort(Model):
    """One port of the service."""

    number: PortNumber
    """The port that callers use."""
    protocol: Annotated[str, Field(max_length=256)] = ""
    """HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP, TLS, …; the name's prefix tells it when left out."""
    name: Annotated[str, Field(max_length=256)]
    """Name of the port."""
    target_port: PortNumber | None = None
    """The port on the endpoints; `number` when left out."""


class ServiceEntrySpec(Model):
    """Spec of a ServiceEntry."""

    hosts: Annotated[tuple[str, ...], Field(max_length=256)] = ()
    """The names of the service; a name may begin with `*.`."""
    addresses: Annotated[tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=256)] = ()
    """Virtual addresses (or CIDR ranges) of the service; allocated by the server when left out."""
    ports: Annotated[tuple[ServiceEntryPort, ...], Field(max_length=256)] = ()
    """The ports of the service."""
    location: Literal["MESH_EXTERNAL", "MESH_INTERNAL"] = "MESH_EXTERNAL"
    """Whether the service is part of the mesh: mutual TLS goes to MESH_INTERNAL services only."""
    resolution: Literal["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"] = "NONE"
    """How endpoints are found: the address the caller used, the endpoints given here, or DNS."""
    endpoints: Annotated[tuple[WorkloadEntrySpec, ...], Field(max_length=4096)] = ()
    """Endpoints of the service; not together with `workloadSelector`."""
    workload_selector: WorkloadSelector | None = None
    """Selects WorkloadEntry objects (in the same namespace) as endpoints; MESH_INTERNAL services only."""
    export_to: tuple[str, ...] = ()
    """Namespaces that see this service: `.` its own, `*` all (when left out), or a name."""
    subject_alt_names: tuple[str, ...] = ()
    """Names of which the server's certificate must have one, beside the endpoints' own identities."""

"""WorkloadGroup: what the workloads that join as one group have in common.

https://istio.io/latest/docs/reference/config/networking/workload-group/
"""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from isthmus.api.meta import Model
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.api.shapes import FilledString, PortNumber, UInt32

GROUP_ANNOTATION = "istio.io/autoRegistrationGroup"
"""On a WorkloadEntry: the group that it was made from."""
PROBED_ANNOTATION = "proxy.istio.io/health-checks-enabled"
"""On a WorkloadEntry, "true": it counts as unhealthy until it is told to be healthy."""

Int32Positive = Annotated[int, Field(ge=0, le=2**31 - 1)]


class WorkloadGroupMetadata(Model):
    """Metadata that every WorkloadEntry of the group gets."""

    labels: Annotated[Mapping[str, str], Field(max_length=256)] = Field(default_factory=dict)
    """Labels of the WorkloadEntry objects."""
    annotations: Annotated[Mapping[str, str], Field(max_length=256)] = Field(default_factory=dict)
    """Annotations of the WorkloadEntry objects."""


class HTTPHeader(Model):
    """A header that a probe sends."""

    name: Annotated[str, Field(pattern=r"^[-_A-Za-z0-9]+$")] = ""
    """Name of the header."""
    value: str = ""
    """Value of the header."""


class HTTPHealthCheckConfig(Model):
    """Probes with an HTTP request: 200 to 399 is healthy."""

    path: str = ""
    """Path of the request."""
    port: UInt32
    """Port of the workload."""
    host: str = ""
    """Host to connect to; the workload itself when left out."""
    scheme: str = ""
    """HTTP (when left out) or HTTPS."""
    http_headers: tuple[HTTPHeader, ...] = ()
    """Headers of the request."""


class TCPHealthCheckConfig(Model):
    """Probes with a TCP connection: one that opens is healthy."""

    host: str = ""
    """Host to connect to; the workload itself when left out."""
    port: UInt32
    """Port of the workload."""


class ExecHealthCheckConfig(Model):
    """Probes with a command: exit status 0 is healthy."""

    command: tuple[FilledString, ...] = ()
    """The command and its arguments; no shell reads it."""


class GrpcHealthCheckConfig(Model):
    """Probes with gRPC's health service."""

    port: PortNumber | None = None
    """Port of the workload."""
    service: str = ""
    """Name of the service that is asked about; the server as a whole when left out."""


class ReadinessProbe(Model):
    """How the agent finds out whether its workload can take traffic; exactly one method is set."""

    initial_delay_seconds: Int32Positive = 0
    """Seconds to wait before the first probe."""
    timeout_seconds: Int32Positive = 0
    """Seconds after which a probe counts as failed; 1 when left out."""
    period_seconds: Int32Positive = 0
    """Seconds between probes; 10 when left out."""
    success_threshold: Int32Positive = 0
    """Successes in a row after which a failed workload counts as healthy; 1 when left out."""
    failure_threshold: Int32Positive = 0
    """Failures in a row after which a workload counts as unhealthy; 3 when left out."""
    http_get: HTTPHealthCheckConfig | None = None
    """Probes with an HTTP request."""
    tcp_socket: TCPHealthCheckConfig | None = None
    """Probes with a TCP connection."""
    exec: ExecHealthCheckConfig | None = None
    """Probes with a command."""
    grpc: GrpcHealthCheckConfig | None = None
    """Probes with gRPC's health service."""


class WorkloadGroupSpec(Model):
    """Spec of a WorkloadGroup."""

    metadata: WorkloadGroupMetadata | None = None
    """Metadata of the WorkloadEntry objects made from this group."""
    template: WorkloadEntrySpec
    """What the WorkloadEntry objects made from this group are like; without an address."""
    probe: ReadinessProbe | None = None
    """How workloads of the group are probed; without it they count as healthy."""

"""telemetry.istio.io: what proxies measure, trace and log. Stored and checked, not applied yet.

https://istio.io/latest/docs/reference/config/telemetry/
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from isthmus.api.duration import Duration
from isthmus.api.meta import Model
from isthmus.api.security import TargetRefs
from isthmus.api.shapes import FilledString, LabelSelector, PolicyTargetReference

WorkloadMode = Literal["CLIENT_AND_SERVER", "CLIENT", "SERVER"]


class ProviderRef(Model):
    """A receiver that the mesh's settings define."""

    name: FilledString
    """Its name in the mesh's settings."""


class Selector(Model):
    """Which side of a call this is about."""

    mode: WorkloadMode = "CLIENT_AND_SERVER"
    """The caller's, the called one's, or both."""


class LiteralTag(Model):
    """A fixed value."""

    value: FilledString
    """The value."""


class EnvironmentTag(Model):
    """A value of the proxy's environment."""

    name: FilledString
    """Name of the variable."""
    default_value: str = ""
    """Value when it is not set."""


class HeaderTag(Model):
    """A value of a request header."""

    name: FilledString
    """Name of the header."""
    default_value: str = ""
    """Value when it is not there."""


class FormatterTag(Model):
    """A value in Envoy's access log format."""

    value: FilledString
    """The format."""


class CustomTag(Model):
    """A tag of spans; exactly one of the fields is set."""

    literal: LiteralTag | None = None
    """A fixed value."""
    environment: EnvironmentTag | None = None
    """A value of the proxy's environment."""
    header: HeaderTag | None = None
    """A value of a request header."""
    formatter: FormatterTag | None = None
    """A value in Envoy's access log format."""


class Tracing(Model):
    """Which requests are traced, and what spans tell."""

    match: Selector | None = None
    """Which side of a call this is about."""
    providers: tuple[ProviderRef, ...] = ()
    """Where spans go."""
    random_sampling_percentage: Annotated[float, Field(ge=0, le=100)] | None = None
    """Share of requests that are traced when nobody else decided."""
    disable_span_reporting: bool | None = None
    """Switches spans off; trace headers are still passed on."""
    disable_context_propagation: bool | None = None
    """Switches the passing on of trace headers off."""
    custom_tags: Mapping[str, CustomTag] = Field(default_factory=dict)
    """Tags of spans by name."""
    use_request_id_for_trace_sampling: bool | None = None
    """Whether x-request-id carries the decision."""
    enable_istio_tags: bool | None = None
    """Whether spans get Istio's own tags."""


class MetricSelector(Model):
    """Metrics that an override is about; at most one of `metric` and `customMetric` is set."""

    metric: (
        Literal[
            "ALL_METRICS",
            "REQUEST_COUNT",
            "REQUEST_DURATION",
            "REQUEST_SIZE",
            "RESPONSE_SIZE",
            "TCP_OPENED_CONNECTIONS",
            "TCP_CLOSED_CONNECTIONS",
            "TCP_SENT_BYTES",
            "TCP_RECEIVED_BYTES",
            "GRPC_REQUEST_MESSAGES",
            "GRPC_RESPONSE_MESSAGES",
        ]
        | None
    ) = None
    """One of Istio's metrics, or all."""
    custom_metric: FilledString | None = None
    """A metric by its own name."""
    mode: WorkloadMode = "CLIENT_AND_SERVER"
    """Which side of a call this is about."""


class TagOverride(Model):
    """A change of one tag of a metric."""

    operation: Literal["UPSERT", "REMOVE"] = "UPSERT"
    """Whether the tag is set or removed."""
    value: str = ""
    """CEL expression of the tag's value, for UPSERT."""


class MetricsOverrides(Model):
    """A change of metrics."""

    match: MetricSelector | None = None
    """The metrics; all when left out."""
    disabled: bool | None = None
    """Switches the metrics off."""
    tag_overrides: Mapping[str, TagOverride] = Field(default_factory=dict)
    """Changes of tags by name."""


class Metrics(Model):
    """Which metrics are kept, and how."""

    providers: tuple[ProviderRef, ...] = ()
    """Where metrics go."""
    overrides: tuple[MetricsOverrides, ...] = ()
    """Changes, in order; the last one counts."""
    reporting_interval: Duration | None = None
    """Time between two reports of a TCP connection's metrics."""


class AccessLogFilter(Model):
    """Which requests are logged."""

    expression: str = ""
    """CEL expression on the request and the response."""


class AccessLogging(Model):
    """Where access logs go, and which requests are logged."""

    match: Selector | None = None
    """Which side of a call this is about."""
    providers: tuple[ProviderRef, ...] = ()
    """Where logs go."""
    disabled: bool | None = None
    """Switches logs off."""
    filter: AccessLogFilter | None = None
    """Which requests are logged; all when left out."""


class TelemetrySpec(Model):
    """Spec of a Telemetry."""

    selector: LabelSelector | None = None
    """The workloads this is about; without it the whole namespace, in the root namespace the whole mesh."""
    target_ref: PolicyTargetReference | None = None
    """Old way to spell `targetRefs` for one resource."""
    target_refs: TargetRefs = ()
    """Resources this is attached to, instead of a selector."""
    tracing: tuple[Tracing, ...] = ()
    """Which requests are traced."""
    metrics: tuple[Metrics, ...] = ()
    """Which metrics are kept."""
    access_logging: tuple[AccessLogging, ...] = ()
    """Which requests are logged."""

"""A Telemetry -> its problems."""

from collections.abc import Iterator

from isthmus.api.fields import path
from isthmus.api.meta import Problem
from isthmus.api.rules import at_least_a_millisecond, attachment, conflict, has, warning, wrong
from isthmus.api.telemetry import CustomTag, Metrics, TelemetrySpec
from isthmus.api.validation.cel import expression_fault


def telemetry(spec: TelemetrySpec) -> Iterator[Problem]:
    """The problems of a Telemetry by itself."""
    yield from attachment(spec)
    if len(spec.tracing) > 1:
        yield warning("spec.tracing", "multiple tracing is not currently supported")
    for index, tracing in enumerate(spec.tracing):
        at = f"spec.tracing[{index}]"
        if len(tracing.providers) > 1:
            yield warning(f"{at}.providers", "multiple providers is not currently supported")
        for name, tag in tracing.custom_tags.items():
            if not name:
                yield from wrong(f"{at}.customTags", name, "tag name may not be empty")
            yield from _tag(path(f"{at}.customTags", [name]), tag)
    for index, metrics in enumerate(spec.metrics):
        yield from _metrics(f"spec.metrics[{index}]", metrics)
    for index, logging in enumerate(spec.access_logging):
        if logging.filter is not None and (fault := expression_fault(logging.filter.expression)):
            text = f"must be a valid CEL expression: {fault}"
            yield from wrong(
                f"spec.accessLogging[{index}].filter.expression", logging.filter.expression, text
            )


def _tag(at: str, tag: CustomTag) -> Iterator[Problem]:
    given = [name for name in ("literal", "environment", "header", "formatter") if has(tag, name)]
    if len(given) > 1:
        yield conflict(at, f"only one of {' and '.join(given)} can be set")


def _metrics(at: str, metrics: Metrics) -> Iterator[Problem]:
    yield from at_least_a_millisecond(f"{at}.reportingInterval", metrics.reporting_interval)
    for index, override in enumerate(metrics.overrides):
        where = f"{at}.overrides[{index}]"
        match = override.match
        if match is not None and has(match, "metric") and has(match, "custom_metric"):
            yield conflict(f"{where}.match", "only one of metric and customMetric can be set")
        for name, tag in override.tag_overrides.items():
            field = path(f"{where}.tagOverrides", [name])
            if not name:
                yield warning(f"{where}.tagOverrides", "tagOverrides.name may not be empty")
            if tag.operation == "UPSERT" and not tag.value:
                yield conflict(field, "value must be set when operation is UPSERT")
            if tag.operation == "REMOVE" and has(tag, "value"):
                yield conflict(field, "value must not be set when operation is REMOVE")

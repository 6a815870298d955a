"""Retries and faults of an HTTP route -> their problems."""

from collections.abc import Iterator
from http import HTTPStatus

from isthmus.api.meta import Problem
from isthmus.api.networking.virtual_service import Abort, Delay, HTTPFaultInjection, HTTPRetry
from isthmus.api.rules import conflict, duration, has, missing, warning, wrong
from isthmus.api.shapes import Percent

_RETRY_ON = {
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
}
"""Envoy's x-envoy-retry-on and x-envoy-retry-grpc-on."""
_STATUS_CODES = {str(status.value) for status in HTTPStatus}
_GRPC_STATUSES = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
}
"""https://github.com/grpc/grpc/blob/master/doc/statuscodes.md"""


def retries(at: str, said: HTTPRetry) -> Iterator[Problem]:
    """When a failed request is tried again."""
    if said.attempts < 0:
        yield from wrong(
            f"{at}.attempts", said.attempts, "attempts cannot be negative", "0 switches retries off"
        )
    if said.attempts == 0 and (said.per_try_timeout or said.retry_on or has(said, "retry_remote_localities")):
        yield conflict(
            at, "http retry policy configured when attempts are set to 0 (disabled)", "set attempts"
        )
    yield from duration(f"{at}.perTryTimeout", said.per_try_timeout)
    yield from duration(f"{at}.backoff", said.backoff)
    for condition in said.retry_on.split(",") if said.retry_on else ():
        if condition not in _RETRY_ON and condition not in _STATUS_CODES:
            text = "is not a valid retryOn policy"
            yield from wrong(f"{at}.retryOn", condition, text, "5xx, connect-failure, 503, …")


def fault(at: str, said: HTTPFaultInjection) -> Iterator[Problem]:
    """Faults on purpose."""
    if said.delay is None and said.abort is None:
        yield missing(at, "HTTP fault injection must have an abort and/or a delay")
    if said.delay:
        yield from _delay(f"{at}.delay", said.delay)
    if said.abort:
        yield from _abort(f"{at}.abort", said.abort)


def status_code(at: str, status: int) -> Iterator[Problem]:
    """The status code of an answer."""
    if not 200 <= status <= 600:
        yield from wrong(at, status, f"HTTP status {status} is not in range 200-599")


def _delay(at: str, delay: Delay) -> Iterator[Problem]:
    yield from _percentage(f"{at}.percentage", delay.percentage)
    if delay.fixed_delay is not None and delay.exponential_delay is not None:
        yield conflict(at, "only one of fixedDelay and exponentialDelay can be set")
    yield from duration(f"{at}.fixedDelay", delay.fixed_delay)
    if delay.exponential_delay is not None:
        yield from wrong(
            f"{at}.exponentialDelay", delay.exponential_delay, "exponentialDelay not supported yet"
        )


def _abort(at: str, abort: Abort) -> Iterator[Problem]:
    yield from _percentage(f"{at}.percentage", abort.percentage)
    given = [
        name
        for name, value in (
            ("httpStatus", abort.http_status),
            ("grpcStatus", abort.grpc_status),
            ("http2Error", abort.http2_error),
        )
        if value is not None
    ]
    if len(given) > 1:
        yield conflict(at, f"only one of {' and '.join(given)} can be set")
    if not given:
        yield warning(at, "abort configured, but error type not set")
    if abort.http_status is not None:
        yield from status_code(f"{at}.httpStatus", abort.http_status)
    if abort.grpc_status is not None and abort.grpc_status not in _GRPC_STATUSES:
        text = "gRPC status is not supported"
        yield from wrong(f"{at}.grpcStatus", abort.grpc_status, text, "write it as UNAVAILABLE or NOT_FOUND")
    if abort.http2_error is not None:
        yield from wrong(
            f"{at}.http2Error", abort.http2_error, "HTTP/2 abort fault injection not supported yet"
        )


def _percentage(at: str, percent: Percent | None) -> Iterator[Problem]:
    value = percent.value if percent else 0.0
    if value != 0 and not 0.0001 <= value <= 100:
        yield from wrong(f"{at}.value", value, "percentage is neither 0.0, nor in range [0.0001, 100.0]")

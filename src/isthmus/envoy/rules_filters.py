"""Faults and cross-origin rules -> what the fault and CORS filters of a route are told."""

from collections.abc import Iterable

from envoy.extensions.filters.http.cors.v3 import cors_pb2 as cors_v3
from envoy.extensions.filters.http.fault.v3 import fault_pb2 as fault_v3
from envoy.type.matcher.v3 import string_pb2 as string_v3
from envoy.type.v3 import percent_pb2 as percent_v3

from isthmus.api.duration import parse_duration
from isthmus.api.networking.http_options import CorsPolicy
from isthmus.api.networking.virtual_service import Abort, Delay, HTTPFaultInjection
from isthmus.api.shapes import Percent
from isthmus.envoy.matches import string_matcher
from isthmus.envoy.message import duration

GRPC_STATUSES = {
    name: number
    for number, name in enumerate(
        (
            *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND"),
            *("ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED"),
            *("OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
        )
    )
}
"""https://grpc.github.io/grpc/core/md_doc_statuscodes.html"""


def fault(said: HTTPFaultInjection | None) -> fault_v3.HTTPFault | None:
    """What the fault filter does; None when it does nothing. Without a share, no request is touched."""
    message = fault_v3.HTTPFault()
    if said and said.delay and said.delay.fixed_delay:
        message.delay.fixed_delay.CopyFrom(duration(max(parse_duration(said.delay.fixed_delay), 0.0)))
        message.delay.percentage.CopyFrom(_delayed(said.delay))
    if said and said.abort:
        _abort(message, said.abort)
    return message if message.HasField("delay") or message.HasField("abort") else None


def _delayed(said: Delay) -> percent_v3.FractionalPercent:
    return share(said.percentage if said.percentage is not None else Percent(value=said.percent))


def _abort(message: fault_v3.HTTPFault, said: Abort) -> None:
    if said.http_status is not None:
        message.abort.http_status = said.http_status
    elif said.grpc_status in GRPC_STATUSES:
        message.abort.grpc_status = GRPC_STATUSES[said.grpc_status]
    else:
        return
    if said.percentage is not None:
        message.abort.percentage.CopyFrom(share(said.percentage))


def share(said: Percent) -> percent_v3.FractionalPercent:
    """A share of requests, as finely as Envoy counts."""
    return percent_v3.FractionalPercent(
        numerator=round(said.value * 10_000), denominator=percent_v3.FractionalPercent.MILLION
    )


def cors(said: CorsPolicy) -> cors_v3.CorsPolicy:
    """What the CORS filter does."""
    message = cors_v3.CorsPolicy(
        allow_origin_string_match=_origins(said),
        allow_methods=",".join(said.allow_methods),
        allow_headers=",".join(said.allow_headers),
        expose_headers=",".join(said.expose_headers),
        filter_enabled={"default_value": {"numerator": 100}},
        forward_not_matching_preflights={"value": said.unmatched_preflights != "IGNORE"},
    )
    if said.allow_credentials is not None:
        message.allow_credentials.value = said.allow_credentials
    if said.max_age is not None:
        message.max_age = str(int(parse_duration(said.max_age)))
    return message


def _origins(said: CorsPolicy) -> Iterable[string_v3.StringMatcher]:
    if said.allow_origins:
        return [matcher for origin in said.allow_origins if (matcher := string_matcher(origin))]
    return [string_v3.StringMatcher(exact=origin) for origin in said.allow_origin]

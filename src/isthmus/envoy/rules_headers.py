"""Changes of headers -> the four fields that a route and a weighted cluster have alike."""

import re
from collections.abc import Iterable, Mapping

from envoy.config.core.v3 import base_pb2 as base_v3
from envoy.config.route.v3 import route_components_pb2 as route_components_v3

from isthmus.api.networking.virtual_service import Headers

_HOST_HEADERS = frozenset({"host", ":authority"})


def change_headers(
    target: route_components_v3.Route | route_components_v3.WeightedCluster.ClusterWeight,
    said: Headers | None,
) -> None:
    """Adds the changes to those that the route or cluster makes already."""
    if said is None:
        return
    if said.request:
        target.request_headers_to_add.extend(_additions(said.request.set, said.request.add))
        target.request_headers_to_remove.extend(_removals(said.request.remove))
    if said.response:
        target.response_headers_to_add.extend(_additions(said.response.set, said.response.add))
        target.response_headers_to_remove.extend(_removals(said.response.remove))


def host_override(said: Headers | None) -> str:
    """The host that is written through a header, which Envoy takes as a rewrite only; `set` before `add`."""
    operations = said.request if said else None
    written = {**operations.add, **operations.set} if operations else {}
    by_name = {name.lower(): value for name, value in sorted(written.items())}
    return next((by_name[name] for name in sorted(_HOST_HEADERS) if by_name.get(name)), "")


def _additions(set_: Mapping[str, str], add: Mapping[str, str]) -> list[base_v3.HeaderValueOption]:
    option = base_v3.HeaderValueOption
    actions = ((set_, option.OVERWRITE_IF_EXISTS_OR_ADD), (add, option.APPEND_IF_EXISTS_OR_ADD))
    return [
        option(header={"key": name, "value": _escaped(value)}, append_action=action, keep_empty_value=True)
        for headers, action in actions
        for name, value in sorted(headers.items())
        if not _protected(name)
    ]


def _removals(names: Iterable[str]) -> list[str]:
    return [name for name in names if not _protected(name)]


def _protected(name: str) -> bool:
    # Envoy refuses a route table that touches these as headers
    return name.startswith(":") or name.lower() == "host"


_OPERATOR = re.compile(
    r"%%|%(?:REQ|REQ_WITHOUT_QUERY|RESP|TRAILER|DYNAMIC_METADATA|CLUSTER_METADATA|UPSTREAM_METADATA"
    r"|FILTER_STATE|START_TIME(?:_LOCAL)?|EMIT_TIME|REQUEST_(?:HEADERS_BYTES|DURATION|TX_DURATION)"
    r"|RESPONSE_(?:CODE(?:_DETAILS)?|FLAGS(?:_LONG)?|DURATION|TX_DURATION|HEADERS_BYTES)|BYTES_(?:SENT|RECEIVED)"
    r"|DURATION|COMMON_DURATION|CONNECTION_TERMINATION_DETAILS|(?:DOWN|UP)STREAM_[A-Z0-9_]+"
    r"|REQUESTED_SERVER_NAME|HOSTNAME|PROTOCOL|GRPC_STATUS(?:_NUMBER)?|ROUTE_NAME|VIRTUAL_CLUSTER_NAME"
    r"|CONNECTION_ID|STREAM_ID|TRACE_ID|SPAN_ID|ENVIRONMENT|PATH|QUERY_PARAMS?|UNIQUE_ID"
    r")(?:\([^()%]*\))?(?::\d+)?%"
)


def _escaped(value: str) -> str:
    """The value with every `%` doubled that does not belong to one of Envoy's operators."""
    parts: list[str] = []
    end = 0
    for found in _OPERATOR.finditer(value):
        parts += (value[end : found.start()].replace("%", "%%"), found.group())
        end = found.end()
    return "".join((*parts, value[end:].replace("%", "%%")))

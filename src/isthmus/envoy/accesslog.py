"""The mesh's settings -> access logs: one line for each request or connection, as Istio writes it.

A format that begins with `{` is a JSON object of formats; anything else is a line of text.
https://istio.io/latest/docs/tasks/observability/logs/access-log/
"""

import json
from dataclasses import dataclass
from typing import Any

from envoy.config.accesslog.v3 import accesslog_pb2 as accesslog_v3
from envoy.config.core.v3 import substitution_format_string_pb2 as format_v3
from envoy.extensions.access_loggers.file.v3 import file_pb2 as file_v3
from google.protobuf.struct_pb2 import Struct

from isthmus.engine import Reader
from isthmus.envoy.message import packed
from isthmus.mesh import world

_FIELDS = {
    "start_time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "route_name": "%ROUTE_NAME%",
}
_REQUEST_LINE = '"{method} {path} {protocol}"'
_QUOTED = frozenset(
    {
        "upstream_transport_failure_reason",
        "x_forwarded_for",
        "user_agent",
        "request_id",
        "authority",
        "upstream_host",
    }
)


@dataclass(frozen=True, slots=True)
class LogStyle:
    """Where accesses are logged and how; no file, no log."""

    file: str = ""
    format: str = ""
    as_json: bool = False


def log_style(q: Reader) -> LogStyle:
    """The mesh's access log."""
    settings = q(world.settings)
    return LogStyle(settings.access_log_file, settings.access_log_format, settings.access_log_json)


def access_logs(style: LogStyle) -> list[accesslog_v3.AccessLog]:
    """The access log of a connection manager, a TCP proxy or a listener."""
    if not style.file:
        return []
    log = file_v3.FileAccessLog(path=style.file, log_format=_format(style))
    return [accesslog_v3.AccessLog(name="envoy.access_loggers.file", typed_config=packed(log))]


def _format(style: LogStyle) -> format_v3.SubstitutionFormatString:
    said = style.format.strip()
    if style.as_json or said.startswith("{"):
        fields = Struct()
        fields.update(_json_fields(said) or {**_FIELDS})
        return format_v3.SubstitutionFormatString(json_format=fields)
    text = style.format or _text()
    return format_v3.SubstitutionFormatString(
        text_format_source={"inline_string": text if text.endswith("\n") else f"{text}\n"}
    )


def _json_fields(said: str) -> dict[str, Any]:
    try:
        fields = json.loads(said)
    except ValueError:
        return {}  # not JSON: the fields that everybody gets are better than none
    return fields if isinstance(fields, dict) else {}


def _text() -> str:
    words = ["[%START_TIME%]", _REQUEST_LINE.format_map(_FIELDS)]
    for name, value in list(_FIELDS.items())[4:]:
        words.append(f'"{value}"' if name in _QUOTED else value)
    return " ".join(words)

"""The mesh's access log."""

from envoy.extensions.access_loggers.file.v3 import file_pb2 as file_v3

from isthmus.envoy.accesslog import LogStyle, access_logs


def _log(style: LogStyle) -> file_v3.FileAccessLog:
    (log,) = access_logs(style)
    return file_v3.FileAccessLog.FromString(log.typed_config.value)


def test_no_file_no_log() -> None:
    assert access_logs(LogStyle()) == []


def test_istios_line_by_default() -> None:
    log = _log(LogStyle("/dev/stdout"))
    line = log.log_format.text_format_source.inline_string
    assert log.path == "/dev/stdout"
    assert line.startswith('[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" ')
    assert line.endswith("%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n")


def test_formats_of_ones_own() -> None:
    text = _log(LogStyle("f", "%PROTOCOL%")).log_format
    assert text.text_format_source.inline_string == "%PROTOCOL%\n"
    fields = _log(LogStyle("f", '{"p": "%PROTOCOL%"}')).log_format.json_format
    assert dict(fields) == {"p": "%PROTOCOL%"}
    assert "route_name" in _log(LogStyle("f", "", as_json=True)).log_format.json_format
    assert "route_name" in _log(LogStyle("f", "{broken")).log_format.json_format

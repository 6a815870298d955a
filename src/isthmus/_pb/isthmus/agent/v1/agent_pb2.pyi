from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HostConfig(_message.Message):
    __slots__ = ("inbound_ports", "capture_prefixes", "names", "every_inbound_port", "inbound_exempt_ports", "wide_prefixes", "outbound_ports", "exempt_prefixes", "exempt_ports", "probe")
    INBOUND_PORTS_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_PREFIXES_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    EVERY_INBOUND_PORT_FIELD_NUMBER: _ClassVar[int]
    INBOUND_EXEMPT_PORTS_FIELD_NUMBER: _ClassVar[int]
    WIDE_PREFIXES_FIELD_NUMBER: _ClassVar[int]
    OUTBOUND_PORTS_FIELD_NUMBER: _ClassVar[int]
    EXEMPT_PREFIXES_FIELD_NUMBER: _ClassVar[int]
    EXEMPT_PORTS_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    inbound_ports: _containers.RepeatedScalarFieldContainer[int]
    capture_prefixes: _containers.RepeatedScalarFieldContainer[str]
    names: _containers.RepeatedCompositeFieldContainer[Name]
    every_inbound_port: bool
    inbound_exempt_ports: _containers.RepeatedScalarFieldContainer[int]
    wide_prefixes: _containers.RepeatedScalarFieldContainer[str]
    outbound_ports: _containers.RepeatedScalarFieldContainer[int]
    exempt_prefixes: _containers.RepeatedScalarFieldContainer[str]
    exempt_ports: _containers.RepeatedScalarFieldContainer[int]
    probe: Probe
    def __init__(self, inbound_ports: _Optional[_Iterable[int]] = ..., capture_prefixes: _Optional[_Iterable[str]] = ..., names: _Optional[_Iterable[_Union[Name, _Mapping]]] = ..., every_inbound_port: _Optional[bool] = ..., inbound_exempt_ports: _Optional[_Iterable[int]] = ..., wide_prefixes: _Optional[_Iterable[str]] = ..., outbound_ports: _Optional[_Iterable[int]] = ..., exempt_prefixes: _Optional[_Iterable[str]] = ..., exempt_ports: _Optional[_Iterable[int]] = ..., probe: _Optional[_Union[Probe, _Mapping]] = ...) -> None: ...

class Probe(_message.Message):
    __slots__ = ("initial_delay_s", "timeout_s", "period_s", "success_threshold", "failure_threshold", "http_get", "tcp_socket", "exec", "grpc")
    class HttpGet(_message.Message):
        __slots__ = ("host", "port", "path", "tls", "headers")
        HOST_FIELD_NUMBER: _ClassVar[int]
        PORT_FIELD_NUMBER: _ClassVar[int]
        PATH_FIELD_NUMBER: _ClassVar[int]
        TLS_FIELD_NUMBER: _ClassVar[int]
        HEADERS_FIELD_NUMBER: _ClassVar[int]
        host: str
        port: int
        path: str
        tls: bool
        headers: _containers.RepeatedCompositeFieldContainer[Probe.Header]
        def __init__(self, host: _Optional[str] = ..., port: _Optional[int] = ..., path: _Optional[str] = ..., tls: _Optional[bool] = ..., headers: _Optional[_Iterable[_Union[Probe.Header, _Mapping]]] = ...) -> None: ...
    class Header(_message.Message):
        __slots__ = ("name", "value")
        NAME_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        name: str
        value: str
        def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class TcpSocket(_message.Message):
        __slots__ = ("host", "port")
        HOST_FIELD_NUMBER: _ClassVar[int]
        PORT_FIELD_NUMBER: _ClassVar[int]
        host: str
        port: int
        def __init__(self, host: _Optional[str] = ..., port: _Optional[int] = ...) -> None: ...
    class Exec(_message.Message):
        __slots__ = ("command",)
        COMMAND_FIELD_NUMBER: _ClassVar[int]
        command: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, command: _Optional[_Iterable[str]] = ...) -> None: ...
    class Grpc(_message.Message):
        __slots__ = ("port", "service")
        PORT_FIELD_NUMBER: _ClassVar[int]
        SERVICE_FIELD_NUMBER: _ClassVar[int]
        port: int
        service: str
        def __init__(self, port: _Optional[int] = ..., service: _Optional[str] = ...) -> None: ...
    INITIAL_DELAY_S_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    PERIOD_S_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    FAILURE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    HTTP_GET_FIELD_NUMBER: _ClassVar[int]
    TCP_SOCKET_FIELD_NUMBER: _ClassVar[int]
    EXEC_FIELD_NUMBER: _ClassVar[int]
    GRPC_FIELD_NUMBER: _ClassVar[int]
    initial_delay_s: int
    timeout_s: int
    period_s: int
    success_threshold: int
    failure_threshold: int
    http_get: Probe.HttpGet
    tcp_socket: Probe.TcpSocket
    exec: Probe.Exec
    grpc: Probe.Grpc
    def __init__(self, initial_delay_s: _Optional[int] = ..., timeout_s: _Optional[int] = ..., period_s: _Optional[int] = ..., success_threshold: _Optional[int] = ..., failure_threshold: _Optional[int] = ..., http_get: _Optional[_Union[Probe.HttpGet, _Mapping]] = ..., tcp_socket: _Optional[_Union[Probe.TcpSocket, _Mapping]] = ..., exec: _Optional[_Union[Probe.Exec, _Mapping]] = ..., grpc: _Optional[_Union[Probe.Grpc, _Mapping]] = ...) -> None: ...

class Name(_message.Message):
    __slots__ = ("host", "addresses")
    HOST_FIELD_NUMBER: _ClassVar[int]
    ADDRESSES_FIELD_NUMBER: _ClassVar[int]
    host: str
    addresses: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, host: _Optional[str] = ..., addresses: _Optional[_Iterable[str]] = ...) -> None: ...

class ProveRequest(_message.Message):
    __slots__ = ("ports",)
    PORTS_FIELD_NUMBER: _ClassVar[int]
    ports: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ports: _Optional[_Iterable[int]] = ...) -> None: ...

class ProveResponse(_message.Message):
    __slots__ = ("ports",)
    PORTS_FIELD_NUMBER: _ClassVar[int]
    ports: _containers.RepeatedCompositeFieldContainer[PortProof]
    def __init__(self, ports: _Optional[_Iterable[_Union[PortProof, _Mapping]]] = ...) -> None: ...

class PortProof(_message.Message):
    __slots__ = ("port", "ok", "detail", "plaintext")
    PORT_FIELD_NUMBER: _ClassVar[int]
    OK_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    PLAINTEXT_FIELD_NUMBER: _ClassVar[int]
    port: int
    ok: bool
    detail: str
    plaintext: bool
    def __init__(self, port: _Optional[int] = ..., ok: _Optional[bool] = ..., detail: _Optional[str] = ..., plaintext: _Optional[bool] = ...) -> None: ...

class HealthReport(_message.Message):
    __slots__ = ("healthy", "message")
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    healthy: bool
    message: str
    def __init__(self, healthy: _Optional[bool] = ..., message: _Optional[str] = ...) -> None: ...

class HealthNoted(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LeaveRequest(_message.Message):
    __slots__ = ("unused_token",)
    UNUSED_TOKEN_FIELD_NUMBER: _ClassVar[int]
    unused_token: str
    def __init__(self, unused_token: _Optional[str] = ...) -> None: ...

class LeaveResponse(_message.Message):
    __slots__ = ("token_given_back", "detail")
    TOKEN_GIVEN_BACK_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    token_given_back: bool
    detail: str
    def __init__(self, token_given_back: _Optional[bool] = ..., detail: _Optional[str] = ...) -> None: ...

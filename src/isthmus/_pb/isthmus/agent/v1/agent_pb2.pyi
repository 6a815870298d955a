from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HostConfig(_message.Message):
    __slots__ = ("inbound_ports", "capture_prefixes", "names", "every_inbound_port", "inbound_exempt_ports", "wide_prefixes", "outbound_ports", "exempt_prefixes", "exempt_ports")
    INBOUND_PORTS_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_PREFIXES_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    EVERY_INBOUND_PORT_FIELD_NUMBER: _ClassVar[int]
    INBOUND_EXEMPT_PORTS_FIELD_NUMBER: _ClassVar[int]
    WIDE_PREFIXES_FIELD_NUMBER: _ClassVar[int]
    OUTBOUND_PORTS_FIELD_NUMBER: _ClassVar[int]
    EXEMPT_PREFIXES_FIELD_NUMBER: _ClassVar[int]
    EXEMPT_PORTS_FIELD_NUMBER: _ClassVar[int]
    inbound_ports: _containers.RepeatedScalarFieldContainer[int]
    capture_prefixes: _containers.RepeatedScalarFieldContainer[str]
    names: _containers.RepeatedCompositeFieldContainer[Name]
    every_inbound_port: bool
    inbound_exempt_ports: _containers.RepeatedScalarFieldContainer[int]
    wide_prefixes: _containers.RepeatedScalarFieldContainer[str]
    outbound_ports: _containers.RepeatedScalarFieldContainer[int]
    exempt_prefixes: _containers.RepeatedScalarFieldContainer[str]
    exempt_ports: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, inbound_ports: _Optional[_Iterable[int]] = ..., capture_prefixes: _Optional[_Iterable[str]] = ..., names: _Optional[_Iterable[_Union[Name, _Mapping]]] = ..., every_inbound_port: _Optional[bool] = ..., inbound_exempt_ports: _Optional[_Iterable[int]] = ..., wide_prefixes: _Optional[_Iterable[str]] = ..., outbound_ports: _Optional[_Iterable[int]] = ..., exempt_prefixes: _Optional[_Iterable[str]] = ..., exempt_ports: _Optional[_Iterable[int]] = ...) -> None: ...

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

class LeaveRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LeaveResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

"""Addresses on the loopback interface, over rtnetlink: no `ip` binary is needed on the VM.

Envoy's connections to the VM's own programs come from `::6` (as Istio's do), so that capture knows them.
127.0.0.6 needs nothing, all of 127.0.0.0/8 is local; `::6` has to be added.
"""

import errno
import os
import socket
import struct

INBOUND_SOURCE = "::6"
_NEW_ADDRESS, _DELETE_ADDRESS = 20, 21
_REQUEST, _ACK, _CREATE, _EXCLUSIVE = 1, 4, 0x400, 0x200
_NO_DUPLICATE_DETECTION, _HOST_SCOPE = 0x02, 254
_LOCAL, _ADDRESS = 2, 1


def add(address: str) -> bool:
    """Adds an IPv6 address to lo; False when it was there already or the kernel has no IPv6."""
    try:
        _ask(_NEW_ADDRESS, _REQUEST | _ACK | _CREATE | _EXCLUSIVE, address)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EACCES):
            return False
        raise
    return True


def has(address: str) -> bool:
    """Whether lo has the IPv6 address."""
    wanted = socket.inet_pton(socket.AF_INET6, address).hex()
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as table:
            return any(line.split()[0] == wanted and line.split()[5] == "lo" for line in table)
    except FileNotFoundError:
        return False


def remove(address: str) -> bool:
    """Takes an IPv6 address off lo; False when it was not there."""
    if not has(address):
        return False
    _ask(_DELETE_ADDRESS, _REQUEST | _ACK, address)
    return True


def _ask(kind: int, flags: int, address: str) -> None:
    packed = socket.inet_pton(socket.AF_INET6, address)
    body = struct.pack("=BBBBI", socket.AF_INET6, 128, _NO_DUPLICATE_DETECTION, _HOST_SCOPE, _lo())
    body += b"".join(
        struct.pack("=HH", 4 + len(packed), attribute) + packed for attribute in (_LOCAL, _ADDRESS)
    )
    message = struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.settimeout(2)
        netlink.bind((0, 0))
        netlink.send(message)
        answer = netlink.recv(4096)
    (code,) = struct.unpack_from("=i", answer, 16)
    if code:
        raise OSError(-code, f"{os.strerror(-code)}: {address} on lo")


def _lo() -> int:
    return socket.if_nametoindex("lo")

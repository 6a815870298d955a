"""A join token -> this VM's certificate and bootstrap, from the one server whose key the token pins.

connect (addresses in order, each with a head start) ──▶ TLS ──▶ is it the pinned key?
                                                            only now: secret and CSR ──▶ answer
"""

import contextlib
import hashlib
import hmac
import http.client
import ipaddress
import json
import platform
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from isthmus.agent import keywork
from isthmus.agent.certificate import Certificate
from isthmus.agent.membership import Credentials, Membership
from isthmus.agent.story import StepFailed
from isthmus.clock import rfc3339
from isthmus.identity.jointoken import Token, split_address

PATH = "/isthmus.dev/v1/enrol"
_CONNECT_S, _ANSWER_S = 3.0, 15.0
_HEAD_START_S = 0.25
_MOST_BYTES = 4 * 1024 * 1024


class WrongKey(Exception):
    """A server answered that is not the one the token was made by."""


class NoAnswer(Exception):
    """The connection broke after the request was sent: the server may or may not have enrolled this key."""


@dataclass(frozen=True, slots=True)
class Knocked:
    """An open connection to the right server, over which nothing has been said yet."""

    address: str
    connection: ssl.SSLSocket

    @property
    def own_address(self) -> str:
        """The address of this VM that leads to the server: how the mesh will know the VM."""
        return str(self.connection.getsockname()[0]).partition("%")[0]


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What enrolment gave this VM."""

    membership: Membership
    credentials: Credentials
    bootstrap: Mapping[str, Any]

    def bootstrap_json(self) -> bytes:
        """The bootstrap as Envoy reads it."""
        return json.dumps(self.bootstrap, indent=1).encode()

    def until(self) -> str:
        """When the certificate ends, in words."""
        ends = Certificate.first(self.credentials.chain).ends
        return f"certificate until {ends:%Y-%m-%d %H:%M:%S} UTC"


def knock(addresses: Sequence[str], pin: bytes) -> Knocked:
    """Connects to the first of the addresses that answers with the pinned key; sends nothing.

    Each address gets a head start over the next (RFC 8305): the order is the operator's preference, and it
    decides by which family of addresses the mesh knows this VM.
    """
    failures: dict[str, Exception] = {}
    tries: dict[Future[ssl.SSLSocket], str] = {}
    untried = list(addresses)
    pool = ThreadPoolExecutor(len(untried))
    try:
        while untried or len(failures) < len(tries):
            if untried:
                address = untried.pop(0)
                tries[pool.submit(_connect, address, pin)] = address
            open_ = [attempt for attempt, address in tries.items() if address not in failures]
            done, _ = wait(open_, _HEAD_START_S if untried else None, FIRST_COMPLETED)
            for attempt in done:
                try:
                    return Knocked(tries[attempt], attempt.result())
                except (OSError, WrongKey) as error:
                    failures[tries[attempt]] = error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    told = "; ".join(f"{address}: {failures[address]}" for address in addresses)
    if any(isinstance(error, WrongKey) for error in failures.values()):
        raise StepFailed(
            "preflight",
            f"the server's key is not the one that the token pins ({told}); nothing was sent to it",
            "is the token of another control plane, or was this one set up anew? create a new token there; "
            "otherwise somebody stands in between",
        )
    raise StepFailed(
        "preflight",
        f"no way to the control plane ({told})",
        "is it running, does a firewall let this VM through to these addresses?",
    )


def enrol(token: Token, knocked: Knocked, asked: keywork.Asked, address: str) -> Enrolled:
    """Shows the secret and the signing request, and checks what comes back."""
    request = {
        "token": token.id,
        "secret": token.secret.hex(),
        "csr": asked.csr,
        "addresses": [address],
        "hostname": platform.node(),
        "time": rfc3339(),
    }
    answer = exchange(knocked, PATH, request)
    try:
        bootstrap = answer["bootstrap"]
        bootstrap = json.loads(bootstrap) if isinstance(bootstrap, str) else bootstrap
        credentials = Credentials(asked.key, answer["chain"].encode(), answer["roots"].encode())
        membership = Membership(
            namespace=answer["namespace"],
            workload=answer["workload"],
            spiffe_id=answer["spiffe_id"],
            address=address,
            doors=tuple(answer["ads"]),
            token_id=token.id,
            gateway=str(bootstrap["node"]["id"]).startswith("router~"),
            api=token.addresses,
            pin=token.pin.hex(),
            token_until=str(answer.get("token_expires", "")),
        )
        keywork.check(credentials, membership.spiffe_id)
    except (KeyError, TypeError, ValueError) as error:
        raise StepFailed(
            "enrol",
            f"the control plane's answer makes no sense: {error!r}",
            "is it of another version of Isthmus?",
        ) from None
    return Enrolled(membership, credentials, bootstrap)


def own_address(knocked: Knocked, asked: str | None) -> str:
    """The address under which the mesh reaches this VM: the one asked for, else the one that leads out."""
    if asked is not None:
        try:
            return str(ipaddress.ip_address(asked))
        except ValueError:
            hint = "give the VM's own address, such as --address 10.0.0.7"
            raise StepFailed("preflight", f"--address {asked!r} is not an IP address", hint) from None
    found = ipaddress.ip_address(knocked.own_address)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    for candidate in (str(mapped or found), *_routed()):
        if not ipaddress.ip_address(candidate).is_loopback:
            return candidate
    raise StepFailed(
        "preflight",
        "this VM has no address but the loopback's",
        "give the one that others reach: --address IP",
    )


def _routed() -> Iterator[str]:
    """Addresses that the kernel would send from; nothing is sent to find out (documentation ranges)."""
    for family, target in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            yield str(probe.getsockname()[0])


def _connect(address: str, pin: bytes) -> ssl.SSLSocket:
    host, port = split_address(address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # the pin is stricter than any name or chain: exactly this key
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection((host, port), _CONNECT_S)
    try:
        connection = context.wrap_socket(plain, server_hostname=host)
    except OSError as error:
        plain.close()
        raise OSError(f"no TLS there: {error}") from None
    try:
        shown = Certificate.of(connection.getpeercert(binary_form=True) or b"").public_key
    except ValueError:
        shown = b""
    if not hmac.compare_digest(hashlib.sha256(shown).digest(), pin):
        connection.close()
        raise WrongKey("it has another key")
    return connection


def exchange(knocked: Knocked, path: str, request: Mapping[str, Any] | None) -> dict[str, Any]:
    """The answer to one request (None: a GET), after which the connection is closed."""
    knocked.connection.settimeout(_ANSWER_S)
    host, port = split_address(knocked.address)
    connection = http.client.HTTPConnection(host, port)
    connection.sock = knocked.connection
    try:
        if request is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, json.dumps(request), {"content-type": "application/json"})
        response = connection.getresponse()
        body = response.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException) as error:
        words = str(error) or type(error).__name__
        raise NoAnswer(f"the control plane at {knocked.address} did not answer: {words}") from None
    finally:
        connection.close()
    try:
        document = json.loads(body)
    except ValueError:
        document = {"error": f"HTTP {response.status} and no JSON"}
    if response.status // 100 != 2:
        words, hint = str(document.get("error", document)), str(document.get("hint") or "")
        raise StepFailed("enrol", f"refused: {words}", hint or "the control plane's log says more")
    return dict(document)

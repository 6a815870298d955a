"""One real request out through the captured path, and one in: a join says "joined" only after both."""

import asyncio
import http.client
import json
import secrets as chance
import socket

from isthmus.agent import door
from isthmus.agent.membership import Credentials, Membership
from isthmus.agent.story import StepFailed

TARGET = "isthmus.isthmus-system.svc.cluster.local"
_TRY_S, _BETWEEN_S = 2.0, 0.05
_AT_ONCE = 64
"""Ports that the control plane dials for one call."""


async def outbound(membership: Membership, deadline_s: float) -> str:
    """Asks the control plane, by its mesh name, who is asking: the answer must be this VM's identity."""
    seen = ""
    try:
        async with asyncio.timeout(deadline_s):
            while True:
                try:
                    address, you = await asyncio.to_thread(_ask)
                except (OSError, ValueError, http.client.HTTPException) as error:
                    seen = str(error) or type(error).__name__
                else:
                    if you == membership.spiffe_id:
                        return f"http://{TARGET} at {address} knows who we are"
                    seen = f"{TARGET} knows this VM as {you!r}, expected {membership.spiffe_id!r}"
                await asyncio.sleep(_BETWEEN_S)
    except TimeoutError:
        raise StepFailed(
            "proof out",
            f"no request went out through Envoy in {deadline_s:.0f} s: {seen or 'no answer'}",
            "look at the control plane's log; does another firewall rule redirect or drop this VM's traffic?",
        ) from None


async def inbound(
    membership: Membership, credentials: Credentials, ports: tuple[int, ...], deadline_s: float
) -> str:
    """Lets the control plane connect back to every declared port; its Envoy must answer there.

    Where it would take plaintext only, nothing can be proven, and that is said.
    """
    if not ports:
        return "no inbound ports are declared: nothing to prove"
    pending, seen = set(ports), {port: "no answer" for port in ports}
    plaintext: set[int] = set()
    try:
        async with asyncio.timeout(deadline_s):
            while pending:
                asked = sorted(pending)[:_AT_ONCE]
                answer = await door.prove(membership.doors, credentials, asked, deadline_s)
                for proof in answer.ports:
                    seen[proof.port] = proof.detail
                    if proof.ok or proof.plaintext:
                        pending.discard(proof.port)
                    if proof.plaintext:
                        plaintext.add(proof.port)
                if pending:
                    await asyncio.sleep(_BETWEEN_S * 4)
    except door.DoorClosed as error:
        raise StepFailed("proof in", str(error), "is the control plane up? its log says more") from None
    except TimeoutError:
        told = "; ".join(f"{port}: {seen[port]}" for port in sorted(pending))
        raise StepFailed(
            "proof in",
            f"the control plane did not get in at {membership.address} ({told})",
            f"is a firewall in the way, or is {membership.address} not how others reach this VM? "
            "join again with --address IP",
        ) from None
    answered = ", ".join(str(port) for port in ports if port not in plaintext)
    unproven = ", ".join(map(str, sorted(plaintext)))
    said = (
        f"{answered} answered to the control plane at {membership.address}" if answered else "",
        f"{unproven} plaintext only, not proven" if unproven else "",
    )
    return "; ".join(filter(None, said))


def _ask() -> tuple[str, str]:
    """Who the mesh says we are, by the way that every program on this VM takes: libc, capture, Envoy."""
    nonce = chance.token_hex(8)
    found = socket.getaddrinfo(TARGET, 80, type=socket.SOCK_STREAM)
    failure: OSError | None = None
    for _, _, _, _, address in found:
        connection = http.client.HTTPConnection(str(address[0]), 80, timeout=_TRY_S)
        try:
            connection.request("GET", f"/{nonce}", headers={"host": TARGET})
            response = connection.getresponse()
            body = response.read(65536)
        except OSError as error:
            failure = error
            continue
        finally:
            connection.close()
        if response.status != 200:
            words = " ".join(body.decode("utf-8", "replace").split())[:200]
            raise http.client.HTTPException(f"{TARGET} answered {response.status} {words}")
        document = json.loads(body)
        if nonce not in str(document["nonce"]):
            raise ValueError(f"{TARGET} answered another request than ours")
        return str(address[0]), str(document["you"])
    raise failure or OSError(f"{TARGET} has no address")

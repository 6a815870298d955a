"""What a gateway's host does: nothing is captured, Envoy itself listens.

orders: the ports of the Gateways that this host obeys ──▶ wait until Envoy accepts connections there
"""

import asyncio

from isthmus.agent import envoy
from isthmus.agent.paths import Paths
from isthmus.agent.story import StepFailed


async def listening(running: envoy.Envoy, paths: Paths, ports: tuple[int, ...], deadline_s: float) -> str:
    """Waits until Envoy accepts connections on every port; StepFailed names those on which it does not."""
    if not ports:
        return "on nothing yet: no Gateway selects this host, or none has routes"
    closed = list(ports)
    try:
        async with asyncio.timeout(deadline_s):
            while closed:
                await envoy.listening(running, paths, closed[0])
                del closed[0]
    except envoy.EnvoyFailed as error:
        raise StepFailed("listening", str(error), "see its words") from None
    except TimeoutError:
        words = envoy.last_words(paths)
        raise StepFailed(
            "listening",
            f"Envoy does not listen on {', '.join(map(str, closed))} after {deadline_s:.0f} s: {words}",
            "does another program hold the port (ss -ltnp)? what do the conditions of the Gateway say?",
        ) from None
    return f"on {', '.join(map(str, ports))}"

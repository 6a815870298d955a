"""How the control plane stands -> how Envoy starts: from it, or from what was kept.

join                              directly
later, control plane answers      directly
later, it does not (2 s)          through the agent's socket, from what was kept; directly if nothing was
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator

from isthmus.agent import envoy, last_good
from isthmus.agent.journal import Journal
from isthmus.agent.orders import Desk, Reach
from isthmus.agent.paths import Paths
from isthmus.agent.relay import Relay, through_agent
from isthmus.agent.sds import Secrets
from isthmus.agent.story import StepFailed

_TRIED_S = 2.0
"""How long a VM that starts waits to know whether its control plane answers."""
_LOG = logging.getLogger("isthmus.agent")


class Starter:
    """Starts the Envoys of one run."""

    def __init__(self, paths: Paths, journal: Journal, desk: Desk, secrets: Secrets) -> None:
        self.relay = Relay(desk, secrets)
        self._paths, self._journal, self._desk, self._secrets = paths, journal, desk, secrets

    async def start(self) -> envoy.Envoy:
        """A running Envoy; StepFailed when it does not start."""
        bootstrap = await self._bootstrap() if self._journal.joined else None
        try:
            return await asyncio.to_thread(
                envoy.start,
                self._paths,
                self._journal,
                bootstrap=bootstrap,
                low_ports=self._desk.membership.gateway,
            )
        except envoy.EnvoyFailed as error:
            hint = "run the binary with --version: does it work at all?"
            raise StepFailed("envoy", str(error), hint) from None

    async def again(self, waits: Iterator[float]) -> envoy.Envoy:
        """Starts Envoy after one has ended: tries until it works, and tells each reason once."""
        said = ""
        while True:
            await asyncio.sleep(next(waits))
            try:
                return await self.start()
            except (StepFailed, OSError) as error:
                if str(error) != said:
                    _LOG.error("envoy not started reason=%s", error)
                said = str(error)

    async def _bootstrap(self) -> bytes | None:
        """The bootstrap for a start without control plane; None when it is there, or nothing was kept."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TRIED_S):
                await self._desk.tried.wait()
        if self._desk.reach in (Reach.HERE, Reach.REFUSED):
            return None
        bootstrap = through_agent(self._paths.bootstrap.read_bytes(), self._paths)
        if bootstrap is None:
            return None
        kept = await last_good.recall(self._paths, self._secrets.credentials)
        if kept is None:
            return None
        self.relay.kept = kept
        _LOG.warning(
            "control plane away, last good configuration used of=%s", f"{kept.since:%Y-%m-%d %H:%M:%S UTC}"
        )
        return bootstrap

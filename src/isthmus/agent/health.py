"""Looks at the workload -> what the control plane is told, when it changes and when the connection is new.

orders: probe ──▶ look, period after period ──▶ so many in a row? ──▶ report ──▶ WorkloadEntry: Healthy
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from isthmus._pb.isthmus.agent.v1 import agent_pb2 as agent_v1
from isthmus.agent import checks, door
from isthmus.agent.checks import Probe
from isthmus.agent.orders import Desk, Reach
from isthmus.agent.sds import Secrets
from isthmus.clock import backoff

_REPORT_S, _FAREWELL_S = 5.0, 1.0
_LOG = logging.getLogger("isthmus.agent")


@dataclass(slots=True)
class Judgement:
    """The verdict on a workload so far; None until enough results in a row were the same."""

    probe: Probe
    healthy: bool | None = None
    why: str = ""
    """Of an unhealthy one, what was seen when it became so."""
    _good: int = 0
    _bad: int = 0

    def take(self, why: str) -> bool:
        """Takes one result, empty for a good one; whether the verdict is another now."""
        self._good, self._bad = (0, self._bad + 1) if why else (self._good + 1, 0)
        healthy = self.healthy
        if self._good >= self.probe.success_threshold:
            healthy = True
        elif self._bad >= self.probe.failure_threshold:
            healthy = False
        if healthy == self.healthy:
            return False
        self.healthy, self.why = healthy, why
        return True


class Health:
    """Looks after one workload for as long as the agent runs. `ready`: whether Envoy has its listeners."""

    def __init__(self, desk: Desk, secrets: Secrets, ready: Callable[[], bool]) -> None:
        self._desk, self._secrets, self._ready = desk, secrets, ready
        self._judgement: Judgement | None = None

    async def look_after(self) -> None:
        """Probes as ordered, for ever; other orders begin anew."""
        while True:
            self._desk.probe_changed.clear()
            probe = self._desk.orders.probe if self._desk.orders else None
            self._judgement = Judgement(probe) if probe else None
            async with asyncio.TaskGroup() as group:
                probing = group.create_task(self._probe(self._judgement)) if self._judgement else None
                await self._desk.probe_changed.wait()
                if probing is not None:
                    probing.cancel()

    async def report(self) -> None:
        """Tells the control plane what it does not know yet, for ever."""
        while True:
            await self._desk.report_due.wait()
            waits, quiet = backoff(0.2, 10), False
            while self._desk.reach is Reach.HERE:
                self._desk.report_due.clear()
                judgement = self._judgement
                if judgement is None or judgement.healthy is None:
                    break
                report = agent_v1.HealthReport(healthy=judgement.healthy, message=judgement.why)
                membership = self._desk.membership
                try:
                    await door.report_health(membership.doors, self._secrets.credentials, report, _REPORT_S)
                    break
                except door.DoorClosed as error:
                    if not quiet:
                        _LOG.warning("health not told reason=%s", error)
                    quiet = True
                await asyncio.sleep(next(waits))
            else:
                self._desk.report_due.clear()  # the next connection sets it again

    async def say_stopped(self) -> None:
        """Tells that a workload which is looked after takes no traffic now, if the control plane listens."""
        if self._judgement is None or self._desk.reach is not Reach.HERE:
            return
        report = agent_v1.HealthReport(healthy=False, message="the sidecar was stopped")
        doors = self._desk.membership.doors
        with contextlib.suppress(door.DoorClosed):
            await door.report_health(doors, self._secrets.credentials, report, _FAREWELL_S)

    async def _probe(self, judgement: Judgement) -> None:
        loop, probe = asyncio.get_running_loop(), judgement.probe
        await asyncio.sleep(probe.initial_delay_s)
        while True:
            began = loop.time()
            if self._ready():
                why = await checks.look(probe, self._desk.membership.address)
            else:
                why = "Envoy has no listeners yet"
            if judgement.take(why):
                level = logging.INFO if judgement.healthy else logging.WARNING
                _LOG.log(level, "workload %s", "healthy" if judgement.healthy else f"unhealthy reason={why}")
                self._desk.report_due.set()
            await asyncio.sleep(max(0.0, began + probe.period_s - loop.time()))

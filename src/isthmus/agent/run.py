"""A membership on disk -> a working sidecar: SDS, Envoy, orders, DNS, capture, renewal, in one owner.

credentials ─▶ SDS ─▶ Envoy live ─┐
ADS stream ─▶ orders ─────────────┴▶ capture ─▶ stub, resolv.conf ─▶ proof out, proof in ─▶ commit
                                                                                (a join) │
then, until told to stop: carry out new orders, renew, restart Envoy, repair what others undid
"""

import asyncio
import contextlib
import logging
import os

from isthmus.agent import (
    capture,
    envoy,
    gateway,
    last_good,
    nft,
    orders,
    processes,
    proof,
    renewal,
    resolver,
    sds,
    stopping,
    systemd,
)
from isthmus.agent.capture import INBOUND_PORT, OUTBOUND_PORT
from isthmus.agent.changes import Directory, EditedFile, LoopbackAddress, NftTable, ReplacedLink, Unit
from isthmus.agent.dns import NameTable
from isthmus.agent.exempt import Doors
from isthmus.agent.health import Health
from isthmus.agent.journal import Journal
from isthmus.agent.membership import Credentials, Membership, MembershipDamaged
from isthmus.agent.orders import Desk, Orders
from isthmus.agent.paths import ENVOY_RESOLVER_ADDRESS, ENVOY_UID, Paths
from isthmus.agent.starting import Starter
from isthmus.agent.story import Say, StepFailed
from isthmus.agent.stub import Stub
from isthmus.clock import backoff

_LOG = logging.getLogger("isthmus.agent")
_ENVOY_S, _ORDERS_S, _PROOF_S = 15.0, 8.0, 8.0
_REPAIR_S = 5.0
_DRAIN_S = 2.0
_GRACE_S = 3.0
"""An Envoy that has no listeners by then waits for the control plane."""
_STEADY_S = 30.0
"""An Envoy that ran this long did not fail at start."""


async def run(paths: Paths, journal: Journal, say: Say, *, drain_s: float = _DRAIN_S) -> None:
    """Runs the sidecar until SIGTERM, SIGINT or SIGHUP, then stops it; the registration is kept.

    While the join is not committed, any failure raises StepFailed, with everything still on the journal.
    """
    stop = asyncio.Event()
    with stopping.signals(stop):
        sidecar = await _Sidecar.prepare(paths, journal, say)
        try:
            await stopping.until(stop, sidecar.work())
        except stopping.Stopped:
            if not journal.joined:
                raise StepFailed("join", "interrupted", "run it again when you like") from None
        await sidecar.stop(drain_s)


def take_back(journal: Journal) -> list[str]:
    """Takes back all that a run changed, but not that the VM is a member."""
    return journal.undo(Unit)


class _Sidecar:
    """The parts of one run, and their order."""

    def __init__(self, paths: Paths, journal: Journal, say: Say, desk: Desk, secrets: sds.Secrets) -> None:
        self._paths, self._journal, self._say = paths, journal, say
        self._desk, self._secrets = desk, secrets
        self._starter = Starter(paths, journal, desk, secrets)
        self._stub = Stub()
        self._envoy_resolver = Stub(address=ENVOY_RESOLVER_ADDRESS)
        """Knows no names of its own: the virtual address of a host would lead Envoy back to itself."""
        self._doors = Doors()
        self._envoy: envoy.Envoy | None = None
        self._listens: tuple[int, ...] | None = None
        """The ports on which a gateway was seen to listen."""
        self._health = Health(desk, secrets, lambda: self._serving)
        self._serving = False
        """Whether Envoy has listeners to which connections can be led."""
        self._trouble = ""
        """Why orders could not be carried out, as it was last told."""

    @classmethod
    async def prepare(cls, paths: Paths, journal: Journal, say: Say) -> "_Sidecar":
        """Reads the membership and makes the run directory."""
        try:
            membership = Membership.load(paths)
        except MembershipDamaged as error:
            hint = "isthmus leave, then join with a new token"
            raise StepFailed("agent", str(error), hint) from None
        if membership is None:
            raise StepFailed("agent", "this VM has not joined a mesh", "join it: isthmus join TOKEN")
        adopted = envoy.adopt(paths, journal)
        if adopted is None:
            # no Envoy behind the redirections of a dead run: what is declared stays closed until there is one
            journal.undo(Unit, Directory, NftTable, LoopbackAddress)
        _make_run_directory(paths, journal)
        processes.write_pid(paths.agent_pid, os.getpid())
        sidecar = cls(paths, journal, say, Desk(membership, paths), sds.Secrets(Credentials.load(paths)))
        sidecar._envoy = adopted
        return sidecar

    async def work(self) -> None:
        """Comes up, proves itself when this is a join, then serves for ever."""
        async with contextlib.AsyncExitStack() as stack:
            relay = self._starter.relay.handler()
            await stack.enter_async_context(sds.serving(self._secrets, self._paths, relay))
            if not self._is_gateway:
                await self._serve_names(stack)
                await self._follow_connections()
            group = await stack.enter_async_context(asyncio.TaskGroup())
            group.create_task(orders.follow(self._desk, self._secrets, self._paths))
            # a VM that waits for its control plane must not lose its certificate, nor its closed ports
            fresh = renewal.keep_fresh(
                self._desk.membership, self._secrets, self._paths, lambda: self._journal.joined
            )
            group.create_task(fresh)
            if self._journal.joined:
                group.create_task(self._repair())
                group.create_task(self._tell_waiting())
            await self._come_up()
            group.create_task(self._keep_envoy())
            group.create_task(self._carry_out())
            group.create_task(last_good.keep(self._desk, self._paths))
            group.create_task(self._health.look_after())
            group.create_task(self._health.report())
            if not self._journal.joined:
                group.create_task(self._repair())
                await self._prove()
                self._journal.commit()
            systemd.notify("READY=1", f"STATUS=in the mesh as {self._desk.membership.spiffe_id}")
            self._say("joined", f"{self._desk.membership.name} is in the mesh")

    @property
    def _is_gateway(self) -> bool:
        return self._desk.membership.gateway

    async def _serve_names(self, stack: contextlib.AsyncExitStack) -> None:
        try:
            for each in (self._stub, self._envoy_resolver):
                await stack.enter_async_context(each.serving())
        except OSError as error:
            hint = "what holds that address? `isthmus join` names it before it changes anything"
            raise StepFailed("dns", f"the stub cannot listen: {error}", hint) from None

    async def stop(self, drain_s: float) -> None:
        """Callers are told, and programs go round Envoy; only then is it drained and ended."""
        systemd.notify("STOPPING=1")
        await self._health.say_stopped()
        resolver.uninstall(self._journal, self._paths)
        capture.uninstall(self._journal)
        if self._envoy is not None:
            await envoy.stop(self._paths, self._envoy, drain_s=drain_s)
        take_back(self._journal)

    async def _come_up(self) -> None:
        began = asyncio.get_running_loop().time()
        adopted = self._envoy is not None
        if self._envoy is None:
            self._envoy = await self._starter.start()
        # a rebooted VM with neither control plane nor a last good configuration waits here: nothing is led
        # out, declared ports are closed
        limit = None if self._journal.joined else _ENVOY_S
        try:
            async with asyncio.timeout(limit):
                await envoy.live(self._paths, self._envoy)
                version = await envoy.version(self._paths)
                took = asyncio.get_running_loop().time() - began
                how = "still running" if adopted else f"live in {took:.1f} s"
                self._say("envoy", f"{version} {how}, process {self._envoy.id.pid}")
                if not self._is_gateway:
                    await envoy.listening(self._envoy, self._paths, OUTBOUND_PORT, INBOUND_PORT)
            self._serving = True
        except envoy.EnvoyFailed as error:
            raise StepFailed("envoy", str(error), "its whole log was shown above if it was short") from None
        except TimeoutError:
            raise StepFailed(
                "envoy",
                f"Envoy got no listeners in {_ENVOY_S:.0f} s; its words: {envoy.last_words(self._paths)}",
                f"can this VM reach the control plane's ADS door {', '.join(self._desk.membership.doors)}?",
            ) from None
        await self._first_orders()

    async def _follow_connections(self) -> None:
        """Puts a table in place before anything is connected: empty, or closing what is declared.

        Its NAT chains make the kernel track connections. One that is older than that, and on which the other
        side speaks next, counts as new when its packet comes in: a firewall installed later would drop it.
        """
        try:
            if self._envoy is None or await asyncio.to_thread(capture.installed) is None:
                known = self._desk.orders if self._journal.joined else None
                first = known.capture.inward_only() if known else capture.Capture()
                await asyncio.to_thread(capture.install, self._journal, first)
        except nft.NftFailed as error:
            raise StepFailed("capture", str(error), "does `nft list ruleset` work as root?") from None

    async def _first_orders(self) -> None:
        try:
            async with asyncio.timeout(None if self._journal.joined else _ORDERS_S):
                await self._desk.arrived.wait()
        except TimeoutError:
            raise StepFailed(
                "orders",
                f"the control plane sent no host configuration in {_ORDERS_S:.0f} s; "
                f"{self._desk.refusal or 'the stream is open'}",
                "the control plane's log says more",
            ) from None
        await self._try_to_apply()

    async def _apply(self, wanted: Orders) -> None:
        """Makes the host as ordered: capture first, names after, so that no name leads past Envoy."""
        if self._is_gateway:
            await self._listen(wanted)
            return
        captured = wanted.capture.inward_only()
        if self._serving:
            membership = self._desk.membership
            # the API's too: a certificate that has ended is renewed there
            every = (*membership.doors, *membership.api)
            doors = await asyncio.to_thread(self._doors.seen, every)
            captured = wanted.capture.sparing(doors)
        try:
            if await asyncio.to_thread(capture.installed) != captured or not self._recorded(NftTable):
                await asyncio.to_thread(capture.install, self._journal, captured)
                self._say("capture", str(captured))
        except nft.NftFailed as error:
            raise StepFailed("capture", str(error), "does `nft list ruleset` work as root?") from None
        if not self._serving:
            return
        first = not self._recorded(EditedFile, ReplacedLink) or not resolver.stands(self._paths)
        try:
            found = await asyncio.to_thread(resolver.install, self._journal, self._paths)
        except OSError as error:
            hint = f"is {self._paths.resolv_conf} writable (chattr -i)?"
            raise StepFailed("dns", f"{self._paths.resolv_conf}: {error}", hint) from None
        self._stub.servers = self._envoy_resolver.servers = found.servers
        self._stub.table = NameTable.of(wanted.names, found.search)
        if first:
            self._say(
                "dns", f"{len(wanted.names)} mesh names here, all others from {', '.join(found.servers)}"
            )

    async def _listen(self, wanted: Orders) -> None:
        ports = wanted.ports
        if ports != self._listens:
            assert self._envoy is not None
            self._say("listening", await gateway.listening(self._envoy, self._paths, ports, _PROOF_S))
            self._listens = ports

    async def _prove(self) -> None:
        if self._is_gateway:
            return  # that its ports are open is all there is to prove: nothing leads through it by capture
        membership = self._desk.membership
        wanted = self._desk.orders
        assert wanted is not None
        # one after the other: if neither works, the outbound failure is the one that explains more
        self._say("proof out", await proof.outbound(membership, _PROOF_S))
        ports = wanted.ports
        self._say("proof in", await proof.inbound(membership, self._secrets.credentials, ports, _PROOF_S))

    async def _keep_envoy(self) -> None:
        waits = backoff(0.1, 10)
        while True:
            assert self._envoy is not None
            began = asyncio.get_running_loop().time()
            await envoy.wait_end(self._envoy)
            if not self._journal.joined:
                raise StepFailed("envoy", f"Envoy ended: {envoy.last_words(self._paths)}", "see its words")
            _LOG.error("envoy ended words=%s", envoy.last_words(self._paths))
            if asyncio.get_running_loop().time() - began > _STEADY_S:
                waits = backoff(0.1, 10)
            self._envoy = await self._starter.again(waits)
            _LOG.info("envoy started process=%d", self._envoy.id.pid)
            await self._lead_again()

    async def _lead_again(self) -> None:
        """Waits until the new Envoy listens; programs go round it when that takes long, or it ends again."""
        assert self._envoy is not None
        if self._is_gateway:
            return
        up = envoy.listening(self._envoy, self._paths, OUTBOUND_PORT, INBOUND_PORT)
        try:
            async with asyncio.timeout(None if not self._serving else _GRACE_S):
                await up
        except (TimeoutError, envoy.EnvoyFailed) as error:
            _LOG.warning(
                "envoy has no listeners, capture is inbound only reason=%s", error or "no answer yet"
            )
            self._serving = False
            await self._try_to_apply()
            if isinstance(error, TimeoutError):
                await self._lead_again()
            return
        if not self._serving:
            self._serving = True
            await self._try_to_apply()

    async def _tell_waiting(self) -> None:
        await asyncio.sleep(_GRACE_S)
        if not self._serving and not self._is_gateway:
            _LOG.warning("envoy has no listeners yet: declared ports are closed, nothing is led out")
            systemd.notify("STATUS=waiting for the control plane: declared ports are closed")

    async def _carry_out(self) -> None:
        while True:
            await self._desk.changed.wait()
            self._desk.changed.clear()
            await self._try_to_apply()

    async def _repair(self) -> None:
        """Puts back what others removed: a flushed ruleset, a resolv.conf that a DHCP client rewrote."""
        while True:
            await asyncio.sleep(_REPAIR_S)
            await self._try_to_apply()
            envoy.keep_log_small(self._paths)

    async def _try_to_apply(self) -> None:
        wanted = self._desk.orders
        if wanted is None or (self._is_gateway and not self._serving):
            return
        try:
            await self._apply(wanted)
        except (StepFailed, OSError) as error:
            if not self._journal.joined:
                raise
            if str(error) != self._trouble:
                _LOG.error("orders not carried out reason=%s", error)
            self._trouble = str(error)
            return
        if self._trouble:
            _LOG.info("orders carried out again")
        self._trouble = ""

    def _recorded(self, *kinds: type[object]) -> bool:
        return any(isinstance(change, kinds) for change in self._journal.changes)


def _make_run_directory(paths: Paths, journal: Journal) -> None:
    known = {change.path for change in journal.changes if isinstance(change, Directory)}
    if str(paths.run) not in known:
        journal.record(Directory.of(paths.run))
    paths.run.mkdir(parents=True, exist_ok=True)
    os.chown(paths.run, 0, 0)
    paths.run.chmod(0o755)
    if paths.envoy_run.is_symlink():
        paths.envoy_run.unlink()
    # Envoy makes its admin socket here; whatever the agent writes is out of its reach
    paths.envoy_run.mkdir(mode=0o700, exist_ok=True)
    os.chown(paths.envoy_run, ENVOY_UID, ENVOY_UID)

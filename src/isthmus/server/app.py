"""The composition root of the control plane: every part made, joined and run, and nothing decided.

store ─▶ feed ─▶ engine ◀─ fleet ─▶ ADS door (mTLS) ─▶ Envoys, agents
  ▲                          └─▶ status writer ─┐
  └── API and enrolment door (HTTPS) ◀──────────┘          probe door (mTLS): a VM's first call
"""

import asyncio
import contextlib
import fcntl
import gc
import logging
import signal
import sys
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from isthmus.api.meta import Key, Object, Problem
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.clock import rfc3339
from isthmus.engine import Engine
from isthmus.envoy.bootstrap import bootstrap
from isthmus.envoy.inbound import provable_ports
from isthmus.envoy.manifest import manifest
from isthmus.envoy.resource import ProxyId
from isthmus.envoy.soundness import unsound
from isthmus.identity import jointoken
from isthmus.identity.ca import Authority, AuthorityUnusable
from isthmus.identity.enrol import Enrolled, Registrar
from isthmus.identity.late import LateRegistrar
from isthmus.identity.serving import ServingIdentity
from isthmus.identity.times import ENROLLED_ANNOTATION, enrolled_at, predates
from isthmus.mesh import networks
from isthmus.mesh.analyse import problems, problems_of, rehearsal
from isthmus.mesh.capture import inbound_capture
from isthmus.mesh.model import MeshSettings
from isthmus.mesh.proxies import type_of
from isthmus.registry.feed import Feed
from isthmus.server.access import KUBECONFIG, admin_access
from isthmus.server.admission import Foresee
from isthmus.server.advertised import NAME, SYSTEM, Unadvertisable, default_addresses, register, resolved
from isthmus.server.agent_api import agent_rpc_handlers
from isthmus.server.backups import backup_routes
from isthmus.server.canary import Canary
from isthmus.server.connections import as_many_files_as_allowed
from isthmus.server.doors import Refusal, ads_server, api_server, listening, not_listening
from isthmus.server.enrolment import enrolment_routes
from isthmus.server.gateway_names import GatewayNames
from isthmus.server.kube_api import kube_api
from isthmus.server.late_renewal import late_renewal_routes
from isthmus.server.metrics import metrics_routes
from isthmus.server.paths import Paths
from isthmus.server.probe import probe_listener
from isthmus.server.recorder import Recorder
from isthmus.server.status import StatusWriter
from isthmus.server.translated import retell
from isthmus.server.upkeep import keep_renewed, keep_swept
from isthmus.server.user_api import user_routes
from isthmus.store.base import StoreUnavailable, StoreUnreadable
from isthmus.store.sqlite import SqliteStore
from isthmus.xds.culprits import SEPARABLE
from isthmus.xds.fleet import Fleet
from isthmus.xds.stream import AdsDoor
from isthmus.xds.vetting import Vetting

DOOR_NAMES = ("isthmus.isthmus-system.svc", "isthmus.isthmus-system.svc.cluster.local", "localhost")
"""DNS names that the doors' certificate always has, beside what is advertised."""

_COMES_BACK_S = 5.0
"""How long the first verdicts wait for proxies: they try again at least every second."""
_FORESEEN = frozenset({"VirtualService", "DestinationRule"})

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What `isthmus serve` was asked for."""

    state_dir: Path
    advertise: Sequence[str] = ()
    bind: str = "::"
    api_port: int = 8443
    ads_port: int = 15012
    probe_port: int = 15014
    trust_domain: str = "cluster.local"


def run(options: Options) -> None:
    """Serves until SIGINT or SIGTERM; Refusal when it cannot."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    prepare_process()
    options.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _owned(options.state_dir):
        uvloop.run(_serve(options, started=time.monotonic()))


def prepare_process() -> None:
    """What a process needs that answers many at once."""
    as_many_files_as_allowed()
    # the store's writer thread asks for the interpreter after each statement: it must not wait 5 ms each time
    sys.setswitchinterval(0.001)
    # what a request leaves behind goes by reference count: cycles are few, and to look for them costs much
    # (and the second look at what has survived the first must not stop everybody for a third of a second)
    gc.set_threshold(50_000, 5, 80)


async def _serve(options: Options, *, started: float) -> None:
    try:
        advertise = tuple(options.advertise) or default_addresses()
        if not advertise:
            raise Unadvertisable("this machine has no default route: say with --advertise how VMs reach it")
        addresses = await asyncio.to_thread(resolved, advertise)
        authority = Authority.open(options.state_dir / "ca", options.trust_domain, _now)
        names = (*DOOR_NAMES, *advertise, *addresses)
        identity = ServingIdentity.open(options.state_dir / "serving", authority, names, _now)
        store = await SqliteStore.open(options.state_dir / "isthmus.db")
    except (Unadvertisable, AuthorityUnusable, StoreUnreadable, ValueError, OSError) as error:
        raise Refusal(str(error)) from error
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        await _run(options, store, identity, authority, advertise, addresses, stack, started=started)


async def _run(
    options: Options,
    store: SqliteStore,
    identity: ServingIdentity,
    authority: Authority,
    advertise: Sequence[str],
    addresses: Sequence[str],
    stack: contextlib.AsyncExitStack,
    *,
    started: float,
) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)

    api_socket = stack.enter_context(listening(options.bind, options.api_port, "--api-port"))
    api_port = api_socket.getsockname()[1]
    hosts = None if options.bind == "::" else [options.bind]
    try:
        probe_port = await stack.enter_async_context(
            probe_listener(identity, hosts=hosts, port=options.probe_port)
        )
    except OSError as error:
        raise not_listening("--probe-port", options.probe_port, options.bind, error) from error
    try:
        await register(store, addresses, probe_port=probe_port)
    except StoreUnavailable as error:
        raise Refusal(f"the control plane cannot write where it can be reached: {error}") from error
    try:
        await retell(store, rfc3339)
    except StoreUnavailable as error:
        _log.warning("conditions not brought up to date until the next start: %s", error)

    engine = Engine()
    settings = MeshSettings(trust_domain=options.trust_domain)

    def committed(touched: Collection[Key]) -> None:
        fleet.committed(touched)
        names.look()

    def resolved_names(inputs: Mapping[tuple[Hashable, ...], Any]) -> None:
        engine.commit(inputs)
        fleet.committed()

    feed = Feed(
        store,
        engine,
        constants={("mesh",): settings},
        on_commit=committed,
        spent_s=lambda: fleet.spent_s,
        separable=SEPARABLE,
    )
    names = GatewayNames(lambda: engine(networks.names), resolved_names)
    fleet = Fleet(
        engine,
        manifest=manifest,
        unsound=unsound,
        problems=problems,
        rehearsal=rehearsal,
        objects=feed.programmed,
        registered=_registered(engine),
        outdated=_outdated(engine),
        now=time.monotonic,
        vetting=(vetting := Vetting(time.monotonic)),
        stage=feed,
    )
    canary = Canary(vetting)
    await feed.start()
    fleet.expect(_enrolled(engine, feed.programmed), _COMES_BACK_S)
    gc.freeze()  # what stands now mostly stays: a collection need not look at it

    rpc = agent_rpc_handlers(store, authority, identity, _declared(engine), now=_now)
    ads, ads_port = ads_server(
        options.bind, options.ads_port, identity, (AdsDoor(fleet, options.trust_domain), rpc)
    )
    doors = [f"[{name}]:{api_port}" if ":" in name else f"{name}:{api_port}" for name in advertise]
    users = admin_access(options.state_dir, server=f"https://{doors[0]}", roots=authority.roots)

    def mint(*, namespace: str, name: str) -> jointoken.Minted:
        return jointoken.mint(namespace=namespace, name=name, addresses=doors, pin=identity.pin())

    def envoy_start(enrolled: Enrolled) -> Mapping[str, Any]:
        return start_file(enrolled, identity, [(name, ads_port) for name in advertise])

    routes = [
        *enrolment_routes(
            Registrar(store, authority, _now, connected=lambda key: fleet.has(_proxy(key))),
            roots=lambda: authority.roots,
            bootstrap=envoy_start,
            ads_addresses=lambda: [f"[{n}]:{ads_port}" if ":" in n else f"{n}:{ads_port}" for n in advertise],
            now=_now,
        ),
        *late_renewal_routes(
            LateRegistrar(store, authority, _now, time.monotonic), roots=lambda: authority.roots, now=_now
        ),
        # last: it answers every other path, with a 404 in Kubernetes' words
        *kube_api(
            store,
            authenticate=users.authenticate,
            more=lambda known: [
                *user_routes(users, known),
                *backup_routes(store, known),
                *metrics_routes(fleet, canary, known),
            ],
            mint_token=mint,
            foresee=_foreseeing(feed),
        ),
    ]
    api = api_server(Paths(routes), identity, users)
    status = StatusWriter(store, fleet)

    await ads.start()
    stack.push_async_callback(ads.stop, 0.2)
    async with asyncio.TaskGroup() as tasks:
        background = [
            tasks.create_task(canary.run()),
            tasks.create_task(feed.run()),
            tasks.create_task(names.run()),
            tasks.create_task(status.run()),
            tasks.create_task(Recorder(store).run()),
            tasks.create_task(keep_renewed(identity)),
            tasks.create_task(keep_swept(store, _now)),
        ]
        serving = tasks.create_task(api.serve([api_socket]))
        await api.listens.wait()
        print(  # noqa: T201
            f"ready in {time.monotonic() - started:.1f} s: API https://{doors[0]}, configuration "
            f"{addresses[0]} port {ads_port}, kubeconfig {options.state_dir / KUBECONFIG}, "
            f"canary {canary.state}",
            flush=True,
        )
        await stopping.wait()
        api.should_exit = True
        await serving
        for task in background:
            task.cancel()


def start_file(
    enrolled: Enrolled, identity: ServingIdentity, ads_addresses: Sequence[tuple[str, int]]
) -> Mapping[str, Any]:
    """Envoy's bootstrap for a workload that has just been registered."""
    key, spec = enrolled.entry.key, enrolled.entry.spec
    assert isinstance(spec, WorkloadEntrySpec)
    role = type_of(enrolled.entry.meta.annotations).value
    return bootstrap(
        node_id=f"{role}~{spec.address}~{key.name}.{key.namespace}~{key.namespace}.svc.cluster.local",
        cluster=f"{enrolled.group.key.name}.{key.namespace}",
        metadata={"NAMESPACE": key.namespace, "WORKLOAD_NAME": key.name, "LABELS": dict(spec.labels)},
        ads_addresses=ads_addresses,
        control_plane_id=identity.spiffe,
    )


def _foreseeing(feed: Feed) -> Foresee:
    """Warns of rules that lead nowhere; Services may well come before their workloads, so not of those."""

    def foresee(objects: Sequence[Object]) -> Mapping[Key, Sequence[Problem]]:
        rules = [obj.key for obj in objects if obj.key.kind in _FORESEEN]
        if not rules:
            return {}
        return feed.foresee(objects, lambda q: {key: q(problems_of, key) for key in rules})

    return foresee


def _proxy(entry: Key) -> ProxyId:
    return ProxyId(entry.namespace, entry.name)


def _registered(engine: Engine) -> Callable[[ProxyId], str | None]:
    def registered(proxy: ProxyId) -> str | None:
        fact = engine.input("fact", "WorkloadEntry", proxy.namespace, proxy.workload)
        return None if fact is None else fact.spec.service_account or "default"

    return registered


def _enrolled(engine: Engine, objects: Iterable[Key]) -> list[ProxyId]:
    """The workloads whose VMs have enrolled and not left."""
    return [
        _proxy(key)
        for key in objects
        if key.kind == "WorkloadEntry"
        and (fact := engine.input("fact", key.kind, key.namespace, key.name)) is not None
        and ENROLLED_ANNOTATION in fact.annotations
    ]


def _outdated(engine: Engine) -> Callable[[ProxyId, datetime], bool]:
    def outdated(proxy: ProxyId, signed_at: datetime) -> bool:
        fact = engine.input("fact", "WorkloadEntry", proxy.namespace, proxy.workload)
        return fact is not None and predates(signed_at, enrolled_at(fact.annotations, fact.created))

    return outdated


def _declared(engine: Engine) -> Callable[[str, str], Mapping[int, bool]]:
    def declared(namespace: str, workload: str) -> Mapping[int, bool]:
        key = Key("WorkloadEntry", namespace, workload)
        provable = engine(provable_ports, key)
        return {port: port in provable for port in engine(inbound_capture, key).ports}

    return declared


@contextlib.contextmanager
def _owned(state_dir: Path) -> Iterator[None]:
    """Holds the state directory, so that no second control plane writes into it."""
    with (state_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Refusal(f"another control plane is running on {state_dir}") from error
        yield


def _now() -> datetime:
    return datetime.now(UTC)


__all__ = ["NAME", "SYSTEM", "Options", "Refusal", "run"]

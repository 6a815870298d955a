"""A join token's secret and a signing request -> a WorkloadEntry and the certificate of its identity.

    known? ─▶ in time? ─▶ key? ─▶ address? ─▶ one write: group stands, token used, entry made ─▶ signed

Everything that the certificate says is decided here, from the group that the token is bound to; the request
gives a public key and the address at which the mesh shall find the VM. Whoever cannot show the secret is told
nothing, and nobody is told another tenant's names.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from isthmus.api.duration import parse_duration
from isthmus.api.join import JoinTokenSpec
from isthmus.api.meta import Key, Object
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.api.networking.workload_group import GROUP_ANNOTATION
from isthmus.identity import keys
from isthmus.identity.ca import MAX_TTL, Address, Authority, Issued
from isthmus.identity.csr import RequestRefused, requested_key
from isthmus.identity.jointoken import secret_fits
from isthmus.identity.refusal import Refused
from isthmus.identity.spiffe import SpiffeId
from isthmus.identity.times import ENROLLED_ANNOTATION, moment, written
from isthmus.identity.tokenuse import NEW_TOKEN, SETTLING, Use, rest_s
from isthmus.identity.workload import DEFAULT_SERVICE_ACCOUNT, entry_from_group
from isthmus.store.base import Conflict, Mutate, Store

_log = logging.getLogger(__name__)

TTL_ANNOTATION = "isthmus.dev/certificate-ttl"
HEALTHY = "Healthy"
"""The condition of a WorkloadEntry that says whether it takes traffic."""
DEFAULT_TTL = timedelta(hours=24)
MIN_TTL = timedelta(seconds=10)
MAX_SKEW = timedelta(minutes=5)
VIRTUAL = (ipaddress.ip_network("240.240.0.0/16"), ipaddress.ip_network("2001:2::/48"))
"""Where the mesh's own virtual addresses lie: no machine may have one."""

_ATTEMPTS = 3
_NOBODY = "0" * 64


@dataclass(frozen=True, slots=True)
class Application:
    """What a VM sends to become a workload."""

    namespace: str
    token: str
    """With the namespace, the JoinToken object."""
    secret: bytes = field(repr=False)
    csr: str = field(repr=False)
    address: str
    """The VM's primary address, as it states it."""
    hostname: str
    time: datetime
    """The VM's clock."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A workload that now exists, and its first certificate."""

    entry: Object
    group: Object
    spiffe: SpiffeId
    ttl: timedelta
    issued: Issued
    token_expires: str
    """Until then the same key may enrol again with the token, RFC 3339."""


class Registrar:
    """Takes VMs into the mesh. One per store: it keeps the addresses that are being claimed at the moment."""

    def __init__(
        self,
        store: Store,
        authority: Authority,
        now: Callable[[], datetime],
        *,
        connected: Callable[[Key], bool],
    ) -> None:
        """`connected` tells whether the VM of a WorkloadEntry has a stream open."""
        self._store = store
        self._authority = authority
        self._now = now
        self._connected = connected
        self._claims: dict[tuple[str, str], list[Key]] = {}

    async def enrol(self, application: Application) -> Enrolled:
        """The new workload; Refused, with nothing changed, when anything does not fit."""
        token = await self._known_token(application)
        # again and again: a sleep may end a little before the wall clock is there
        while 0 < (rest := rest_s(token, self._now())) <= SETTLING.total_seconds():  # noqa: ASYNC110
            await asyncio.sleep(rest)
        now = self._now().astimezone(UTC)
        self._check_times(token, application, now)
        try:
            key = requested_key(application.csr)
        except RequestRefused as error:
            raise Refused(422, str(error), "let `isthmus join` make the key") from None
        address = routable(application.address)
        use = Use(keys.pin(key).hex(), now)
        for attempt in range(_ATTEMPTS):
            try:
                entry, group = await self._register(token, address, use)
                break
            except Conflict:
                if attempt == _ATTEMPTS - 1:
                    raise Refused(
                        409, "the WorkloadGroup is being changed at the moment", "try again"
                    ) from None
        spiffe, ttl = identity(entry, self._authority.trust_domain), certificate_ttl(group)
        issued = self._authority.sign(key, spiffe, common_name=entry.key.name, ttl=ttl)
        _log.info("workload enrolled entry=%s token=%s serial=%x", entry.key, token.key, issued.serial)
        spec = token.spec
        assert isinstance(spec, JoinTokenSpec)
        return Enrolled(entry, group, spiffe, ttl, issued, spec.expires_at)

    async def _known_token(self, application: Application) -> Object:
        """The token whose secret was shown. A missing one costs and tells as much as a wrong secret."""
        token = await self._store.get(Key("JoinToken", application.namespace, application.token))
        spec = token.spec if token else None
        kept = spec.secret_hash if isinstance(spec, JoinTokenSpec) else ""
        if not secret_fits(application.secret, kept or _NOBODY) or token is None or not kept:
            _log.warning("enrolment refused token=%s/%s: unknown", application.namespace, application.token)
            raise Refused(
                401,
                "this control plane does not know the join token",
                "it was deleted, or made by another control plane; " + NEW_TOKEN.format("NAMESPACE/GROUP"),
            )
        return token

    @staticmethod
    def _check_times(token: Object, application: Application, now: datetime) -> None:
        spec = token.spec
        assert isinstance(spec, JoinTokenSpec)
        hint = NEW_TOKEN.format(f"{token.key.namespace}/{spec.group}")
        expires = moment(spec.expires_at)
        if expires is None or now >= expires:
            raise Refused(403, f"the join token expired at {spec.expires_at or 'an unknown time'}", hint)
        skew = application.time - now
        if abs(skew) > MAX_SKEW:
            way = "ahead of" if skew > timedelta(0) else "behind"
            raise Refused(
                422,
                f"this VM's clock is {_span(abs(skew))} {way} the control plane's, "
                f"which says {now.isoformat(timespec='seconds')}; at most {_span(MAX_SKEW)} will do",
                "set the clock (timedatectl set-ntp true, or chronyc makestep) and join again",
            )

    async def _register(self, token: Object, address: Address, use: Use) -> tuple[Object, Object]:
        spec = token.spec
        assert isinstance(spec, JoinTokenSpec)
        group = await self._store.get(Key("WorkloadGroup", token.key.namespace, spec.group))
        if group is None:
            where = f"{token.key.namespace}/{spec.group}"
            raise Refused(
                409, f"the WorkloadGroup {where} of the join token does not exist", "apply it first"
            )
        entry = _enrolled_at(entry_from_group(group, address), use.at)
        place = _place(entry)
        claimants = self._claims.setdefault(place, [])
        claimants.append(group.key)
        try:
            # the claim stands before the look: of two groups at once, the later one sees the earlier
            entries, _ = await self._store.list("WorkloadEntry")
            if any(key != group.key for key in claimants) or any(
                _place(other) == place and _group(other) != group.key for other in entries
            ):
                _address_taken(address)
            if self._connected(entry.key) and not await self._is_key_of(entry.key, use.pin):
                _connected_with_another_key(entry.key)
            # the same key may have tried with another address before; that workload must be gone
            own = token.status.get("usedBy") == use.pin
            before = str(token.status["workload"]) if own else entry.key.name
            changes = [
                Mutate(group.key, _unchanged(group)),
                Mutate(token.key, use.of(token, entry, before)),
                Mutate(entry.key, _registered(entry, address)),
            ]
            if before != entry.key.name:
                changes.insert(0, Mutate(replace(entry.key, name=before), _gone))
            made = (await self._store.apply(changes))[-1]
        finally:
            claimants.remove(group.key)
            if not claimants:
                del self._claims[place]
        assert made is not None
        return made, group

    async def _is_key_of(self, entry: Key, pin: str) -> bool:
        """Whether the VM enrolled with this key before: its answer was lost, and it asks again."""
        tokens, _ = await self._store.list("JoinToken", entry.namespace)
        return any(
            token.status.get("usedBy") == pin and token.status.get("workload") == entry.name
            for token in tokens
        )


def identity(entry: Object, trust_domain: str) -> SpiffeId:
    """Who the workload of an entry is."""
    spec = entry.spec
    assert isinstance(spec, WorkloadEntrySpec)
    return SpiffeId(trust_domain, entry.key.namespace, spec.service_account or DEFAULT_SERVICE_ACCOUNT)


def certificate_ttl(group: Object | None) -> timedelta:
    """How long the group's certificates live: its annotation within bounds, a day when it says none."""
    text = group.meta.annotations.get(TTL_ANNOTATION, "") if group else ""
    if not text:
        return DEFAULT_TTL
    try:
        ttl = timedelta(seconds=parse_duration(text))
    except (ValueError, OverflowError):
        assert group is not None
        _log.warning("annotation ignored object=%s %s=%r: no duration", group.key, TTL_ANNOTATION, text)
        return DEFAULT_TTL
    return min(max(ttl, MIN_TTL), MAX_TTL)


def routable(text: str) -> Address:
    """The address that others may reach a VM at; Refused for any that cannot be one."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise Refused(422, f"{text[:64]!r} is not an IP address", "join with --address IP") from None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    kinds = [
        (address.is_unspecified, "the unspecified address"),
        (address.is_loopback, "a loopback address"),
        (address.is_multicast, "a multicast address"),
        (address.is_link_local, "a link-local address"),
        (str(address) == "255.255.255.255", "the broadcast address"),
        (any(address in network for network in VIRTUAL if network.version == address.version), "a mesh VIP"),
        (getattr(address, "scope_id", None) is not None, "an address with a zone"),
    ]
    for holds, kind in kinds:
        if holds:
            raise Refused(
                422,
                f"others cannot reach a VM at {address}, which is {kind}",
                "join with --address and the address that the other workloads reach this VM at",
            )
    return address


def _enrolled_at(entry: Object, at: datetime) -> Object:
    annotations = {**entry.meta.annotations, ENROLLED_ANNOTATION: written(at)}
    return replace(entry, meta=replace(entry.meta, annotations=annotations))


def _unchanged(seen: Object) -> Callable[[Object | None], Object | None]:
    def change(group: Object | None) -> Object | None:
        if group is None or group.meta.resource_version != seen.meta.resource_version:
            raise Conflict(seen.key, "changed during the enrolment")
        return group

    return change


def _gone(earlier: Object | None) -> Object | None:
    if earlier is not None:
        where = f"{earlier.key.namespace}/{earlier.key.name}"
        raise Refused(
            409,
            f"the join token was already used for {where}, at another address of this VM",
            f"delete that WorkloadEntry first, or join with the same --address: {_place(earlier)[1]}",
        )
    return None


def _registered(entry: Object, address: Address) -> Callable[[Object | None], Object | None]:
    def change(existing: Object | None) -> Object | None:
        if existing is None:
            return entry
        if _group(existing) != _group(entry) or _place(existing) != _place(entry):
            _address_taken(address)
        again = replace(existing, meta=replace(entry.meta, uid=existing.meta.uid), spec=entry.spec)
        # whoever was there before may have been healthy: this one has yet to say so
        conditions = existing.status.get("conditions", ())
        left = [condition for condition in conditions if condition.get("type") != HEALTHY]
        return replace(again, status={**again.status, "conditions": left}) if left != [*conditions] else again

    return change


def _address_taken(address: Address) -> NoReturn:
    raise Refused(
        409,
        f"the address {address} belongs to another workload already",
        "join with --address and this VM's own address; if it moved here, delete the old WorkloadEntry first",
    )


def _connected_with_another_key(entry: Key) -> NoReturn:
    where = f"{entry.namespace}/{entry.name}"
    raise Refused(
        409,
        f"{where} is connected with another key; leave there first or delete the WorkloadEntry",
        "is the address right (--address)? A VM that died without a word counts as connected for a minute",
    )


def _group(entry: Object) -> Key | None:
    """The group that made the entry; None for one that a person wrote."""
    name = entry.meta.annotations.get(GROUP_ANNOTATION)
    return Key("WorkloadGroup", entry.key.namespace, name) if name else None


def _place(entry: Object) -> tuple[str, str]:
    """Where the entry's workload is: network and address, spelled the one way."""
    spec = entry.spec
    assert isinstance(spec, WorkloadEntrySpec)
    try:
        return spec.network, str(ipaddress.ip_address(spec.address))
    except ValueError:
        return spec.network, spec.address


def _span(span: timedelta) -> str:
    seconds = round(span.total_seconds())
    return f"{seconds} s" if seconds < 120 else f"{seconds // 60} min {seconds % 60} s"

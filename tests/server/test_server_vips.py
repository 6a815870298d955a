"""Virtual addresses: Istio's numbers, kept for ever, shared by those who declare one host."""

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from isthmus.api.codec import decode
from isthmus.api.meta import Object
from isthmus.server.vips import OPT_OUT, SLOTS, Addresses, VipsExhausted, pair, with_vips
from isthmus.store.base import Create, Delete, Expired
from isthmus.store.sqlite import SqliteStore


def entry(name: str, host: str, **spec: Any) -> Object:
    """A ServiceEntry of one host."""
    labels = spec.pop("labels", {})
    document = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"hosts": [host], "ports": [{"number": 80, "name": "http"}], "resolution": "DNS", **spec},
    }
    obj, problems = decode(document)
    assert obj is not None, problems
    return obj


def service(name: str, **spec: Any) -> Object:
    """A Service."""
    document = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"ports": [{"port": 80}], **spec},
    }
    obj, problems = decode(document)
    assert obj is not None, problems
    return obj


def addresses(obj: Object) -> list[str]:
    """The addresses in an object's status."""
    return [row["value"] for row in obj.status.get("addresses", ())]


def test_two_entries_of_one_host_share_the_address_that_istio_gives_them() -> None:
    """The pair of ServiceEntries in Istio's own test of reused hosts."""
    http, https = with_vips([entry("http", "istio.io"), entry("https", "istio.io")], ())
    assert addresses(http) == addresses(https) == ["240.240.91.120", "2001:2::5b78"]


def test_what_is_stored_counts() -> None:
    (first,) = with_vips([entry("http", "istio.io")], ())
    again, other = with_vips([entry("http", "istio.io"), entry("https", "istio.io")], [first])
    assert addresses(again) == addresses(other) == addresses(first)


def test_order_changes_nothing_for_hosts_that_do_not_collide() -> None:
    made = [entry(name, f"{name}.example") for name in "abc"]
    there = {obj.key: addresses(obj) for obj in with_vips(made, ())}
    back = {obj.key: addresses(obj) for obj in with_vips(made[::-1], ())}
    assert there == back


@pytest.mark.parametrize(
    "spec",
    [
        {"resolution": "NONE"},
        {"addresses": ["10.0.0.1"]},
        {"labels": {OPT_OUT: "false"}},
        {"hosts": ["*.example"]},
    ],
)
def test_entries_that_get_none(spec: dict[str, Any]) -> None:
    (made,) = with_vips([entry("a", "a.example", **spec)], ())
    assert addresses(made) == []


def test_services_have_both_families_unless_they_are_only_a_name_or_headless() -> None:
    plain, alias, headless = with_vips(
        [
            service("plain"),
            service("alias", type="ExternalName", externalName="a.example"),
            service("headless", clusterIP="None"),
        ],
        (),
    )
    assert [ip_address(a).version for a in plain.spec.cluster_ips] == [4, 6]  # type: ignore[attr-defined]
    assert plain.spec.cluster_ip == plain.spec.cluster_ips[0]  # type: ignore[attr-defined]
    assert alias.spec.cluster_ip == ""  # type: ignore[attr-defined]
    assert headless.spec.cluster_ip == "None"  # type: ignore[attr-defined]


def test_no_address_is_given_twice_and_none_looks_like_a_network() -> None:
    taken: set[str] = set()
    given = []
    for n in range(3000):
        given.append(pair(f"ns/host-{n}", taken))
        taken.update(given[-1])
    assert len({v4 for v4, _ in given}) == len({v6 for _, v6 in given}) == len(given)
    assert not any(v4.rpartition(".")[2] in {"0", "255"} for v4, _ in given)
    assert all(int(ip_address(v4)) & 0xFFFF == int(ip_address(v6)) & 0xFFFF for v4, v6 in given)


def test_full_range_is_told() -> None:
    taken = {f"240.240.{high}.{low}" for high in range(256) for low in range(256)}
    with pytest.raises(VipsExhausted, match=f"ns/host.*{SLOTS}"):
        pair("ns/host", taken)


async def test_addresses_under_way_are_given_to_nobody_else(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "db")
    book = Addresses(store)
    async with book.given([entry("a", "a.example")]) as (a,):
        async with book.given([entry("b", "b.example"), entry("other", "a.example")]) as (b, same):
            assert addresses(a) == addresses(same)
            assert not set(addresses(a)) & set(addresses(b))
            await store.apply([Create(a)])
    async with book.given([entry("c", "c.example")]) as (c,):
        assert not set(addresses(a)) & set(addresses(c))
    await store.apply([Delete(a.key)])
    async with book.given([entry("a", "a.example")]) as (again,):
        assert addresses(again) == addresses(a)  # it is free again
    await store.close()


async def test_addresses_that_others_wrote_are_seen(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "db")
    book = Addresses(store)
    async with book.given([entry("a", "a.example")]) as (a,):
        pass
    there = entry("taker", "taker.example", addresses=addresses(a))
    await store.apply([Create(there)])
    async with book.given([entry("a", "a.example")]) as (moved,):
        assert not set(addresses(a)) & set(addresses(moved))
    await store.close()


async def test_a_flood_of_changes_is_read_anew(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "db")
    book = Addresses(store)
    async with book.given([entry("a", "a.example")]) as (a,):
        await store.apply([Create(a)])
    for n in range(0, 21_000, 3_000):
        await store.apply([Create(entry(f"e{i}", f"e{i}.example")) for i in range(n, n + 3_000)])
    with pytest.raises(Expired):
        store.changes("ServiceEntry", 0)
    async with book.given([entry("b", "b.example")]) as (b,):
        assert not set(addresses(a)) & set(addresses(b))
    await store.close()

"""What every store does; the body is the same for each of them."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from store_world import StoreWorld, entry, key, made

from documents import namespace, workload_group
from isthmus.api.meta import Key, Object
from isthmus.api.networking.workload_entry import WorkloadEntrySpec
from isthmus.store.base import (
    AlreadyExists,
    Conflict,
    Create,
    Delete,
    Event,
    Expired,
    Mutate,
    NotFound,
    StoreUnavailable,
    Update,
    UpdateStatus,
)


def spec(address: str) -> WorkloadEntrySpec:
    """A spec with another address."""
    return WorkloadEntrySpec(address=address)


async def events(world: StoreWorld, since: int, count: int, kind: str | None = None) -> list[Event]:
    """The next so many events after a revision."""
    found = []
    async with asyncio.timeout(60):
        async for event in world.store.watch(kind, since):
            found.append(event)
            if len(found) == count:
                break
    return found


async def test_a_new_object_gets_its_metadata(world: StoreWorld) -> None:
    (made_obj,) = await world.apply(Create(entry("a", uid="mine", resourceVersion="77", generation=9)))
    found = await world.there("a")
    assert found == made_obj
    assert len(found.meta.uid) == 36
    assert (found.meta.resource_version, found.meta.generation) == (1, 1)
    assert found.meta.creation_timestamp == "2001-09-09T01:46:40Z"


async def test_only_the_spec_moves_the_generation(world: StoreWorld) -> None:
    await world.apply(Create(entry("a")))
    first = await world.there("a")
    world.seconds += 100
    await world.apply(Update(entry("a", labels={"app": "x"})))
    await world.apply(UpdateStatus(key("a"), {"conditions": []}))
    labelled = await world.there("a")
    assert (labelled.meta.generation, labelled.meta.resource_version) == (1, 3)
    assert (labelled.meta.labels, labelled.status) == ({"app": "x"}, {"conditions": []})
    await world.apply(Update(entry("a", "10.0.0.2", labels={"app": "x"})))
    moved = await world.there("a")
    assert (moved.meta.generation, moved.meta.resource_version) == (2, 4)
    assert moved.status == {"conditions": []}
    assert (moved.meta.uid, moved.meta.creation_timestamp) == (first.meta.uid, first.meta.creation_timestamp)


async def test_a_write_of_the_same_changes_nothing(world: StoreWorld) -> None:
    (before,) = await world.apply(Create(entry("a")))
    assert await world.apply(Update(entry("a")), UpdateStatus(key("a"), {})) == (before, before)
    assert await world.apply(Mutate(key("a"), lambda obj: obj)) == (before,)
    assert (await world.list())[1] == 1


async def test_a_default_that_is_written_out_is_kept(world: StoreWorld) -> None:
    await world.apply(Create(entry("a")))
    explicit = replace(entry("a"), spec=WorkloadEntrySpec(address="10.0.0.1", weight=0))
    await world.apply(Update(explicit))
    assert (await world.there("a")).spec.model_fields_set == {"address", "weight"}


async def test_refusals(world: StoreWorld) -> None:
    (obj,) = await world.apply(Create(entry("a")))
    assert obj is not None
    version = obj.meta.resource_version
    with pytest.raises(AlreadyExists, match="WorkloadEntry/n/a exists already"):
        await world.apply(Create(entry("a")))
    with pytest.raises(NotFound, match="WorkloadEntry/n/b does not exist"):
        await world.apply(Update(entry("b")))
    for absent in (UpdateStatus(key("b"), {}), Delete(key("b"))):
        with pytest.raises(NotFound):
            await world.apply(absent)
    for stale in (
        Update(entry("a", "10.0.0.2"), resource_version=version + 1),
        UpdateStatus(key("a"), {"x": 1}, resource_version=version + 1),
        Delete(key("a"), resource_version=version + 1),
        Update(entry("a", "10.0.0.2"), uid="another"),
        Delete(key("a"), uid="another"),
    ):
        with pytest.raises(Conflict):
            await world.apply(stale)
    assert await world.there("a") == obj
    await world.apply(Delete(key("a"), resource_version=version, uid=obj.meta.uid))
    assert await world.get("a") is None


async def test_all_or_nothing(world: StoreWorld) -> None:
    await world.apply(Create(entry("a")))
    with pytest.raises(AlreadyExists):
        await world.apply(Create(entry("b")), Delete(key("a")), Create(entry("c")), Create(entry("c")))
    objects, revision = await world.list()
    assert ([obj.key.name for obj in objects], revision) == (["a"], 1)


async def test_later_writes_see_earlier_ones(world: StoreWorld) -> None:
    results = await world.apply(
        Create(entry("a")),
        Update(entry("a", "10.0.0.2")),
        Mutate(key("a"), lambda obj: obj and replace(obj, status={"seen": obj.meta.generation})),
        Delete(key("a")),
        Create(entry("a", "10.0.0.3")),
    )
    last = results[-1]
    assert last is not None
    assert [obj and obj.meta.resource_version for obj in results] == [1, 2, 3, None, 5]
    assert await world.there("a") == last
    assert last.status == {}


async def test_mutate_makes_changes_and_deletes(world: StoreWorld) -> None:
    (obj,) = await world.apply(Mutate(key("a"), lambda before: before or entry("a")))
    assert obj == await world.there("a")

    def refuse(_: Object | None) -> Object | None:
        raise PermissionError("used")

    with pytest.raises(PermissionError, match="used"):
        await world.apply(Create(entry("b")), Mutate(key("a"), refuse))
    assert await world.get("b") is None
    assert await world.apply(Mutate(key("a"), lambda _: None)) == (None,)
    assert await world.get("a") is None
    assert await world.apply(Mutate(key("a"), lambda _: None)) == (None,)


async def test_of_many_at_once_one_wins(world: StoreWorld) -> None:
    await world.apply(Create(entry("token")))

    def use(who: str) -> Mutate:
        def change(obj: Object | None) -> Object:
            assert obj is not None
            if obj.status:
                raise PermissionError(obj.status["by"])
            return replace(obj, status={"by": who})

        return Mutate(key("token"), change)

    results = await asyncio.gather(
        *(world.apply(use(f"vm-{number}")) for number in range(50)), return_exceptions=True
    )
    winners = [result for result in results if not isinstance(result, BaseException)]
    assert len(winners) == 1
    assert {str(result) for result in results if isinstance(result, PermissionError)} == {
        (await world.there("token")).status["by"]
    }


async def test_many_writers_lose_nothing(world: StoreWorld) -> None:
    def count(obj: Object | None) -> Object:
        before = obj or entry("counter")
        return replace(before, status={"count": before.status.get("count", 0) + 1})

    async with asyncio.TaskGroup() as tasks:
        for number in range(200):
            tasks.create_task(world.store.apply([Mutate(key("counter"), count)]))
            tasks.create_task(world.store.apply([Create(entry(f"e{number}"))]))
    objects, revision = await world.list()
    assert (await world.there("counter")).status == {"count": 200}
    assert (len(objects), revision) == (201, 400)
    assert len({obj.meta.resource_version for obj in objects}) == 201


async def test_lists_are_in_order_and_by_namespace(world: StoreWorld) -> None:
    await world.apply(
        *(Create(entry(name, namespace=where)) for where, name in [("b", "a"), ("a", "b"), ("a", "a")])
    )
    objects, revision = await world.list()
    assert [str(obj.key) for obj in objects] == [
        "WorkloadEntry/a/a",
        "WorkloadEntry/a/b",
        "WorkloadEntry/b/a",
    ]
    assert revision == 3
    assert [obj.key.name for obj in (await world.list(namespace="b"))[0]] == ["a"]
    assert (await world.list(kind="Service"))[0] == ()


async def test_what_a_group_owns_goes_with_it(world: StoreWorld) -> None:
    (group,) = await world.apply(Create(made(workload_group("g", "n"))))
    assert group is not None
    owner = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadGroup",
        "name": "g",
        "uid": group.meta.uid,
    }
    await world.apply(
        Create(entry("owned", ownerReferences=[owner])),
        Create(entry("disowned", ownerReferences=[owner])),
        Create(entry("other", ownerReferences=[owner | {"uid": "x"}])),
    )
    await world.apply(Update(entry("disowned")))
    await world.list()
    before = world.store.revision
    await world.apply(Delete(group.key))
    told = await events(world, before, 2)
    assert [(event.type, event.object.key.name) for event in told] == [("DELETED", "g"), ("DELETED", "owned")]
    assert [obj.key.name for obj in (await world.list())[0]] == ["disowned", "other"]


async def test_owners_in_a_ring_go_together(world: StoreWorld) -> None:
    one, other = await world.apply(Create(entry("a")), Create(entry("b")))
    assert one is not None
    assert other is not None
    for name, owner in (("a", other), ("b", one)):
        reference = {"apiVersion": "v1", "kind": "X", "name": "x", "uid": owner.meta.uid}
        await world.apply(Update(entry(name, ownerReferences=[reference])))
    await world.apply(Delete(key("a")))
    assert (await world.list())[0] == ()


async def test_a_namespace_goes_with_everything_in_it(world: StoreWorld) -> None:
    await world.apply(Create(made(namespace("n"))), Create(entry("a")), Create(entry("b", namespace="m")))
    await world.apply(Create(entry("c")), Delete(Key("Namespace", "", "n")))
    assert [obj.key.namespace for obj in (await world.list())[0]] == ["m"]


async def test_watches_tell_every_change_in_order(world: StoreWorld) -> None:
    await world.apply(Create(entry("old")))
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(events(world, 1, 4))
        kinds = tasks.create_task(events(world, 0 if not world.reopens else 1, 1, kind="Namespace"))
        await asyncio.sleep(0)
        await world.apply(Create(made(namespace("n"))))
        await world.apply(Create(entry("a")), Update(entry("a", "10.0.0.2")))
        await world.apply(Delete(key("a")))
    told = watching.result()
    assert [(event.type, event.object.key.name, event.revision) for event in told] == [
        ("ADDED", "n", 2),
        ("ADDED", "a", 3),
        ("MODIFIED", "a", 4),
        ("DELETED", "a", 5),
    ]
    assert all(event.object.meta.resource_version == event.revision for event in told)
    assert told[-1].object.spec == spec("10.0.0.2")
    assert [event.object.key.name for event in kinds.result()] == ["n"]


async def test_a_watch_begins_where_a_list_ended(world: StoreWorld) -> None:
    await world.apply(Create(entry("a")))
    _, revision = await world.list()
    await world.apply(Create(entry("b")))
    assert [event.object.key.name for event in await events(world, revision, 1)] == ["b"]


async def test_what_is_not_known_has_expired(world: StoreWorld) -> None:
    await world.apply(Create(entry("a")))
    await world.list()
    with pytest.raises(Expired):
        await anext(world.store.watch(None, 99))
    # a restart is no end of what is known
    assert (await anext(world.store.watch(None, 0))).object.key == key("a")


async def test_a_closed_store_says_so(world: StoreWorld) -> None:
    await world.store.close()
    with pytest.raises(StoreUnavailable):
        await world.apply(Create(entry("a")))
    with pytest.raises(StoreUnavailable):
        await anext(world.store.watch(None, world.store.revision))


async def test_writes_under_way_are_finished_by_close(world: StoreWorld) -> None:
    async with asyncio.TaskGroup() as tasks:
        writes = [tasks.create_task(world.store.apply([Create(entry(f"e{n}"))])) for n in range(20)]
        await asyncio.sleep(0)
        await world.store.close()
    assert all(task.done() for task in writes)
    await world.open()
    assert len((await world.list())[0]) == 20


def reference(owner: Object, *, blocks: bool = False) -> dict[str, object]:
    """What an owned object says of its owner."""
    found = {"apiVersion": "networking.istio.io/v1", "kind": owner.key.kind, "name": owner.key.name}
    return {**found, "uid": owner.meta.uid, **({"blockOwnerDeletion": True} if blocks else {})}


async def made_entry(world: StoreWorld, name: str, **metadata: Any) -> Object:
    """A new WorkloadEntry."""
    (obj,) = await world.apply(Create(entry(name, **metadata)))
    assert obj is not None
    return obj


async def test_a_finalizer_keeps_a_deleted_object(world: StoreWorld) -> None:
    await made_entry(world, "a", finalizers=["example.com/wait", "example.com/more"])
    world.seconds += 5
    (marked,) = await world.apply(Delete(key("a")))
    assert marked is not None
    assert marked.meta.deletion_timestamp == "2001-09-09T01:46:45Z"
    assert marked.meta.generation == 2
    assert await world.apply(Delete(key("a"))) == (marked,)
    await world.apply(Update(entry("a", finalizers=["example.com/more"])))
    assert (await world.there("a")).meta.deletion_timestamp == marked.meta.deletion_timestamp
    since = world.store.revision
    assert await world.apply(Update(entry("a"))) == (None,)
    assert await world.get("a") is None
    if not world.reopens:
        assert [event.type for event in await events(world, since, 1)] == ["DELETED"]


async def test_an_object_with_two_owners_stays_with_the_other(world: StoreWorld) -> None:
    one, other = await made_entry(world, "one"), await made_entry(world, "other")
    await made_entry(world, "owned", ownerReferences=[reference(one), reference(other)])
    await world.apply(Delete(one.key))
    assert [dict(row)["uid"] for row in (await world.there("owned")).meta.owner_references] == [
        other.meta.uid
    ]
    await world.apply(Delete(other.key))
    assert await world.get("owned") is None


async def test_orphans_stay(world: StoreWorld) -> None:
    owner = await made_entry(world, "owner")
    await made_entry(world, "owned", ownerReferences=[reference(owner)])
    await world.apply(Delete(owner.key, propagation="Orphan"))
    assert (await world.there("owned")).meta.owner_references == ()


async def test_an_owner_deleted_in_the_foreground_goes_last(world: StoreWorld) -> None:
    owner = await made_entry(world, "owner")
    await made_entry(world, "owned", ownerReferences=[reference(owner, blocks=True)], finalizers=["x/y"])
    await made_entry(world, "free", ownerReferences=[reference(owner)])
    (waiting,) = await world.apply(Delete(owner.key, propagation="Foreground"))
    assert waiting is not None
    assert waiting.meta.finalizers == ("foregroundDeletion",)
    assert await world.get("free") is None
    await world.apply(Update(entry("owned", ownerReferences=[reference(owner, blocks=True)])))
    assert (await world.list())[0] == ()


async def test_a_namespace_waits_for_what_has_finalizers(world: StoreWorld) -> None:
    await world.apply(Create(made(namespace("n"))))
    await made_entry(world, "a", finalizers=["x/y"])
    await made_entry(world, "b")
    (marked,) = await world.apply(Delete(Key("Namespace", "", "n")))
    assert marked is not None
    assert marked.meta.deletion_timestamp
    assert [obj.key.name for obj in (await world.list())[0]] == ["a"]
    await world.apply(Update(entry("a")))
    assert (await world.list())[0] == ()
    assert (await world.list("Namespace"))[0] == ()


async def test_events_tell_the_state_before(world: StoreWorld) -> None:
    since = world.store.revision
    first = await made_entry(world, "a")
    (second,) = await world.apply(Update(entry("a", "10.0.0.2")))
    await world.apply(Delete(key("a")))
    assert [event.before for event in await events(world, since, 3)] == [None, first, second]

"""Who owns which fields, and what server-side apply makes of a document."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.server.fieldsets import (
    NONE,
    compare,
    fields_of,
    fields_v1,
    from_fields_v1,
    merged,
    spelled,
    with_parents,
    without,
)
from isthmus.server.managed_fields import (
    ApplyConflict,
    Manager,
    Owners,
    applied,
    entries,
    ownable,
    owners,
    updated,
)
from isthmus.server.merge_shapes import shape_of

SERVICE = shape_of("Service")
V1 = "networking.istio.io/v1"
Document = dict[str, Any]

scalars = st.sampled_from(["a", "b", 1, 2, True])
port = st.fixed_dictionaries(
    {"port": st.integers(1, 4)},
    optional={"name": st.sampled_from("xyz"), "protocol": st.sampled_from(["TCP", "UDP"])},
)
ports = st.lists(port, max_size=3, unique_by=lambda one: (one["port"], one.get("protocol", "TCP")))
strings = st.dictionaries(st.sampled_from("abc"), st.sampled_from("12"), max_size=3)


def filled(value: Any) -> Any:
    """The value without empty maps and lists: whether those are there is nobody's."""
    if isinstance(value, dict):
        return {name: inner for name, item in value.items() if (inner := filled(item)) not in ({}, [])}
    return value


services = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries(
            {},
            optional={
                "labels": strings,
                "finalizers": st.lists(st.sampled_from(["x/a", "x/b", "x/c"]), unique=True),
            },
        ),
        "spec": st.fixed_dictionaries(
            {},
            optional={"ports": ports, "selector": strings, "type": scalars, "clusterIPs": st.lists(scalars)},
        ),
    },
).map(filled)


def apply(
    live: Document, wanted: Document, before: Owners = (), who: str = "a", *, force: bool = False
) -> tuple[Document, Owners]:
    """One apply by a manager."""
    return applied(
        live, wanted, before, manager=Manager(who, "Apply", V1), time="t", shape=SERVICE, force=force
    )


@given(services)
def test_a_set_is_written_down_and_read_back(document: Document) -> None:
    fields = fields_of(document, SERVICE)
    assert from_fields_v1(fields_v1(fields)) == fields


@given(services, services)
def test_the_difference_is_what_changes(one: Document, other: Document) -> None:
    change = compare(one, other, SERVICE)
    assert not (change.added & change.removed)
    back = compare(other, one, SERVICE)
    assert (back.added, back.changed, back.removed) == (change.removed, change.changed, change.added)
    nothing = compare(one, one, SERVICE)
    assert nothing.added | nothing.changed | nothing.removed == NONE


@given(services, services)
def test_merging_again_changes_nothing(live: Document, wanted: Document) -> None:
    once = merged(live, wanted, SERVICE)
    assert merged(once, wanted, SERVICE) == once
    assert fields_of(wanted, SERVICE) <= with_parents(fields_of(once, SERVICE))


@given(services)
def test_without_all_its_fields_nothing_is_left(document: Document) -> None:
    left = without(document, with_parents(fields_of(document, SERVICE)), SERVICE)
    assert not left or fields_of(left, SERVICE) == NONE
    assert without(document, NONE, SERVICE) == document


@given(services, services)
def test_applying_again_changes_nothing(live: Document, wanted: Document) -> None:
    new, owned = apply(live, wanted, force=True)
    again, owned_again = apply(new, wanted, owned)
    assert (again, owned_again) == (new, owned)


@given(services, services)
def test_what_is_no_longer_wanted_goes(first: Document, second: Document) -> None:
    made, owned = apply({}, first)
    new, _ = apply(made, second, owned)
    assert fields_of(new, SERVICE) - {("f:metadata",), ("f:spec",)} <= with_parents(
        fields_of(second, SERVICE)
    )


@given(services, services)
def test_what_another_one_owns_stays(mine: Document, theirs: Document) -> None:
    made, owned = apply({}, theirs, who="b")
    both, owned = apply(made, mine, owned, force=True)
    kept = next((one.fields for one in owned if one.manager.name == "b"), NONE)
    new, _ = apply(both, {}, owned)
    assert kept <= with_parents(fields_of(new, SERVICE))


@given(services, services)
def test_without_conflict_the_order_of_appliers_does_not_matter(one: Document, other: Document) -> None:
    try:
        first, owned = apply({}, one, who="a")
        ab, _ = apply(first, other, owned, who="b")
        second, owned = apply({}, other, who="b")
        ba, _ = apply(second, one, owned, who="a")
    except ApplyConflict:
        return
    change = compare(ab, ba, SERVICE)
    assert change.added | change.changed | change.removed == NONE


def test_a_conflict_names_manager_and_field() -> None:
    made, owned = apply({}, {"spec": {"type": "ClusterIP", "ports": [{"port": 80, "name": "a"}]}}, who="b")
    with pytest.raises(ApplyConflict) as caught:
        apply(made, {"spec": {"type": "NodePort"}}, owned)
    assert str(caught.value) == 'Apply failed with 1 conflict: conflict with "b": .spec.type'
    assert caught.value.causes() == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "b"', "field": ".spec.type"}
    ]
    wanted = {"spec": {"type": "NodePort", "ports": [{"port": 80, "name": "b"}]}}
    with pytest.raises(ApplyConflict) as caught:
        apply(made, wanted, owned)
    assert str(caught.value) == (
        'Apply failed with 2 conflicts: conflicts with "b":\n- .spec.type\n'
        '- .spec.ports[port=80,protocol="TCP"].name'
    )
    new, owned = apply(made, wanted, owned, force=True)
    assert new["spec"] == wanted["spec"]
    assert {one.manager.name: len(one.fields) for one in owned} == {"a": 4, "b": 2}


def test_same_values_are_shared_and_stay_until_both_let_go() -> None:
    wanted = {"spec": {"type": "ClusterIP"}}
    made, owned = apply({}, wanted, who="a")
    made, owned = apply(made, wanted, owned, who="b")
    made, owned = apply(made, {}, owned, who="a")
    assert made == wanted
    made, owned = apply(made, {}, owned, who="b")
    assert (made, owned) == ({}, ())


def test_an_update_takes_what_it_changes() -> None:
    made, owned = apply({}, {"spec": {"type": "ClusterIP", "selector": {"a": "1"}}}, who="a")
    editor = Manager("kubectl-edit", "Update", V1)
    new = {"spec": {"type": "NodePort", "selector": {"a": "1"}, "clusterIP": "x"}}
    owned = updated(made, new, owned, manager=editor, time="u", shape=SERVICE)
    assert entries(owned) == (
        {
            "manager": "a",
            "operation": "Apply",
            "apiVersion": V1,
            "time": "t",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:selector": {}}},
        },
        {
            "manager": "kubectl-edit",
            "operation": "Update",
            "apiVersion": V1,
            "time": "u",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:clusterIP": {}, "f:type": {}}},
        },
    )
    assert owners(entries(owned)) == tuple(sorted(owned, key=lambda one: one.manager.name))
    with pytest.raises(ApplyConflict, match=r'"kubectl-edit" using .*v1: \.spec\.type'):
        apply(new, {"spec": {"type": "ClusterIP"}}, owned, who="a")


def test_a_new_object_belongs_to_who_made_it() -> None:
    document = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "a", "uid": "u", "labels": {"app": "a"}},
        "spec": {"ports": [{"port": 80}]},
        "status": {"x": 1},
    }
    found = updated({}, ownable(document), (), manager=Manager("m", "Update", "v1"), time="t", shape=SERVICE)
    assert entries(found)[0]["fieldsV1"] == {
        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
        "f:spec": {
            ".": {},
            "f:ports": {".": {}, 'k:{"port":80,"protocol":"TCP"}': {".": {}, "f:port": {}}},
        },
    }
    assert ownable(document, subresource="status") == {"status": {"x": 1}}


def test_many_updaters_become_one() -> None:
    live: Document = {"spec": {}}
    owned: Owners = ()
    for number in range(15):
        new = {"spec": {**live["spec"], f"f{number}": 1}}
        manager = Manager(f"m{number}", "Update", V1)
        owned = updated(live, new, owned, manager=manager, time=f"{number:02}", shape=SERVICE)
        live = new
    assert len(owned) == 10
    assert sum(len(one.fields) for one in owned) == 15
    assert {one.manager.name for one in owned} > {"ancient-changes", "m14"}


def test_paths_for_people() -> None:
    assert spelled(("f:metadata", "f:finalizers", 'v:"x/y"')) == '.metadata.finalizers[="x/y"]'
    mistakes: tuple[dict[str, object], ...] = ({"x:y": {}}, {"f:a": 1}, {"k:{": {}})
    for wrong in mistakes:
        with pytest.raises(ValueError, match=r"."):
            from_fields_v1(wrong)
    with pytest.raises(ValueError, match="neither Apply nor Update"):
        owners([{"manager": "a"}])

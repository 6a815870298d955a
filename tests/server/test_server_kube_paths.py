"""What a path, a selector and a merge patch mean, without a server."""

from typing import Any

import pytest

from documents import workload_entry
from isthmus.api.codec import decode
from isthmus.api.kinds import KINDS
from isthmus.server.kube_http import target
from isthmus.server.patching import merge_patch
from isthmus.server.selectors import field_selector, label_selector


@pytest.mark.parametrize(
    ("rest", "named"),
    [
        ("namespaces", ("Namespace", None, "", False)),
        ("namespaces/a", ("Namespace", None, "a", False)),
        ("namespaces/a/status", ("Namespace", None, "a", True)),
        ("services", ("Service", None, "", False)),
        ("namespaces/a/services", ("Service", "a", "", False)),
        ("namespaces/a/services/b", ("Service", "a", "b", False)),
        ("namespaces/a/services/b/status", ("Service", "a", "b", True)),
        ("namespaces/a/services/status", ("Service", "a", "status", False)),
        ("services/b", None),
        ("namespaces/a/namespaces/b", None),
        ("namespaces/a/services/b/scale", None),
        ("namespaces/a/services/b/status/x", None),
        ("namespaces//services", None),
        ("widgets", None),
        ("", None),
    ],
)
def test_paths(rest: str, named: tuple[str, str | None, str, bool] | None) -> None:
    found = target("", "v1", rest)
    assert (found and (found.kind.kind, found.namespace, found.name, found.status)) == named
    assert target("", "v2", rest) is None


@pytest.mark.parametrize(
    ("text", "selects"),
    [
        ("", True),
        ("app=x", True),
        ("app==x", True),
        ("app!=x", False),
        ("other!=x", True),
        ("app in (x, y)", True),
        ("app notin (x,y),v", False),
        ("other notin (x)", True),
        ("app,v", True),
        ("!app", False),
        ("!other, v = 1", True),
        ("empty=", True),
    ],
)
def test_label_selectors(text: str, selects: bool) -> None:
    obj, _ = decode(workload_entry("a", labels={"app": "x", "v": "1", "empty": ""}))
    assert obj is not None
    assert label_selector(text)(obj) is selects


@pytest.mark.parametrize("text", ["a=b=c", "a in b", "(a)", "a notin (b", "= b"])
def test_selectors_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError, match="label selector"):
        label_selector(text)


def test_field_selectors() -> None:
    obj, _ = decode(workload_entry("a"))
    assert obj is not None
    kind = KINDS["WorkloadEntry"]
    assert field_selector("metadata.name=a,metadata.namespace!=b", kind)(obj)
    assert not field_selector("metadata.name!=a", kind)(obj)
    with pytest.raises(ValueError, match=r'not supported: "spec\.address" .*metadata\.name'):
        field_selector("spec.address=1", kind)
    with pytest.raises(ValueError, match="write field=value"):
        field_selector("metadata.name", kind)


@pytest.mark.parametrize(
    ("before", "patch", "after"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": "foo"}, {"a": {"b": {"c": None}}}, {"a": {"b": {}}}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b"}, {"a": "b"}),
        ({"a": "b"}, ["c"], ["c"]),
    ],
)
def test_merge_patches_as_in_rfc_7396(before: Any, patch: Any, after: Any) -> None:
    assert merge_patch(before, patch) == after

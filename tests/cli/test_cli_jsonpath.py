"""JSON path templates, as kubectl's documentation has them."""

from typing import Any

import pytest

from isthmus.cli.jsonpath import NoJsonPath, filled

PODS: dict[str, Any] = {
    "kind": "List",
    "items": [
        {"kind": "None", "metadata": {"name": "127.0.0.1", "labels": {"a.b/c": "hi"}}, "status": {"n": 1}},
        {"kind": "None", "metadata": {"name": "127.0.0.2"}, "status": {"n": 2, "ok": True}},
    ],
    "users": [{"name": "myself", "user": {}}, {"name": "e2e", "user": {"username": "admin", "age": 3}}],
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{.kind}", "List"),
        (".kind", "List"),
        ("{$.kind} is {['kind']}", "List is List"),
        ("{.items[*].metadata.name}", "127.0.0.1 127.0.0.2"),
        ("{.items[*]['metadata']['name']}", "127.0.0.1 127.0.0.2"),
        ("{.items[0].metadata.labels.a\\.b/c}", "hi"),
        ("{.items[-1].status}", '{"n":2,"ok":true}'),
        ("{.items[0:1].status.n}", "1"),
        ("{.items[9].status.n}{.none.at.all}", ""),
        ("{..name}", "127.0.0.1 127.0.0.2 myself e2e"),
        ('{.users[?(@.name=="e2e")].user.username}', "admin"),
        ("{.users[?(@.name!='e2e')].name}", "myself"),
        ("{.users[?(@.user.age>2)].name}", "e2e"),
        ("{.items[?(@.status.ok)].status.n}", "2"),
        ('{range .items[*]}{.metadata.name}={.status.n}{"\\n"}{end}', "127.0.0.1=1\n127.0.0.2=2\n"),
        ("{range .none[*]}{.a}{end}.", "."),
        ("{range .items[*]}{range .metadata.labels.*}{@}{end};{end}", "hi;;"),
        ("{.items[*].status.*}", "1 2 true"),
    ],
)
def test_templates(template: str, text: str) -> None:
    assert filled(template, PODS) == text


@pytest.mark.parametrize(
    "template", ["{.items[}", "{", "{range .items[*]}", "{end}", "{.a[?(@.b==c)]}", "{.a b}"]
)
def test_what_is_none(template: str) -> None:
    with pytest.raises(NoJsonPath):
        filled(template, {"a": [{"b": 1}], "items": [1]})

"""Requests to an API server in Kubernetes' shape -> its answers, with names for what changes from run to run.

    golden/SUBJECT.yaml   cases: requests in order, each case in a namespace of its own      by hand
    golden/SUBJECT.json   what a real API server (apiextensions-apiserver with Istio's CRDs) answered to them
    golden/differences.yml   where we answer something else, and why                         by hand

In a request `$rv1`, `$uid1` and so on stand for what an earlier answer of the case had there.
"""

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from http.client import HTTPSConnection
from itertools import groupby
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from isthmus.server.patching import merge_patch

GOLDEN = Path(__file__).parent / "golden"
BASE = "/apis/networking.istio.io/v1/namespaces/$ns/"
"""Where a path stands that does not begin with a slash."""

Answer = tuple[int, Mapping[str, Sequence[str]], bytes]
"""Code, headers by name in small letters, body."""


@dataclass(frozen=True, slots=True)
class Step:
    """One request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: str | None

    @property
    def watches(self) -> bool:
        return "watch=" in self.path


@dataclass(frozen=True, slots=True)
class Case:
    """Requests in order."""

    name: str
    steps: tuple[Step, ...]


class Client:
    """Who asks a server; `headers` come with every request."""

    def __init__(self, connect: Callable[[], HTTPSConnection], headers: Mapping[str, str]) -> None:
        self._connect = connect
        self._headers = headers
        self._connection = connect()

    def ask(self, step: Step, path: str, body: bytes | None) -> Answer:
        """One request; a watch has a connection of its own."""
        connection = self._connect() if step.watches else self._connection
        connection.request(step.method, path, body, {**self._headers, **step.headers})
        response = connection.getresponse()
        content = response.read()
        if step.watches:
            connection.close()
        names = {name.lower() for name in response.headers}
        return response.status, {name: response.headers.get_all(name) or [] for name in names}, content

    def close(self) -> None:
        self._connection.close()


def subjects() -> list[str]:
    """What there are cases about."""
    return sorted(path.stem for path in GOLDEN.glob("*.yaml"))


def cases(subject: str) -> list[Case]:
    """The cases about a subject."""
    document = YAML(typ="safe").load(GOLDEN / f"{subject}.yaml")
    return [Case(one["case"], tuple(map(_step, one["steps"]))) for one in document]


@cache
def recorded(subject: str) -> dict[str, list[Any]]:
    """What the real server answered, by case."""
    found: dict[str, list[Any]] = json.loads((GOLDEN / f"{subject}.json").read_text())
    return found


def expected(subject: str, case: Case) -> list[Any]:
    """Our answers to a case: the real ones, apart from the differences."""
    real = recorded(subject)[case.name]
    assert len(real) == len(case.steps), "requests and answers belong together: record them anew"
    ours = [{name: value for name, value in answer.items() if name != "request"} for answer in real]
    for difference in differences():
        if (difference["subject"], difference["case"]) == (subject, case.name):
            for index, change in difference["ours"].items():
                # with a code: all of the answer; else what is different in it
                ours[index] = change if "code" in change else merge_patch(ours[index], change)
    return ours


@cache
def differences() -> list[Any]:
    """Where we answer something else than the real server, with the reason."""
    found: list[Any] = YAML(typ="safe").load(GOLDEN / "differences.yml")
    return found


def play(case: Case, namespace: str, client: Client) -> list[Any]:
    """The answers to a case's requests. Watches that follow each other run at the same time."""
    names = _Names(namespace)
    answers: list[Any] = []

    def ask(step: Step) -> Answer:
        body = None if step.body is None else names.filled(step.body).encode()
        return client.ask(step, names.filled(step.path), body)

    with ThreadPoolExecutor(16) as pool:
        for watches, group in groupby(case.steps, key=lambda step: step.watches):
            # `map` asks one after the other, when the answer before it has its names
            for answer in pool.map(ask, group) if watches else map(ask, group):
                answers.append(names.told(*answer))
    return answers


def fresh_namespace() -> str:
    """A namespace that nobody has."""
    return f"golden-{secrets.token_hex(3)}"


def _step(given: Mapping[str, Any]) -> Step:
    method, _, path = given["do"].partition(" ")
    body = None
    if "text" in given:
        body = given["text"]
    elif "body" in given:
        body = json.dumps(given["body"])
    elif "object" in given:
        body = json.dumps({"apiVersion": "networking.istio.io/v1", **given["object"]})
    headers = {name: str(value) for name, value in given.get("headers", {}).items()}
    if body is not None and "Content-Type" not in headers:
        headers["Content-Type"] = _TYPES[method]
    return Step(method, path if path.startswith("/") else BASE + path, headers, body)


_TYPES = {
    "POST": "application/json",
    "PUT": "application/json",
    "DELETE": "application/json",
    "PATCH": "application/merge-patch+json",
    "GET": "application/json",
}


def _essential(status: Mapping[str, Any]) -> dict[str, Any]:
    """A refusal without its prose: each server says in its own words what to do about it.

    Left are code, reason and details; of a cause its reason, field, and how its message begins; the message
    as a whole where it only names things.
    """
    names_things = status["code"] in {404, 410} or str(status.get("message")).startswith("Apply failed")
    kept = {name: value for name, value in status.items() if name != "message" or names_things}
    causes = [
        {**cause, "message": cause["message"].partition(": ")[0]}
        if cause["reason"].startswith("FieldValue")
        else cause
        for cause in status.get("details", {}).get("causes", ())
        if cause.get("field") != "<nil>"  # about rules that could not be checked
    ]
    once = [cause for index, cause in enumerate(causes) if cause not in causes[:index]]
    once.sort(key=lambda cause: (cause.get("message", ""), cause.get("field", "")))  # any order will do
    details = status.get("details", {}) | ({"causes": once} if once else {})
    return kept | {"details": details} if details else {n: v for n, v in kept.items() if n != "details"}


def _document(media: str, body: bytes) -> Any:
    if media != "application/json":
        return body.decode(errors="replace") if media.startswith("text/") else "not text"
    try:
        document = json.loads(body or b"[]")
    except ValueError:
        document = [json.loads(line) for line in body.splitlines()]
    lines = [document] if isinstance(document, dict) and set(document) == {"type", "object"} else document
    if isinstance(lines, dict):
        return lines
    # bookmarks come from time to time, if not at the end of what stands
    return [line for line in lines if line["type"] != "BOOKMARK" or "annotations" in json.dumps(line)]


def _without_chance(value: Any) -> Any:
    """A document without what hangs on the moment (ages, order by seconds) and on a server's own prose."""
    match value:
        case {"columnDefinitions": list(columns)}:
            shown = [{name: item for name, item in one.items() if name != "description"} for one in columns]
            ages = [index for index, one in enumerate(columns) if one["type"] == "date"]
            for row in value["rows"]:
                row["cells"] = ["$age" if n in ages and c else c for n, c in enumerate(row["cells"])]
            return {**value, "columnDefinitions": shown, "rows": _without_chance(value["rows"])}
        case {"managedFields": list(entries)}:
            ordered = sorted(entries, key=lambda one: [str(one.get(name, "")) for name in _IDENTITY])
            return {**value, "managedFields": ordered}
        case dict():
            return {
                name: _without_chance(item)
                for name, item in value.items()
                if (name, item) != ("continue", "")
            }
        case list():
            return [_without_chance(item) for item in value]
    return value


_IDENTITY = ("manager", "operation", "apiVersion", "subresource")


_PATTERNS = {
    "uid": re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"),
    "time": re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"),
}
_VERSION = re.compile(r"(resource ?version[^0-9]*|current: )(\d+)( \(\d+\))?", re.IGNORECASE)


@dataclass(slots=True)
class _Names:
    """Names for what differs from run to run, by order of appearance."""

    namespace: str
    values: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def filled(self, text: str) -> str:
        """A request with values for names."""
        for name in sorted(self.values, key=len, reverse=True):
            text = text.replace(name, self.values[name])
        return text.replace("$ns", self.namespace)

    def told(self, code: int, headers: Mapping[str, Sequence[str]], body: bytes) -> Any:
        """An answer with names for values."""
        answer: dict[str, Any] = {"code": code}
        (media,) = [text.partition(";")[0] for text in headers.get("content-type", ["none;"])]
        if media != "application/json":
            answer["type"] = headers["content-type"][0]
        for name in ("warning", "retry-after", "allow"):
            if name in headers:
                answer[name] = list(headers[name])
        answer["body"] = self._named(_without_chance(_document(media, body)))
        if answer["code"] >= 400 and isinstance(answer["body"], dict):
            answer["body"] = _essential(answer["body"])
        return json.loads(json.dumps(answer).replace(self.namespace, "$ns"))

    def _named(self, value: Any, key: str = "") -> Any:
        match value:
            case dict():
                named = {name: self._named(value[name], name) for name in sorted(value)}
                if value.get("generateName") and value.get("name", "").startswith(value["generateName"]):
                    named["name"] = value["generateName"] + "$"
                return named
            case list():
                return [self._named(item, key) for item in value]
            case str() if key == "resourceVersion" and value.isdigit() and len(value) < 16:
                return value if value == "0" else self._name("rv", value)
            case str() if key == "continue" and value:
                return self._name("continue", value)
            case str():
                text = _PATTERNS["time"].sub("$time", value)
                text = _PATTERNS["uid"].sub(self._uid, text)
                return _VERSION.sub(lambda found: found[1] + self.names.get(f"rv {found[2]}", "$n"), text)
        return value

    def _uid(self, found: re.Match[str]) -> str:
        # those that the cases themselves name look like this
        return found[0] if found[0].startswith("11111111-") else self._name("uid", found[0])

    def _name(self, kind: str, value: str) -> str:
        name = self.names.get(f"{kind} {value}")
        if name is None:
            count = sum(one.startswith(f"${kind}") for one in self.values) + 1
            name = self.names[f"{kind} {value}"] = f"${kind}{count}"
            self.values[name] = value
        return name

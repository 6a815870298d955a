"""One YAML document -> objects to apply, calls to make, and what must come of them.

The language is described in README.md beside this file.
"""

import itertools
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from mesh_world import HERE, Answer, Caller, World, until
from ruamel.yaml import YAML

from isthmus.api.kinds import KINDS
from isthmus.cli.client import Document, Refused
from isthmus.cli.waiting import Verdict

ROLES = {"vm serves": ("vm", "client"), "vm calls": ("client", "vm")}
"""Who is the server and who the caller."""
CALLS = ("url", "grpc", "tcp", "udp", "websocket", "mysql", "dns", "file")
KEYS = {"name", "both", "as", "use", "config", "calls", "conditions", "refused", "then", "bug"}
EXPECTED = {"status", "statuses", "body", "headers", "reached", "share", "all_same", "seen", "told"}
EXPECTED |= {"seconds", "slowest", "error", "counted"}
NAMES_S, CONDITION_S = 5.0, 20.0
CHANCE, CHANCE_S = {"statuses", "counted", "seconds", "slowest"}, 10.0
"""What a busy machine or a rare throw of the dice may spoil once: such calls are made again, for so long."""
_PLACEHOLDER = re.compile(r"<(server|caller|unique|pem|roots|address:[a-z0-9-]+|address6:[a-z0-9-]+)>")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One document, with who is who."""

    area: str
    name: str
    server: str
    caller: str
    document: Mapping[str, Any] = field(repr=False)

    @property
    def bug(self) -> str:
        """Why the product does not do it yet; empty when it does."""
        return str(self.document.get("bug", ""))

    @property
    def id(self) -> str:
        """How pytest calls it."""
        return f"{self.area}: {self.name} ({'vm serves' if self.server == 'vm' else 'vm calls'})"

    def run(self, world: World) -> None:
        """Applies the config, makes the calls, puts the world back."""
        words = self._words(world)
        phases = [self.document, *self.document.get("then", ())]
        applied: list[Document] = []
        try:
            for number, phase in enumerate(phases):
                where = f"phase {number + 1}: " if number else ""
                time.sleep(float(phase.get("after", 0)))
                objects = configured(phase, words)
                world.delete(listed(phase.get("delete"), words))
                objects = objects or [_marker(words)]
                applied += objects
                _judge(world, phase, objects, words, where)
        finally:
            world.delete(applied)

    def _words(self, world: World) -> Mapping[str, str]:
        words = {
            "server": self.server,
            "caller": self.caller,
            "unique": f"u{next(_numbers)}-{time.time_ns()}",
        }
        for host, (v4, v6) in world.addresses.items():
            words |= {f"address:{host}": v4, f"address6:{host}": v6}
        words |= world.certificates
        return words


def load(directory: Path = HERE) -> list[Scenario]:
    """Every scenario of every area, each in the roles that it is for."""
    yaml = YAML(typ="safe", pure=True)
    found = []
    for path in sorted(directory.glob("*.yaml")):
        if path.stem in ("world", "fragments"):
            continue
        for document in yaml.load_all(path.read_text()):
            _check(path, document)
            roles = ROLES if document.get("both") else {document.get("as", "vm calls"): None}
            found += [Scenario(path.stem, document["name"], *ROLES[role], document) for role in roles]
    ids = Counter(scenario.id for scenario in found)
    assert not (twice := [name for name, times in ids.items() if times > 1]), f"same name twice: {twice}"
    return found


def _check(path: Path, document: Any) -> None:
    where = f"{path.name}: {document.get('name') if isinstance(document, dict) else document!r}"
    assert isinstance(document, dict), f"{where} is no scenario"
    assert document.keys() <= KEYS, f"{where}: unknown {sorted(document.keys() - KEYS)}"
    for phase in (document, *document.get("then", ())):
        for call in phase.get("calls", ()):
            assert sum(kind in call for kind in CALLS) == 1, f"{where}: a call is one of {CALLS}: {call}"
            assert call.get("expect"), f"{where}: a call that expects nothing: {call}"
            assert call["expect"].keys() <= EXPECTED, f"{where}: {call['expect'].keys() - EXPECTED}"


# objects


def configured(phase: Mapping[str, Any], words: Mapping[str, str]) -> list[Document]:
    """The objects that a phase applies."""
    return [*_objects(_used(phase), words), *listed(phase.get("config"), words)]


def listed(config: Any, words: Mapping[str, str]) -> list[Document]:
    """The objects of a list, or of a text of YAML documents."""
    return _objects(_listed(config), words)


def _used(phase: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    return [_fragments()[name] for name in phase.get("use", ())]


@cache
def _fragments() -> Mapping[str, Mapping[str, Any]]:
    """What scenarios use by name; read once, since that takes longer than most of them do."""
    found: dict[str, Mapping[str, Any]] = YAML(typ="safe", pure=True).load(
        (HERE / "fragments.yaml").read_text()
    )
    return found


def _listed(config: Any) -> Iterable[Any]:
    if isinstance(config, str):
        return [document for document in YAML(typ="safe", pure=True).load_all(config) if document]
    return config if isinstance(config, list) else [config] if config else []


def _objects(config: Iterable[Any], words: Mapping[str, str]) -> list[Document]:
    """Whole objects, or `Kind namespace/name: spec` in short."""
    found: list[Document] = []
    for item in config:
        if isinstance(item, str):
            found += _objects(YAML(typ="safe", pure=True).load_all(item), words)
            continue
        said = _filled(item, words)
        found += [said] if "kind" in said else [_whole(title, spec) for title, spec in said.items()]
    return found


def _marker(words: Mapping[str, str]) -> Document:
    """An object that says nothing; when it is programmed, so is every deletion before it."""
    return _whole("DestinationRule elsewhere/marker", {"host": f"{words['unique']}.test", "exportTo": ["."]})


def _whole(title: str, spec: Any) -> Document:
    kind, _, name = title.partition(" ")
    namespace, _, bare = name.rpartition("/")
    metadata = {"name": bare, **({"namespace": namespace} if namespace else {})}
    body = {"spec": spec} if KINDS[kind].has_spec else {}
    return {"apiVersion": KINDS[kind].api_versions[0], "kind": kind, "metadata": metadata, **body}


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    match value:
        case str():
            once = _PLACEHOLDER.sub(lambda match: words[match[1]], value)
            return once if once == value else _filled(once, words)
        case dict():
            return {_filled(key, words): _filled(each, words) for key, each in value.items()}
        case list():
            return [_filled(each, words) for each in value]
    return value


# judgement


def _judge(
    world: World, phase: Mapping[str, Any], objects: Sequence[Document], words: Mapping[str, str], where: str
) -> None:
    if objects:
        verdicts, refusal = _applied(world, objects)
        wanted = _filled(phase.get("refused", ""), words)
        assert bool(refusal) == bool(wanted), f"{where}refusal {refusal!r}, expected {wanted!r}"
        if refusal:
            assert re.search(wanted, refusal), f"{where}refused with {refusal}, expected {wanted!r}"
            return
        if not phase.get("conditions"):
            bad = [verdict for verdict in verdicts if verdict.state != "programmed"]
            assert not bad, f"{where}{bad}"
        _names_known(world, objects, words)
    for wanted in _filled(phase.get("conditions", []), words):
        assert until(partial(_settled, world, wanted), CONDITION_S), f"{where}{_condition(world, wanted)}"
    for call in _filled(phase.get("calls", []), words):
        _call(world, call, words, where)


def _applied(world: World, objects: Sequence[Document]) -> tuple[list[Verdict], str]:
    """What became of the objects, and the words of a refusal."""
    try:
        return world.apply(objects), ""
    except Refused as refused:
        return [], f"{refused} {refused.status}"


def _names_known(world: World, objects: Sequence[Document], words: Mapping[str, str]) -> None:
    """Waits until the caller's own resolver knows new names: conditions speak of Envoys, not of agents."""
    for obj in objects:
        if obj["kind"] != "ServiceEntry" or obj["spec"].get("exportTo") or "resolution" not in obj["spec"]:
            continue
        host = obj["spec"]["hosts"][0]
        if obj["spec"]["resolution"] == "STATIC" and not host.startswith("*"):
            until(partial(_resolves, world.callers[words["caller"]], host), NAMES_S)


def _resolves(ask: Caller, host: str) -> bool:
    return "error" not in ask({"dns": host})[0]


def _settled(world: World, wanted: Mapping[str, Any]) -> bool:
    return not _condition(world, wanted)


def _condition(world: World, wanted: Mapping[str, Any]) -> str:
    """What is wrong with a condition; empty when it is as wanted."""
    kind, _, name = wanted["of"].partition(" ")
    seen = world.condition(kind, name, wanted["type"])
    for key in ("status", "reason"):
        if key in wanted and str(seen.get(key)) != str(wanted[key]):
            return f"{wanted['of']}: {wanted['type']} is {seen}, expected {key} {wanted[key]}"
    if "says" in wanted and not re.search(wanted["says"], str(seen.get("message"))):
        return f"{wanted['of']}: {wanted['type']} says {seen.get('message')!r}, expected {wanted['says']!r}"
    return ""


def _call(world: World, call: Mapping[str, Any], words: Mapping[str, str], where: str) -> None:
    made = {key: value for key, value in call.items() if key not in ("from", "expect", "within")}
    if made.get("url", "").startswith("/"):
        made["url"] = f"http://{words['server']}.{words['server']}:8080{made['url']}"
    ask = world.callers[call.get("from", words["caller"])]
    patience = CHANCE_S if _by_chance(call["expect"]) else 0
    deadline = time.monotonic() + float(call.get("within", patience))
    while True:
        before = {host: world.counters(host) for host in call["expect"].get("counted", ())}
        answers = ask(made)
        wrong = [text for text in judged(call["expect"], answers) if text]
        for host, counters in before.items():
            wrong += _miscounted(host, call["expect"]["counted"][host], counters, world.counters(host))
        if not wrong or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    if wrong:
        seen = "\n  ".join(_brief(answer) for answer in answers[:3])
        raise AssertionError(
            f"{where}{ask.host.name}: {made}\n  "
            + "\n  ".join(wrong)
            + f"\nanswers:\n  {seen}\n{world.debug()}"
        )


def _by_chance(expect: Mapping[str, Any]) -> bool:
    return (
        bool(CHANCE & expect.keys())
        or expect.get("all_same") is False
        or any(each not in (0, 100) for each in expect.get("share", {}).values())
    )


def _miscounted(
    host: str, expect: Mapping[str, Any], before: Mapping[str, int], after: Mapping[str, int]
) -> Iterable[str]:
    """By how much counters of a host's Envoy went up, where that is not as expected."""
    for pattern, wanted in expect.items():
        low, high = wanted if isinstance(wanted, list) else (wanted, wanted)
        grown = {name: n - before.get(name, 0) for name, n in after.items() if re.search(pattern, name)}
        if not low <= sum(grown.values()) <= high:
            yield f"{host} counted {grown or 'nothing'} for {pattern!r}, expected {wanted}"


def judged(expect: Mapping[str, Any], answers: Sequence[Answer]) -> Iterable[str]:
    """What is not as expected, a text each."""
    statuses = Counter(answer.get("status", "error") for answer in answers)
    if "error" not in expect and "statuses" not in expect:
        yield from (f"error: {answer['error']}" for answer in answers if "error" in answer)
    for key, wanted in expect.items():
        match key:
            case "status":
                if not all(re.fullmatch(str(wanted), str(status)) for status in statuses):
                    yield f"statuses {dict(statuses)}, expected {wanted}"
            case "statuses":
                for status, (low, high) in wanted.items():
                    if not low <= statuses[status] <= high:
                        yield f"statuses {dict(statuses)}, expected {low} to {high} times {status}"
            case "error":
                calm = [a for a in answers if not re.search(wanted, str(a.get("error", "")) or "no error")]
                if calm or not all("error" in a for a in answers):
                    yield f"expected the error {wanted!r}"
            case "share":
                yield from _shares(wanted, answers)
            case "slowest":
                low, high = wanted
                if not low <= (longest := max(answer["seconds"] for answer in answers)) <= high:
                    yield f"the slowest took {longest:.2f} s, expected {low} to {high}"
            case "all_same":
                places = Counter(answer.get("reached") for answer in answers)
                if (len(places) == 1) != wanted:
                    yield f"reached {dict(places)}, expected {'one place' if wanted else 'several places'}"
            case _:
                yield from (text for answer in answers if (text := _single(key, wanted, answer)))


def _shares(wanted: Mapping[str, Any], answers: Sequence[Answer]) -> Iterable[str]:
    """`vm/v1: 80` is 80 ± 10 of a hundred; `vm/v1: [70, 95]` a range."""
    places = Counter(answer.get("reached", answer.get("status")) for answer in answers)
    for name, said in wanted.items():
        low, high = said if isinstance(said, list) else (said - 10, said + 10)
        share = 100 * places[name] / len(answers)
        if not low <= share <= high or (said in (0, 100) and share != said):
            yield f"{share:.0f} % reached {name}, expected {said}: {dict(places)}"


def _single(key: str, wanted: Any, answer: Answer) -> str:
    match key:
        case "body":
            if not re.search(str(wanted), answer.get("body", "")):
                return f"body {answer.get('body', '')[:300]!r}, expected {wanted!r}"
        case "headers":
            return _differences("response header", wanted, answer.get("headers", {}))
        case "seen":
            told = answer.get("told", {})
            rest = {name: value for name, value in wanted.items() if name != "headers"}
            return _differences(
                "seen by the server: header", wanted.get("headers", {}), told.get("headers", {})
            ) or (_differences("seen by the server:", rest, told))
        case "told":
            return _differences("answer's", wanted, answer.get("told", {}))
        case "reached":
            seen = str(answer.get("reached"))
            if not any(re.fullmatch(str(wanted), text) for text in (seen, seen.partition("/")[0])):
                return f"reached {seen}, expected {wanted}"
        case "seconds":
            low, high = wanted
            if not low <= answer["seconds"] <= high:
                return f"took {answer['seconds']:.2f} s, expected {low} to {high}"
    return ""


def _differences(what: str, wanted: Mapping[str, Any], seen: Mapping[str, Any]) -> str:
    """Each value is a pattern for the whole of what is seen; null: absent."""
    for name, value in wanted.items():
        found = seen.get(name)
        if value is None:
            if found is not None:
                return f"{what} {name} is {found!r}, expected none"
        elif found is None or not re.fullmatch(str(value), str(found)):
            return f"{what} {name} is {found!r}, expected {value!r}"
    return ""


def _brief(answer: Answer) -> str:
    return str({key: value for key, value in answer.items() if key != "told"})[:600]

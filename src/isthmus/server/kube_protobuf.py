"""Kubernetes' protobuf bodies -> the same documents as from JSON, for the kinds that kubectl writes so.

    k8s\\0 | Unknown{apiVersion, kind, raw} ─▶ fields by number ─▶ names and JSON values

kubectl's `create namespace|configmap|secret|…` and `auth can-i` speak it; answers are JSON, which they take.
Field numbers: https://github.com/kubernetes/api (generated.proto of each group). Unknown fields are left out.
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

PROTOBUF = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\0"
_DEEPEST = 32

Table = Mapping[int, "Slot"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One field: its name in JSON (empty: its own fields stand in its place) and how its value is read."""

    name: str
    read: "Table | Callable[[Any], Any]"
    many: bool = False
    """A list."""
    pairs: bool = False
    """A map with text for keys; `read` is for its values."""


class Undecodable(ValueError):
    """The bytes are not what they should be."""


def document(body: bytes) -> dict[str, Any]:
    """The document in a request's body; Undecodable when it is damaged or of another kind."""
    if not body.startswith(_MAGIC):
        raise Undecodable("a body in protobuf begins with k8s")
    envelope = _message(memoryview(body)[len(_MAGIC) :], _UNKNOWN, 0)
    typed = envelope.get("typeMeta", {})
    key = (typed.get("apiVersion", ""), typed.get("kind", ""))
    table = _TABLES.get(key) or (_DELETE_OPTIONS if key[1] == "DeleteOptions" else None)
    if table is None:
        raise Undecodable(f"{' '.join(filter(None, key)) or 'nothing'} is not read as protobuf: send JSON")
    return {"apiVersion": key[0], "kind": key[1], **_message(envelope.get("raw", b""), table, 0)}


def _message(data: Any, table: Table, depth: int) -> dict[str, Any]:
    if depth > _DEEPEST:
        raise Undecodable("the body is nested too deeply")
    if not isinstance(data, bytes | memoryview):
        raise Undecodable("the body is damaged")
    found: dict[str, Any] = {}
    for number, value in _fields(memoryview(data)):
        slot = table.get(number)
        if slot is None:
            continue
        if slot.pairs:
            pair = _message(value, {1: Slot("key", _text), 2: Slot("value", slot.read)}, depth + 1)
            found.setdefault(slot.name, {})[pair.get("key", "")] = pair.get("value", "")
            continue
        read = slot.read(value) if callable(slot.read) else _message(value, slot.read, depth + 1)
        if slot.many:
            found.setdefault(slot.name, []).append(read)
        elif not slot.name:
            found |= read
        elif read not in ("", 0, None, {}) or read is False:
            # what Go leaves empty is written all the same: it means absent
            found[slot.name] = read
    return found


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                value, at = _varint(data, at)
                yield tag >> 3, value
            case 2:
                size, at = _varint(data, at)
                if size > len(data) - at:
                    raise Undecodable("the body ends early")
                yield tag >> 3, data[at : at + size]
                at += size
            case 1 | 5 as wire:
                at += 8 if wire == 1 else 4
            case _:
                raise Undecodable("the body is damaged")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise Undecodable("the body ends early")
        byte, at = data[at], at + 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise Undecodable("the body is damaged")


def _text(value: Any) -> str:
    try:
        return _raw(value).decode()
    except UnicodeDecodeError:
        raise Undecodable("a text of the body is not UTF-8") from None


def _bytes(value: Any) -> str:
    return base64.b64encode(_raw(value)).decode()


def _raw(value: Any) -> bytes:
    if not isinstance(value, memoryview):
        raise Undecodable("the body is damaged")
    return bytes(value)


def _number(value: Any) -> int:
    if not isinstance(value, int):
        raise Undecodable("the body is damaged")
    return value - (1 << 64) if value >= 1 << 63 else value


def _truth(value: Any) -> bool:
    return bool(value)


def _time(value: Any) -> str | None:
    seconds = _message(value, {1: Slot("seconds", _number)}, 0).get("seconds")
    if not seconds:
        return None
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        raise Undecodable("a time of the body is out of range") from None


def _int_or_string(value: Any) -> int | str:
    found = _message(value, {1: Slot("t", _number), 2: Slot("i", _number), 3: Slot("s", _text)}, 0)
    return str(found.get("s", "")) if found.get("t") else int(found.get("i", 0))


def _texts(*names: str) -> dict[int, Slot]:
    """Texts, numbered from 1."""
    return {number: Slot(name, _text) for number, name in enumerate(names, start=1)}


_UNKNOWN: Table = {1: Slot("typeMeta", _texts("apiVersion", "kind")), 2: Slot("raw", _raw)}
_OWNER: Table = {
    1: Slot("kind", _text),
    3: Slot("name", _text),
    4: Slot("uid", _text),
    5: Slot("apiVersion", _text),
    6: Slot("controller", _truth),
    7: Slot("blockOwnerDeletion", _truth),
}
_METADATA: Table = {
    **_texts("name", "generateName", "namespace", "selfLink", "uid", "resourceVersion"),
    7: Slot("generation", _number),
    8: Slot("creationTimestamp", _time),
    9: Slot("deletionTimestamp", _time),
    11: Slot("labels", _text, pairs=True),
    12: Slot("annotations", _text, pairs=True),
    13: Slot("ownerReferences", _OWNER, many=True),
    14: Slot("finalizers", _text, many=True),
}
_META = {1: Slot("metadata", _METADATA)}
_REFERENCE = _texts("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_PORT: Table = {
    **_texts("name", "protocol"),
    3: Slot("port", _number),
    4: Slot("targetPort", _int_or_string),
    5: Slot("nodePort", _number),
    6: Slot("appProtocol", _text),
}
_SERVICE: Table = {
    1: Slot("ports", _PORT, many=True),
    2: Slot("selector", _text, pairs=True),
    3: Slot("clusterIP", _text),
    4: Slot("type", _text),
    5: Slot("externalIPs", _text, many=True),
    7: Slot("sessionAffinity", _text),
    8: Slot("loadBalancerIP", _text),
    9: Slot("loadBalancerSourceRanges", _text, many=True),
    10: Slot("externalName", _text),
    11: Slot("externalTrafficPolicy", _text),
    17: Slot("ipFamilyPolicy", _text),
    18: Slot("clusterIPs", _text, many=True),
    19: Slot("ipFamilies", _text, many=True),
    21: Slot("loadBalancerClass", _text),
    22: Slot("internalTrafficPolicy", _text),
    23: Slot("trafficDistribution", _text),
}
_SERVICE_BACKEND: Table = {
    1: Slot("name", _text),
    2: Slot("port", {1: Slot("name", _text), 2: Slot("number", _number)}),
}
_BACKEND: Table = {
    3: Slot("resource", _texts("apiGroup", "kind", "name")),
    4: Slot("service", _SERVICE_BACKEND),
}
_INGRESS_PATH: Table = {
    1: Slot("path", _text),
    2: Slot("backend", _BACKEND),
    3: Slot("pathType", _text),
}
_INGRESS_RULE: Table = {
    1: Slot("host", _text),
    2: Slot("", {1: Slot("http", {1: Slot("paths", _INGRESS_PATH, many=True)})}),
}
_INGRESS: Table = {
    1: Slot("defaultBackend", _BACKEND),
    2: Slot("tls", {1: Slot("hosts", _text, many=True), 2: Slot("secretName", _text)}, many=True),
    3: Slot("rules", _INGRESS_RULE, many=True),
    4: Slot("ingressClassName", _text),
}
_ACCESS: Table = {
    1: Slot(
        "resourceAttributes",
        _texts("namespace", "verb", "group", "version", "resource", "subresource", "name"),
    ),
    2: Slot("nonResourceAttributes", _texts("path", "verb")),
}
_DELETE_OPTIONS: Table = {
    2: Slot("preconditions", _texts("uid", "resourceVersion")),
    3: Slot("orphanDependents", _truth),
    4: Slot("propagationPolicy", _text),
    5: Slot("dryRun", _text, many=True),
}
_TABLES: Mapping[tuple[str, str], Table] = {
    ("v1", "Namespace"): {**_META, 2: Slot("spec", {1: Slot("finalizers", _text, many=True)})},
    ("v1", "ConfigMap"): {
        **_META,
        2: Slot("data", _text, pairs=True),
        3: Slot("binaryData", _bytes, pairs=True),
        4: Slot("immutable", _truth),
    },
    ("v1", "Secret"): {
        **_META,
        2: Slot("data", _bytes, pairs=True),
        3: Slot("type", _text),
        4: Slot("stringData", _text, pairs=True),
        5: Slot("immutable", _truth),
    },
    ("v1", "ServiceAccount"): {
        **_META,
        2: Slot("secrets", _REFERENCE, many=True),
        3: Slot("imagePullSecrets", _texts("name"), many=True),
        4: Slot("automountServiceAccountToken", _truth),
    },
    ("v1", "Service"): {**_META, 2: Slot("spec", _SERVICE)},
    ("networking.k8s.io/v1", "Ingress"): {**_META, 2: Slot("spec", _INGRESS)},
    ("authentication.k8s.io/v1", "SelfSubjectReview"): _META,
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview"): {**_META, 2: Slot("spec", _ACCESS)},
    ("authorization.k8s.io/v1", "SelfSubjectRulesReview"): {**_META, 2: Slot("spec", _texts("namespace"))},
}

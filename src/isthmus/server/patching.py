"""A document and a patch -> the document that the patch makes of it. Pure.

    JSON patch         RFC 6902      a list of operations
    merge patch        RFC 7396      what is given replaces, null removes
    strategic merge    Kubernetes'   the same, and lists of known kinds merge by their keys

https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/
"""

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

from isthmus.server.merge_shapes import ANY, Shape

_MOST_OPERATIONS = 10_000
_MOST_COPIED = 3 * 2**20
"""Bytes that the copies of one patch may add up to."""


class Unpatchable(ValueError):
    """The patch makes no sense."""


class Inapplicable(ValueError):
    """The patch makes sense, but not for this document."""


def merge_patch(document: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(document) if isinstance(document, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge_patch(result.get(name), value)
    return result


def json_patch(document: Any, operations: Any) -> Any:
    """RFC 6902; all operations or none."""
    if not isinstance(operations, list):
        raise Unpatchable("a JSON patch is a list of operations")
    if len(operations) > _MOST_OPERATIONS:
        raise Unpatchable(f"a JSON patch has at most {_MOST_OPERATIONS} operations")
    result, copied = copy.deepcopy(document), 0
    for operation in operations:
        if not isinstance(operation, Mapping):
            raise Unpatchable("an operation is an object with op and path")
        if operation.get("op") == "copy":
            copied += len(json.dumps(_at(result, _pointer(operation, "from"))))
            if copied > _MOST_COPIED:
                raise Unpatchable("the patch copies too much")
        result = _operated(result, operation)
    return result


def strategic_merge(document: Any, patch: Any, shape: Shape) -> Any:
    """Kubernetes' own merge, with its directives."""
    if not isinstance(patch, Mapping):
        return patch
    if patch.get("$patch") == "replace":
        return {name: value for name, value in patch.items() if name != "$patch"}
    if patch.get("$patch") == "delete":
        return {}
    result = dict(document) if isinstance(document, Mapping) else {}
    if isinstance(kept := patch.get("$retainKeys"), list):
        result = {name: value for name, value in result.items() if name in kept}
    for name, value in patch.items():
        if name.startswith("$deleteFromPrimitiveList/"):
            field = name.partition("/")[2]
            gone = value if isinstance(value, list) else []
            result[field] = [item for item in result.get(field) or () if item not in gone]
    for name, value in patch.items():
        if name.startswith("$"):
            continue
        below = shape.fields.get(name, ANY)
        if value is None:
            result.pop(name, None)
        elif isinstance(value, list) and below.merge in {"by keys", "as set"}:
            order = patch.get(f"$setElementOrder/{name}")
            result[name] = _strategic_list(result.get(name) or [], value, below, order)
        elif below.merge == "whole" and not isinstance(value, Mapping):
            result[name] = value
        else:
            result[name] = strategic_merge(result.get(name), value, below)
    for name, order in patch.items():
        field = name.removeprefix("$setElementOrder/")
        if field != name and field not in patch and isinstance(result.get(field), list):
            result[field] = _ordered(result[field], order, shape.fields.get(field, ANY))
    return result


def _strategic_list(live: Any, patch: list[Any], shape: Shape, order: Any) -> list[Any]:
    items = list(live) if isinstance(live, list | tuple) else []
    if shape.merge == "as set":
        return _ordered([*items, *(item for item in patch if item not in items)], order, shape)
    if any(isinstance(item, Mapping) and item == {"$patch": "replace"} for item in patch):
        return [item for item in patch if item != {"$patch": "replace"}]
    key, element = shape.keys[0], Shape(fields=shape.fields)
    for item in patch:
        if not isinstance(item, Mapping) or key not in item:
            raise Inapplicable(f"map: {item!r:.80} does not contain declared merge key: {key}")
        found = [index for index, one in enumerate(items) if _keyed(one, key) == item[key]]
        if item.get("$patch") == "delete":
            items = [one for index, one in enumerate(items) if index not in found]
        elif found:
            items[found[0]] = strategic_merge(items[found[0]], item, element)
        else:
            items.append(strategic_merge({}, item, element))
    return _ordered(items, order, shape)


def _ordered(items: Sequence[Any], order: Any, shape: Shape) -> list[Any]:
    """The items in the order that the patch gives; others stay behind what they followed."""
    if not isinstance(order, list):
        return list(items)
    key = shape.keys[0] if shape.merge == "by keys" else ""
    place = {_token(item, key): index for index, item in enumerate(order)}
    ranked, last = [], -1
    for index, item in enumerate(items):
        last = place.get(_token(item, key), last)
        ranked.append((last, _token(item, key) not in place, index, item))
    return [item for *_, item in sorted(ranked, key=lambda one: one[:3])]


def _token(item: Any, key: str) -> str:
    return json.dumps(_keyed(item, key) if key else item, sort_keys=True)


def _keyed(item: Any, key: str) -> Any:
    return item.get(key) if isinstance(item, Mapping) else None


def _operated(document: Any, operation: Mapping[str, Any]) -> Any:
    path = _pointer(operation, "path")
    match operation.get("op"):
        case "add":
            return _put(document, path, _value(operation), insert=True)
        case "replace":
            value = _value(operation)
            _at(document, path)
            return _put(document, path, value, insert=False)
        case "remove":
            return _removed(document, path)
        case "test":
            if not _same(_at(document, path), _value(operation)):
                raise Inapplicable(f"testing value {operation['path']} failed")
            return document
        case "copy":
            value = copy.deepcopy(_at(document, _pointer(operation, "from")))
            return _put(document, path, value, insert=True)
        case "move":
            source = _pointer(operation, "from")
            if path[: len(source)] == source and path != source:
                raise Inapplicable("a value cannot be moved into itself")
            value = _at(document, source)
            return _put(_removed(document, source), path, value, insert=True)
    raise Unpatchable(f"unexpected kind of operation: {operation.get('op')!r:.40}")


def _pointer(operation: Mapping[str, Any], name: str) -> list[str]:
    text = operation.get(name)
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise Unpatchable(f"{name} of an operation is a JSON pointer, is {text!r:.60}")
    return [step.replace("~1", "/").replace("~0", "~") for step in text.split("/")[1:]]


def _value(operation: Mapping[str, Any]) -> Any:
    if "value" not in operation:
        raise Unpatchable(f"an operation {operation.get('op')!r} has a value")
    return operation["value"]


def _at(document: Any, path: Sequence[str]) -> Any:
    for step in path:
        if isinstance(document, dict) and step in document:
            document = document[step]
        elif isinstance(document, list):
            document = document[_index(step, len(document) - 1)]
        else:
            raise Inapplicable(f"there is nothing at /{'/'.join(path)}")
    return document


def _put(document: Any, path: Sequence[str], value: Any, *, insert: bool) -> Any:
    if not path:
        return value
    parent = _at(document, path[:-1])
    if isinstance(parent, dict):
        parent[path[-1]] = value
    elif isinstance(parent, list) and insert:
        index = len(parent) if path[-1] == "-" else _index(path[-1], len(parent))
        parent.insert(index, value)
    elif isinstance(parent, list):
        parent[_index(path[-1], len(parent) - 1)] = value
    else:
        raise Inapplicable(f"nothing can be put at /{'/'.join(path)}")
    return document


def _removed(document: Any, path: Sequence[str]) -> Any:
    if not path:
        raise Inapplicable("the whole document cannot be removed")
    _at(document, path)
    parent = _at(document, path[:-1])
    if isinstance(parent, list):
        del parent[_index(path[-1], len(parent) - 1)]
    else:
        del parent[path[-1]]
    return document


def _index(step: str, last: int) -> int:
    if not (step.isascii() and step.isdigit()) or (len(step) > 1 and step[0] == "0") or len(step) > 9:
        raise Inapplicable(f"{step[:40]!r} is no index of a list")
    if int(step) > last:
        raise Inapplicable(f"index {step} is beyond the list")
    return int(step)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, bool) is not isinstance(other, bool):
        return False
    return bool(one == other)

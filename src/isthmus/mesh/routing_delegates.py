"""A root's rule + the rules of its delegate -> rules that ask what both ask.

    root.match x delegate.match --merged--> one rule for each of the delegate's, or None on a conflict

A delegate may only narrow what the root asks; where it says nothing, the root's actions count.
https://istio.io/latest/docs/reference/config/networking/virtual-service/#Delegate
"""

from collections.abc import Mapping
from typing import Any

from isthmus.api.networking.virtual_service import HTTPMatchRequest, HTTPRoute
from isthmus.api.shapes import StringMatch

_INHERITED = (
    *("rewrite", "direct_response", "timeout", "retries", "fault", "mirror", "mirror_percent"),
    *("mirror_percent_snake", "mirror_percentage", "cors_policy", "mirrors", "headers"),
)
_SINGLE = ("uri", "scheme", "method", "authority")
_MAPS = ("headers", "without_headers", "query_params")


def merged(root: HTTPRoute, leaf: HTTPRoute) -> HTTPRoute | None:
    """The delegate's rule under the root's; None when no request could match both."""
    matches = _matches(root.match, leaf.match)
    if matches is None:
        return None
    changes: dict[str, Any] = {
        name: said if (said := getattr(leaf, name)) not in (None, ()) else getattr(root, name)
        for name in _INHERITED
    }
    name = "-".join(filter(None, (root.name, leaf.name)))
    return leaf.model_copy(update={**changes, "match": matches, "name": name, "delegate": None})


def _matches(
    roots: tuple[HTTPMatchRequest, ...], leaves: tuple[HTTPMatchRequest, ...]
) -> tuple[HTTPMatchRequest, ...] | None:
    if not roots or not leaves:
        return leaves or roots
    found: list[HTTPMatchRequest] = []
    for leaf in leaves:
        fitting = [_match(root, leaf) for root in roots if not conflict(root, leaf)]
        if not fitting:
            return None
        found += fitting
    return tuple(found)


def _match(root: HTTPMatchRequest, leaf: HTTPMatchRequest) -> HTTPMatchRequest:
    changes: dict[str, Any] = {
        name: getattr(leaf, name) or getattr(root, name)
        for name in (*_SINGLE, "port", "source_namespace", "gateways", "stat_prefix")
    }
    for name in (*_MAPS, "source_labels"):
        changes[name] = {**getattr(root, name), **getattr(leaf, name)}
    changes["name"] = "-".join(filter(None, (root.name, leaf.name)))
    return leaf.model_copy(update=changes)


def conflict(root: HTTPMatchRequest, leaf: HTTPMatchRequest) -> bool:
    """Whether the leaf asks for something that the root excludes, or does not narrow it."""
    maps: list[tuple[Mapping[str, StringMatch], Mapping[str, StringMatch]]] = [
        (getattr(root, name), getattr(leaf, name)) for name in _MAPS
    ]
    return (
        any(_strings_conflict(getattr(root, name), getattr(leaf, name)) for name in _SINGLE)
        or any(_strings_conflict(up.get(name), said) for up, down in maps for name, said in down.items())
        or root.ignore_uri_case != leaf.ignore_uri_case
        or bool(root.port and leaf.port and root.port != leaf.port)
        or bool(root.source_namespace and leaf.source_namespace != root.source_namespace)
        or any(root.source_labels.get(name, value) != value for name, value in leaf.source_labels.items())
        or bool(root.gateways and not set(leaf.gateways) <= set(root.gateways))
        or bool(root.gateways and len(root.gateways) < len(leaf.gateways))
    )


def _strings_conflict(root: StringMatch | None, leaf: StringMatch | None) -> bool:
    if root is None or leaf is None:
        return False
    if root.regex or leaf.regex:
        return True  # whether one expression narrows another cannot be told
    if root.exact:
        return bool(leaf.prefix) or leaf.exact != root.exact
    if root.prefix:
        return not (leaf.prefix or leaf.exact or "").startswith(root.prefix)
    return True

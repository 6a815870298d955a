"""Gateways as the gateways that there are obey them -> what their authors should know.

Nothing here refuses a Gateway: a host, a secret or a VirtualService may still come.
"""

from collections.abc import Iterator

from isthmus.api.meta import Key, Problem
from isthmus.api.networking.gateway import GatewaySpec
from isthmus.engine import Reader
from isthmus.mesh import gateways_credentials as credentials
from isthmus.mesh import routing, world
from isthmus.mesh.gateways import Edge, by_age, edges, selector_of
from isthmus.mesh.gateways_listeners import listeners
from isthmus.mesh.gateways_plan import Server, plan


def problems_of(q: Reader, key: Key) -> tuple[Problem, ...]:
    """The problems of one Gateway."""
    spec = world.spec(q, key, GatewaySpec)
    if spec is None:
        return ()
    obeying = [edge for edge in q(edges) if any(each.gateway == key for each in edge.gateways)]
    if not obeying:
        return (_nobody(q, key),)
    found = dict.fromkeys(problem for edge in obeying for problem in _at_edge(q, key, edge))
    return tuple(sorted(found, key=lambda problem: problem.field))


def problems_of_rule(q: Reader, key: Key) -> tuple[Problem, ...]:
    """The problems that gateways have with a VirtualService."""
    found: dict[Problem, None] = {}
    names = {f"{known.namespace}/{known.name}" for known in q(by_age)}
    for i, name in enumerate(q(routing.gateways_of, key)):
        if "/" in name and name not in names:
            hint = "apply it, or name another: NAME is one of this namespace, NAMESPACE/NAME of another"
            found[_warning(f"spec.gateways[{i}]", f"there is no Gateway {name}", hint)] = None
    for edge in q(edges):
        for loss in q(listeners, edge).losses:
            if loss.loser == key:
                text = f"{loss.text}, by {loss.winner}: the rule is not used"
                found[_warning("spec.tls", text, "each server name can have one rule")] = None
    return tuple(found)


def _nobody(q: Reader, key: Key) -> Problem:
    wanted = ", ".join(f"{name}={value}" for name, value in q(selector_of, key)) or "any"
    text = f"no gateway has the labels {wanted}: nobody listens to it"
    hint = "make one with: isthmus gateway create NAMESPACE/NAME --label K=V"
    return _warning("spec.selector", text, hint)


def _at_edge(q: Reader, key: Key, edge: Edge) -> Iterator[Problem]:
    planned, bound = q(plan, edge.gateways), q(listeners, edge)
    for loss in bound.losses:
        if loss.loser == key and loss.index is not None:
            text = f"{loss.text}, by {loss.winner}: it is not served here"
            yield _warning(f"spec.servers[{loss.index}]", text, "change host, port or bind of one of the two")
    used = {chain.server for listener in bound.listeners for chain in listener.chains}
    for place in planned.places:
        for server in place.servers:
            if server.gateway == key:
                yield from _of_server(q, edge, server, served=server in used or place.protocol.is_http)


def _of_server(q: Reader, edge: Edge, server: Server, *, served: bool) -> Iterator[Problem]:
    at = f"spec.servers[{server.index}]"
    for name in credentials.named_by(server):
        for problem in q(credentials.credential, name, edge.namespace).problems:
            yield _warning(f"{at}.tls.credentialName", problem.text, problem.hint)
    if not served and not server.automatic:
        text = f"no VirtualService says where its connections go: nothing listens on port {server.port}"
        yield _warning(at, text, f"bind one to {server.gateway_name}, with `tcp` or `tls` rules")
    elif server.routes and not q(routing.visible_rules, edge.namespace, server.gateway_name):
        text = "no VirtualService is bound to it: every request gets 404"
        yield _warning(at, text, f"put {server.gateway_name} into the `gateways` of one")


def _warning(field: str, text: str, hint: str = "") -> Problem:
    return Problem(field, text, hint, "warning")

"""PeerAuthentications -> what a workload's proxy takes, by port.

    workload (selector) > namespace > mesh (root namespace) > PERMISSIVE; UNSET inherits; the oldest rule wins

https://istio.io/latest/docs/reference/config/security/peer_authentication/
"""

from dataclasses import dataclass

from isthmus.api.meta import Key
from isthmus.api.security import MutualTLS, PeerAuthenticationSpec
from isthmus.engine import Reader
from isthmus.mesh import proxies, world
from isthmus.mesh.model import Labels, MtlsMode, ServerMtls, has_labels, labels_of

KIND = "PeerAuthentication"


@dataclass(frozen=True, slots=True)
class PeerRule:
    """One PeerAuthentication; an empty selector is about its whole namespace, None inherits."""

    key: Key
    selector: Labels
    mode: MtlsMode | None
    by_port: tuple[tuple[int, MtlsMode | None], ...]


def server_mtls(q: Reader, workload: Key) -> ServerMtls:
    """What the proxy of a workload takes."""
    return q(mtls_of, workload.namespace, q(proxies.labels, workload))


def mtls_of(q: Reader, namespace: str, labels: Labels) -> ServerMtls:
    """What a proxy in front of a workload with these labels takes."""
    root = q(world.settings).root_namespace
    # in the root namespace rules are about the whole mesh: a selector is about nobody there
    narrow = [r for r in q(peer_rules, namespace) if r.selector] if namespace != root else []
    own = next((r for r in narrow if has_labels(labels, r.selector)), None)
    wide = [
        rule
        for place in dict.fromkeys((namespace, root))
        if (rule := next((r for r in q(peer_rules, place) if not r.selector), None))
    ]
    chain = ([own] if own else []) + wide
    mode = next((rule.mode for rule in chain if rule.mode), MtlsMode.PERMISSIVE)
    return ServerMtls(
        mode=mode,
        by_port=tuple((port, said or mode) for port, said in own.by_port) if own else (),
        sources=tuple(sorted(rule.key for rule in chain)),
    )


def peer_rules(q: Reader, namespace: str) -> tuple[PeerRule, ...]:
    """The PeerAuthentications of a namespace, the oldest first."""
    keys = sorted(world.keys(q, KIND, namespace), key=lambda key: q(world.seniority, key))
    return tuple(rule for key in keys if (rule := q(_rule, key)))


def _rule(q: Reader, key: Key) -> PeerRule | None:
    spec = world.spec(q, key, PeerAuthenticationSpec)
    if spec is None:
        return None
    return PeerRule(
        key=key,
        selector=labels_of(spec.selector.match_labels) if spec.selector else (),
        mode=_mode(spec.mtls),
        by_port=tuple(sorted((port, _mode(mtls)) for port, mtls in spec.port_level_mtls.items())),
    )


def _mode(mtls: MutualTLS | None) -> MtlsMode | None:
    return MtlsMode(mtls.mode) if mtls and mtls.mode != "UNSET" else None

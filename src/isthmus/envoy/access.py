"""The AuthorizationPolicies of a proxy -> its RBAC filters, for requests and for connections.

    requests      two slots in front of every HTTP chain <-- what stands in them is sent apart (ECDS)
    connections   filters of the chain itself

What stands in a slot changes without the listener: requests on connections that are open obey at once, and
none is cut. A changed chain closes its connections: who may not connect any more is gone.

    deny   DENY, and CUSTOM, as nobody can be asked     allow   refused unless one of them is for it

Each rule becomes a policy `ns[NAMESPACE]-policy[NAME]-rule[N]`, as Istio names it; a dry run becomes a shadow
policy. On connections Envoy asks the policies only when the caller's first bytes come (see `access_callers`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from envoy.config.core.v3 import config_source_pb2 as config_source_v3
from envoy.config.core.v3 import extension_pb2 as extension_v3
from envoy.config.listener.v3 import listener_components_pb2 as listener_components_v3
from envoy.config.rbac.v3 import rbac_pb2 as rbac_v3
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_v3
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_v3,
)
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_v3

from isthmus.api.meta import Key
from isthmus.engine import Reader
from isthmus.envoy import access_conditions
from isthmus.envoy.access_names import Names
from isthmus.envoy.message import from_ads, packed, resource
from isthmus.envoy.resource import EXTENSION, PREFIX, Manifest, Resource
from isthmus.mesh import world
from isthmus.mesh.authorization import Policy

SLOTS = {"isthmus.access.deny": ("CUSTOM", "DENY"), "isthmus.access.allow": ("ALLOW",)}
"""The filters in front of requests, in order, and the actions of the policies in each."""
NETWORK_FILTER = "envoy.filters.network.rbac"

_RBAC = rbac_v3.RBAC
_HTTP_RBAC = PREFIX + http_rbac_v3.RBAC.DESCRIPTOR.full_name
_STAT_PREFIX = "tcp."
_SHADOWS = {"ALLOW": "istio_dry_run_allow_", "DENY": "istio_dry_run_deny_"}
_MEANING = {"CUSTOM": _RBAC.DENY, "DENY": _RBAC.DENY, "ALLOW": _RBAC.ALLOW}
_UNDECIDED = "-deny-due-to-bad-CUSTOM-action"


@dataclass(frozen=True, slots=True)
class Access:
    """The policies that a proxy enforces, and the trust domains of its mesh."""

    policies: tuple[Policy, ...] = ()
    domains: tuple[str, ...] = ()

    @property
    def sources(self) -> tuple[Key, ...]:
        """The objects that say so."""
        return tuple(policy.key for policy in self.policies)

    def of(self, *actions: str) -> tuple[Policy, ...]:
        """The policies with one of these actions."""
        return tuple(policy for policy in self.policies if policy.action in actions)


def access(q: Reader, policies: tuple[Policy, ...]) -> Access:
    """The policies in this mesh."""
    return Access(policies, q(world.settings).trust_domains)


def slots() -> list[hcm_v3.HttpFilter]:
    """The filters in front of requests; until what stands in them has come, every request gets 500."""
    return [discovered(name) for name in SLOTS]


def discovered(name: str) -> hcm_v3.HttpFilter:
    """A filter that the control plane sends by this name."""
    source = config_source_v3.ExtensionConfigSource(config_source=from_ads(), type_urls=[_HTTP_RBAC])
    return hcm_v3.HttpFilter(name=name, config_discovery=source)


def extensions(q: Reader, policies: tuple[Policy, ...], listeners: Iterable[Resource]) -> Manifest:
    """What stands in the slots of these listeners: a proxy asks for no others."""
    bodies = [each.body for each in listeners]
    filled = q(_filled_slots, policies)
    return {name: made for name, made in filled.items() if any(name.encode() in body for body in bodies)}


def _filled_slots(q: Reader, policies: tuple[Policy, ...]) -> Manifest:
    """What stands in each slot; nothing is refused by one without policies."""
    said = q(access, policies)
    found = {}
    for name, actions in SLOTS.items():
        held = said.of(*actions)
        rules, shadows = _rules(held, said, requests=True)
        made = http_rbac_v3.RBAC(
            rules=rules, shadow_rules=shadows, shadow_rules_stat_prefix=_shadow(actions[-1], shadows)
        )
        message = extension_v3.TypedExtensionConfig(name=name, typed_config=packed(made))
        found[name] = resource(EXTENSION, name, message, (policy.key for policy in held))
    return found


def on_connections(said: Access) -> list[listener_components_v3.Filter]:
    """The filters in front of connections that are not read as HTTP."""
    filters = []
    for actions in SLOTS.values():
        if policies := said.of(*actions):
            rules, shadows = _rules(policies, said, requests=False)
            made = network_rbac_v3.RBAC(
                rules=rules,
                shadow_rules=shadows,
                shadow_rules_stat_prefix=_shadow(actions[-1], shadows),
                stat_prefix=_STAT_PREFIX,
            )
            filters.append(listener_components_v3.Filter(name=NETWORK_FILTER, typed_config=packed(made)))
    return filters


def _shadow(action: str, shadows: rbac_v3.RBAC | None) -> str:
    return _SHADOWS.get(action, "") if shadows else ""


def _rules(
    policies: Sequence[Policy], said: Access, *, requests: bool
) -> tuple[rbac_v3.RBAC | None, rbac_v3.RBAC | None]:
    """The rules that refuse, and those that only tell what they would have done; None without any policy."""
    enforced = [policy for policy in policies if not policy.dry_run]
    told = [policy for policy in policies if policy.dry_run and policy.action != "CUSTOM"]
    return _rbac(enforced, said, requests), _rbac(told, said, requests)


def _rbac(policies: Sequence[Policy], said: Access, requests: bool) -> rbac_v3.RBAC | None:
    if not policies:
        return None
    made = rbac_v3.RBAC(action=_MEANING[policies[0].action])
    for policy in policies:
        ending = _UNDECIDED if policy.action == "CUSTOM" else ""
        strict = policy.action == "ALLOW"
        names = Names(policy.key.namespace, said.domains)
        for number, rule in enumerate(policy.rules):
            found = access_conditions.policy(rule, names, requests=requests, strict=strict)
            if found is not None:
                made.policies[_name(policy.key, number) + ending].CopyFrom(found)
        if not policy.rules:
            made.policies[_name(policy.key, 0) + ending].CopyFrom(access_conditions.never())
    return made


def _name(key: Key, rule: int) -> str:
    return f"ns[{key.namespace}]-policy[{key.name}]-rule[{rule}]"

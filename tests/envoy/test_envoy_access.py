"""AuthorizationPolicies -> who gets through the handshake, and what is asked of whom."""

from typing import Any

import pytest
from envoy.config.core.v3 import extension_pb2 as extension_v3
from envoy.config.listener.v3 import listener_pb2 as listener_v3
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as rbac_v3
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2 as tls_v3
from google.protobuf.json_format import MessageToDict
from ruamel.yaml import YAML

from isthmus.api.codec import decode
from isthmus.api.meta import Key
from isthmus.envoy.access import Access
from isthmus.envoy.access_callers import NOBODY, callers
from isthmus.envoy.access_names import Names
from isthmus.envoy.resource import EXTENSION, LISTENER
from isthmus.mesh.analyse import problems_of
from isthmus.mesh.authorization import Policy
from makers import BOOKINFO, World

DOMAINS = ("cluster.local", "old.test")
DENY, ALLOW = "isthmus.access.deny", "isthmus.access.allow"


def policy(spec: str, name: str = "p", more: str = "") -> str:
    return (
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n"
        f"metadata: {{name: {name}, namespace: bookinfo{more}}}\nspec: {spec}\n"
    )


def slot(world: World, name: str, proxy: str = "reviews-1") -> dict[str, Any]:
    found = world.manifest(EXTENSION, "bookinfo", proxy)[name]
    message, rbac = extension_v3.TypedExtensionConfig.FromString(found.body), rbac_v3.RBAC()
    assert message.name == name
    assert message.typed_config.Unpack(rbac)
    return MessageToDict(rbac)


def let_in(rules: str, port: int = 3306) -> list[str] | None:
    """The ids that the handshake lets in: `=exact`, `prefix…` or a regular expression."""
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "p"},
    }

    obj, problems = decode({**document, "spec": {"rules": YAML(typ="safe", pure=True).load(rules)}})
    assert obj is not None, problems
    said = Policy(Key("AuthorizationPolicy", "shop", "p"), "ALLOW", obj.spec.rules)  # type: ignore[attr-defined]
    found = callers(Access((said,), DOMAINS), port)
    if found is None:
        return None
    return sorted(
        f"={m.exact}" if m.exact else f"{m.prefix}…" if m.prefix else m.safe_regex.regex for m in found
    )


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        ("[{}]", None),
        ("[]", ["=spiffe://"]),
        ("[{to: [{operation: {methods: [GET]}}]}]", ["=spiffe://"]),
        ("[{from: [{source: {ipBlocks: [10.0.0.1]}}]}]", None),
        (
            "[{from: [{source: {principals: [cluster.local/ns/a/sa/b]}}]}]",
            ["=spiffe://cluster.local/ns/a/sa/b", "=spiffe://old.test/ns/a/sa/b"],
        ),
        ("[{from: [{source: {principals: [other.test/ns/a/sa/b]}}]}]", ["=spiffe://"]),
        ("[{from: [{source: {principals: ['*']}}]}]", ["spiffe://cluster.local/…", "spiffe://old.test/…"]),
        (
            "[{from: [{source: {principals: ['*/ns/a/sa/b']}}]}]",
            [
                "=spiffe://cluster.local/ns/a/sa/b",
                "=spiffe://old.test/ns/a/sa/b",
                r"spiffe://(cluster\.local)/.*/ns/a/sa/b",
                r"spiffe://(old\.test)/.*/ns/a/sa/b",
            ],
        ),
        (
            "[{from: [{source: {serviceAccounts: [b]}}]}]",
            [r"spiffe://(cluster\.local|old\.test)/ns/shop/(.+/|)sa/b(/.+)?"],
        ),
        (
            "[{from: [{source: {namespaces: ['a*']}}]}]",
            [r"spiffe://(cluster\.local|old\.test)/ns/a.*/.*"],
        ),
        # one rule of another port does not matter, one without callers does
        (
            "[{to: [{operation: {ports: ['80']}}]}, {from: [{source: {namespaces: [a]}}]}]",
            [r"spiffe://(cluster\.local|old\.test)/ns/a/.*"],
        ),
        ("[{to: [{operation: {notPorts: ['80']}}]}, {from: [{source: {namespaces: [a]}}]}]", None),
        (
            "[{when: [{key: source.namespace, values: [a]}, {key: destination.port, values: ['3306']}]}]",
            [r"spiffe://(cluster\.local|old\.test)/ns/a/.*"],
        ),
        ("[{when: [{key: source.namespace, notValues: [a]}]}]", None),
    ],
)
def test_whom_the_handshake_lets_in(rules: str, wanted: list[str] | None) -> None:
    assert let_in(rules) == wanted


def test_without_allow_anybody_may_connect() -> None:
    assert callers(Access((), DOMAINS), 1) is None
    assert callers(Access((Policy(Key("AuthorizationPolicy", "a", "b"), "DENY", ()),), DOMAINS), 1) is None
    dry = Policy(Key("AuthorizationPolicy", "a", "b"), "ALLOW", (), dry_run=True)
    assert callers(Access((dry,), DOMAINS), 1) is None
    assert NOBODY.exact == "spiffe://"


def test_trust_domains_and_their_aliases_are_one() -> None:
    names = Names("shop", ("new.test", "old.test"))
    both = ("new.test/ns/a/sa/b", "old.test/ns/a/sa/b")
    assert names.principals(["old.test/ns/a/sa/b"]) == both
    assert names.principals(["cluster.local/ns/a/sa/b"]) == both
    assert names.principals(["*/ns/a/sa/b", "other.test/ns/a/sa/b"]) == (
        "*/ns/a/sa/b",
        "other.test/ns/a/sa/b",
    )
    assert names.principals(["*.test/ns/a/sa/b"]) == ("*.test/ns/a/sa/b",)
    assert names.principals(["new*/ns/a/sa/b"]) == both
    assert names.trust_domains(["old.test", "x"]) == ("new.test", "old.test", "x")


def test_slots_are_always_there_and_refuse_nothing_without_policies() -> None:
    world = World().apply(BOOKINFO)
    assert (slot(world, DENY), slot(world, ALLOW)) == ({}, {})


def test_policies_of_requests_change_no_listener() -> None:
    world = World().apply(BOOKINFO)
    before = world.manifest(LISTENER, "bookinfo", "reviews-1")["virtualInbound"].version
    world.apply(policy("{selector: {matchLabels: {app: reviews}}, action: DENY, rules: [{}]}"))
    assert slot(world, DENY)["rules"]["action"] == "DENY"
    listener = listener_v3.Listener.FromString(
        world.manifest(LISTENER, "bookinfo", "reviews-1")["virtualInbound"].body
    )
    http = [c for c in listener.filter_chains if c.name.endswith("_9080")]
    world.delete("AuthorizationPolicy", "bookinfo", "p")
    after = world.manifest(LISTENER, "bookinfo", "reviews-1")["virtualInbound"]
    assert after.version == before
    unruled = [
        c for c in listener_v3.Listener.FromString(after.body).filter_chains if c.name.endswith("_9080")
    ]
    assert http == unruled


def test_only_a_servers_named_callers_get_through_the_handshake() -> None:
    world = World().apply(BOOKINFO, policy("{rules: [{from: [{source: {namespaces: [a]}}]}]}"))
    listener = listener_v3.Listener.FromString(
        world.manifest(LISTENER, "bookinfo", "mysqldb-1")["virtualInbound"].body
    )
    contexts = []
    for chain in listener.filter_chains:
        if chain.filter_chain_match.destination_port.value == 3306 and chain.HasField("transport_socket"):
            context = tls_v3.DownstreamTlsContext()
            assert chain.transport_socket.typed_config.Unpack(context)
            contexts.append(str(context))
    assert any("/ns/a/" in context for context in contexts)


def test_custom_and_deny_share_a_slot_and_dry_runs_only_tell() -> None:
    world = World().apply(
        BOOKINFO,
        policy(
            "{action: CUSTOM, provider: {name: x}, rules: [{to: [{operation: {paths: [/a]}}]}]}", "custom"
        ),
        policy("{action: DENY, rules: [{}]}", "trial", ', annotations: {istio.io/dry-run: "true"}'),
        policy("{action: AUDIT, rules: [{}]}", "audit"),
    )
    found = slot(world, DENY)
    assert list(found["rules"]["policies"]) == [
        "ns[bookinfo]-policy[custom]-rule[0]-deny-due-to-bad-CUSTOM-action"
    ]
    assert list(found["shadowRules"]["policies"]) == ["ns[bookinfo]-policy[trial]-rule[0]"]
    assert found["shadowRulesStatPrefix"] == "istio_dry_run_deny_"
    assert slot(world, ALLOW) == {}


def test_allow_without_rules_lets_nothing_through() -> None:
    found = slot(World().apply(BOOKINFO, policy("{}")), ALLOW)
    (never,) = found["rules"]["policies"].values()
    assert never == {"permissions": [{"notRule": {"any": True}}], "principals": [{"notId": {"any": True}}]}


def test_what_authors_should_know() -> None:
    world = World().apply(
        BOOKINFO,
        policy("{selector: {matchLabels: {app: nothing}}}", "nobody"),
        policy("{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g}]}", "gateway"),
        policy(
            "{selector: {matchLabels: {app: mysqldb}}, rules: [{to: [{operation: {methods: [GET]}}]}]}",
            "mute",
        ),
        policy(
            "{selector: {matchLabels: {app: mysqldb}}, "
            "rules: [{to: [{operation: {methods: [GET], ports: ['9080']}}]}]}",
            "heard",
        ),
    )

    def told(name: str) -> list[str]:
        found = world.engine(problems_of, Key("AuthorizationPolicy", "bookinfo", name))
        return [problem.field for problem in found]

    assert told("nobody") == ["spec.selector"]
    assert told("gateway") == ["spec.targetRefs"]
    assert told("mute") == ["spec.rules[0]"]
    assert told("heard") == []

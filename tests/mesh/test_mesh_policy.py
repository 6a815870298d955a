"""PeerAuthentications -> what a workload's proxy takes."""

import pytest

from isthmus.api.meta import Key
from isthmus.mesh.model import MtlsMode
from isthmus.mesh.policy import server_mtls
from makers import World, workload

DB = Key("WorkloadEntry", "bookinfo", "db-1")


def _rule(name: str, mode: str, *, namespace: str = "bookinfo", app: str = "", ports: str = "") -> str:
    selector = f"selector: {{matchLabels: {{app: {app}}}}}, " if app else ""
    return (
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\n"
        f"spec: {{{selector}mtls: {{mode: {mode}}}, portLevelMtls: {{{ports}}}}}\n"
    )


@pytest.mark.parametrize(
    ("rules", "mode"),
    [
        ([], "PERMISSIVE"),
        ([_rule("a", "STRICT", namespace="isthmus-system")], "STRICT"),
        ([_rule("a", "STRICT", namespace="other")], "PERMISSIVE"),
        ([_rule("a", "STRICT", namespace="isthmus-system"), _rule("b", "DISABLE")], "DISABLE"),
        ([_rule("a", "DISABLE"), _rule("b", "STRICT", app="db")], "STRICT"),
        ([_rule("a", "DISABLE"), _rule("b", "UNSET", app="db")], "DISABLE"),
        ([_rule("a", "STRICT", app="web")], "PERMISSIVE"),
        ([_rule("a", "STRICT", namespace="isthmus-system", app="db")], "PERMISSIVE"),
        ([_rule("a", "STRICT"), _rule("b", "DISABLE")], "STRICT"),
    ],
)
def test_the_nearest_rule_counts(rules: list[str], mode: str) -> None:
    world = World().apply(workload("db-1", "10.0.0.1"), *rules)
    assert world.engine(server_mtls, DB).mode is MtlsMode(mode)


def test_ports_have_modes_of_their_own() -> None:
    ports = '"3306": {mode: STRICT}, "80": {mode: UNSET}'
    world = World().apply(workload("db-1", "10.0.0.1"), _rule("a", "DISABLE", app="db", ports=ports))
    found = world.engine(server_mtls, DB)
    assert [found.at(port) for port in (3306, 80, 81)] == [
        MtlsMode.STRICT,
        MtlsMode.DISABLE,
        MtlsMode.DISABLE,
    ]

"""Sidecars, mTLS rules and mesh settings that count for nobody."""

import pytest

from isthmus.api.meta import Key
from isthmus.mesh.analyse import problems
from makers import BOOKINFO, World


def _texts(key: Key, *objects: str) -> list[str]:
    return [str(problem) for problem in World().apply(BOOKINFO, *objects).engine(problems).get(key, ())]


def _sidecar(spec: str, name: str = "x") -> str:
    return (
        "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\n"
        f"metadata: {{name: {name}, namespace: bookinfo}}\nspec: {spec}\n"
    )


def _rule(spec: str, namespace: str = "bookinfo", name: str = "x") -> str:
    return (
        "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
    )


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("{egress: [{hosts: ['./*']}]}", ""),
        ("{egress: [{hosts: ['./reviews.bookinfo.svc.cluster.local']}]}", ""),
        ("{egress: [{hosts: ['other/*']}]}", ""),
        (
            "{egress: [{hosts: ['./reviews']}]}",
            "no service is named by ./reviews (did you mean reviews.bookinfo.svc.cluster.local?)",
        ),
        ("{workloadSelector: {labels: {app: nobody}}}", "has the labels app=nobody"),
        (
            "{ingress: [{port: {number: 80, protocol: TCP, name: a}}, {port: {number: 80, name: b}}]}",
            "port 80 is taken by spec.ingress[0]",
        ),
    ],
)
def test_sidecars(spec: str, words: str) -> None:
    found = _texts(Key("Sidecar", "bookinfo", "x"), _sidecar(spec))
    assert any(words in text for text in found) if words else found == []


def test_the_older_sidecar_of_a_namespace_counts() -> None:
    found = _texts(Key("Sidecar", "bookinfo", "x"), _sidecar("{}", "a"), _sidecar("{}"))
    assert "Sidecar/bookinfo/a is older" in found[0]


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ([_rule("{mtls: {mode: STRICT}}")], ""),
        ([_rule("{selector: {matchLabels: {app: reviews}}, mtls: {mode: STRICT}}")], ""),
        ([_rule("{selector: {matchLabels: {app: nobody}}}")], "has the labels app=nobody"),
        ([_rule("{mtls: {mode: STRICT}}", name="a"), _rule("{}")], "PeerAuthentication/bookinfo/a is older"),
    ],
)
def test_mtls_rules(rules: list[str], words: str) -> None:
    found = _texts(Key("PeerAuthentication", "bookinfo", "x"), *rules)
    assert any(words in text for text in found) if words else found == []


def test_selectors_in_the_root_namespace() -> None:
    rule = _rule("{selector: {matchLabels: {app: reviews}}}", "isthmus-system")
    assert "counts for nobody" in _texts(Key("PeerAuthentication", "isthmus-system", "x"), rule)[0]


def test_only_one_mesh_config_counts() -> None:
    other = (
        "apiVersion: isthmus.dev/v1alpha1\nkind: MeshConfig\n"
        "metadata: {name: x, namespace: bookinfo}\nspec: {}\n"
    )
    found = _texts(Key("MeshConfig", "bookinfo", "x"), other)
    assert "only the MeshConfig default of namespace isthmus-system counts" in found[0]

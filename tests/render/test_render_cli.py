"""`isthmus render` as people call it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from isthmus.cli.main import main
from makers import BOOKINFO, service, workload

WORLD = re.sub(r"  clusterIPs: \[(\S+),", r"  clusterIP: \1\n\g<0>", BOOKINFO)
DESCRIBED = ("--type", "sidecar", "--namespace", "bookinfo", "--labels", "app=reviews", "--ip", "10.0.0.9")


def render(folder: Path, *arguments: str, **texts: str) -> Result:
    """Renders a folder with these files in it."""
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return CliRunner().invoke(main, ["render", "-f", str(folder), *arguments])


def names(result: Result, section: str) -> list[str]:
    """The names of what was printed."""
    assert result.exit_code == 0, result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)[section]
    return [each.get("name") or each["cluster_name"] for each in found]


def test_named_and_described_proxy_see_the_same_mesh(tmp_path: Path) -> None:
    named = render(tmp_path, "--proxy", "workloadentry/bookinfo/reviews-1", all=WORLD)
    described = render(tmp_path, *DESCRIBED)
    for section in ("listeners", "clusters", "routes", "endpoints"):
        assert names(named, section) == names(described, section) == sorted(names(named, section))
    assert "outbound|9080||ratings.bookinfo.svc.cluster.local" in names(named, "clusters")
    assert "inbound|9080||" in names(described, "clusters")


def test_described_proxy_is_nobodys_endpoint(tmp_path: Path) -> None:
    assert "10.0.0.9" not in render(tmp_path, *DESCRIBED, all=WORLD.replace("10.0.0.9", "10.0.9.9")).stdout


def test_same_bytes_whatever_the_order_of_files(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    a, b = service("a"), service("b") + workload("b-1", "10.0.0.1")
    assert (
        render(tmp_path / "one", *DESCRIBED, x=a, y=b).stdout
        == render(tmp_path / "two", *DESCRIBED, x=b, y=a).stdout
    )


def test_envoys_own_json(tmp_path: Path) -> None:
    found = json.loads(render(tmp_path, *DESCRIBED, all=WORLD).stdout)
    outbound = next(each for each in found["listeners"] if each["name"] == "virtualOutbound")
    assert outbound["address"]["socket_address"] == {"address": "0.0.0.0", "port_value": 15001}
    assert outbound["use_original_dst"] is True
    assert outbound["traffic_direction"] == "OUTBOUND"


def test_virtual_addresses_are_given_as_by_the_server(tmp_path: Path) -> None:
    text = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db}
spec: {hosts: [db.example], resolution: DNS, ports: [{number: 3306, name: mysql, protocol: TCP}]}
"""
    listeners = names(render(tmp_path, "--type", "sidecar", all=text), "listeners")
    assert any(name.startswith("240.240.") and name.endswith("_3306") for name in listeners)


def test_standard_input_and_several_paths(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(service("a"))
    (tmp_path / "b.yaml").write_text(service("b"))
    arguments = ["render", "-f", str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml"), "-f", "-", *DESCRIBED]
    found = CliRunner().invoke(main, arguments, input=service("c"))
    hosts = [name.split("|")[3] for name in names(found, "clusters") if name.startswith("outbound|")]
    assert hosts == [f"{name}.bookinfo.svc.cluster.local" for name in "abc"]


def test_all_mistakes_are_told(tmp_path: Path) -> None:
    faulty = (
        "a: [\n---\n"
        + service("good")
        + service("bad").replace("port: 9080", "port: x")
        + service("odd").replace("spec:", "spec:\n  selectors: {}")
    )
    found = render(tmp_path, *DESCRIBED, all=faulty)
    assert found.exit_code == 1
    text = found.stderr
    assert "not YAML" in text
    assert "Service/bad: spec.ports[0].port" in text
    assert "Service/odd: spec.selectors: unknown field" in text
    assert "good.bookinfo" in found.stdout
    assert "odd.bookinfo" in found.stdout


def test_kinds_that_the_mesh_does_not_read_are_left_out(tmp_path: Path) -> None:
    deployment = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n"
    found = render(tmp_path, *DESCRIBED, all=service("a") + deployment)
    assert found.exit_code == 0
    assert "warning" in found.stderr
    assert "Deployment" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--proxy"),
        (("--proxy", "workloadentry/bookinfo/nobody"), "reviews-1"),
        (("--proxy", "pod/x"), "workloadentry/NAMESPACE/NAME"),
        ((*DESCRIBED[:2], "--ip", "1.2.3"), "1.2.3"),
        ((*DESCRIBED[:2], "--labels", "x"), "name=value"),
    ],
)
def test_what_is_asked_wrongly(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    found = render(tmp_path, *arguments, all=WORLD)
    assert found.exit_code == 2
    assert said in found.stderr


def test_mesh_config(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    config = tmp_path / "mesh.yaml"
    config.write_text("outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n")
    found = render(tmp_path / "files", *DESCRIBED, "--mesh-config", str(config), all=service("a"))
    outbound = next(e for e in json.loads(found.stdout)["listeners"] if e["name"] == "virtualOutbound")
    assert "PassthroughCluster" not in json.dumps(outbound)
    config.write_text("outboundTrafficPolicy: {mode: SOMETIMES}\n")
    found = render(tmp_path / "files", *DESCRIBED, "--mesh-config", str(config))
    assert found.exit_code == 1
    assert "SOMETIMES" in found.stderr


def test_root_namespace_is_ours_where_it_is_used_and_istios_otherwise(tmp_path: Path) -> None:
    def strict(namespace: str) -> str:
        return (
            "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\n"
            f"metadata: {{name: default, namespace: {namespace}}}\nspec: {{mtls: {{mode: STRICT}}}}\n"
        )

    (tmp_path / "istio").mkdir()
    (tmp_path / "ours").mkdir()
    istio = render(tmp_path / "istio", *DESCRIBED, all=service("reviews") + strict("istio-system")).stdout
    ours = render(tmp_path / "ours", *DESCRIBED, all=service("reviews") + strict("isthmus-system")).stdout
    assert istio == ours.replace("isthmus-system", "istio-system")
    inbound = next(e for e in json.loads(istio)["listeners"] if e["name"] == "virtualInbound")
    on_port = [c for c in inbound["filter_chains"] if c["filter_chain_match"].get("destination_port") == 9080]
    assert on_port
    assert all("transport_socket" in chain for chain in on_port)


def test_described_proxy_at_the_address_of_a_workload_entry_has_its_ports(tmp_path: Path) -> None:
    entry = workload("reviews-1", "10.0.0.9", ports="http: 8088")
    found = render(tmp_path, *DESCRIBED, all=service("reviews") + entry)
    assert "inbound|8088||" in names(found, "clusters")

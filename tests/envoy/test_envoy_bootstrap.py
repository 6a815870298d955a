"""The file that Envoy starts with."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from real_envoy import CONTROL_PLANE, binary

from isthmus.envoy.bootstrap import bootstrap


def _made(*addresses: tuple[str, int]) -> dict[str, Any]:
    return bootstrap(
        node_id="sidecar~10.0.0.1~db-1.shop~shop.svc.cluster.local",
        cluster="db.shop",
        metadata={"NAMESPACE": "shop", "LABELS": {"app": "db"}},
        ads_addresses=addresses,
        control_plane_id=CONTROL_PLANE,
    )


@pytest.mark.envoy
@pytest.mark.parametrize(
    "addresses",
    [[("10.0.0.9", 15012)], [("fd00::9", 15012), ("10.0.0.9", 15012)], [("control.example.com", 15012)]],
)
def test_envoy_takes_it(tmp_path: Path, addresses: list[tuple[str, int]]) -> None:
    path = tmp_path / "bootstrap.json"
    path.write_text(json.dumps(_made(*addresses)), encoding="utf-8")
    done = subprocess.run(
        [str(binary()), "--mode", "validate", "-c", str(path), "--use-dynamic-base-id"],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr


def test_the_control_plane_must_prove_its_identity() -> None:
    control_plane, agent = _made(("10.0.0.9", 15012))["static_resources"]["clusters"]
    assert (control_plane["name"], agent["name"]) == ("xds-grpc", "sds-grpc")
    context = control_plane["transport_socket"]["typed_config"]["common_tls_context"]
    matches = context["combined_validation_context"]["default_validation_context"]
    assert matches["match_typed_subject_alt_names"] == [
        {"san_type": "URI", "matcher": {"exact": "spiffe://cluster.local/ns/isthmus-system/sa/isthmus"}}
    ]


def test_the_admin_door_is_for_its_user_only() -> None:
    pipe = _made(("10.0.0.9", 15012))["admin"]["address"]["pipe"]
    assert pipe == {"path": "/run/isthmus/envoy/admin.sock", "mode": 0o600}


def test_what_cannot_be_added_later_is_there() -> None:
    names = {extension["name"] for extension in _made(("10.0.0.9", 15012))["bootstrap_extensions"]}
    assert names == {
        "envoy.bootstrap.internal_listener",
        "envoy.bootstrap.reverse_tunnel.downstream_socket_interface",
        "envoy.bootstrap.reverse_tunnel.upstream_socket_interface",
    }

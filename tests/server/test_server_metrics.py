"""What `/metrics` says, to whom."""

import io
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from test_server_serve import MESH, isthmus

from isthmus.cli.client import Client
from whole_server import serving


def metrics(state: Path) -> dict[str, int]:
    """The numbers by name and label."""
    out = io.BytesIO()
    Client.from_kubeconfig(state / "admin.kubeconfig").download("/metrics", out)
    lines = [line for line in out.getvalue().decode().splitlines() if not line.startswith("#")]
    return {name: int(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_numbers_of_the_canary_and_of_the_streams(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with serving(state) as ready:
        assert isthmus(state, "apply", "-f", "-", text=MESH).returncode == 0
        found = metrics(state)
        assert found['isthmus_streams{role="proxy"}'] == 0
        assert found["isthmus_failed_queries_total"] == 0
        for verdict in ("accepted", "refused", "late", "unseen", "unjudged"):
            assert f'isthmus_canary_resources_total{{verdict="{verdict}"}}' in found
        states = {name: value for name, value in found.items() if name.startswith("isthmus_canary_state")}
        assert sum(states.values()) == 1
        assert ("off" in ready) == bool(states['isthmus_canary_state{state="off"}'])

        address = ready.partition("API ")[2].partition(",")[0]
        with pytest.raises(urllib.error.URLError):  # nobody reads them without showing who they are
            urllib.request.urlopen(f"{address}/metrics", timeout=60)

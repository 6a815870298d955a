"""Stock kubectl from Debian's archive, kept outside the repository and of no effect on the system.

A private list directory for apt, `apt-get download`, `dpkg -x`: nothing is installed.
"""

import os
import shutil
import subprocess
from pathlib import Path

SUITE_BY_VERSION = {"1.32": "trixie", "1.36": "sid"}
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "isthmus-test"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class Unavailable(Exception):
    """This kubectl cannot be had here; the message says why."""


def kubectl(version: str) -> Path:
    """The binary of a minor version, fetched once; Unavailable when that does not work."""
    found = _CACHE / f"kubectl-{version}" / "usr/bin/kubectl"
    if not found.exists():
        _fetch(SUITE_BY_VERSION[version], found.parents[2])
    told = subprocess.run([found, "version", "--client"], capture_output=True, text=True, check=False)
    if f"v{version}." not in told.stdout:
        raise Unavailable(f"{SUITE_BY_VERSION[version]} has moved on: {told.stdout.splitlines()[:1]}")
    return found


def _fetch(suite: str, target: Path) -> None:
    if not shutil.which("apt-get") or not Path(_KEYRING).exists():
        raise Unavailable("this machine has no apt-get with Debian's keys")
    apt = _CACHE / "apt" / suite
    for part in ("lists/partial", "cache/archives/partial"):
        (apt / part).mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    source = f"Types: deb\nURIs: http://deb.debian.org/debian\nSuites: {suite}\nComponents: main\n"
    (apt / "suite.sources").write_text(f"{source}Signed-By: {_KEYRING}\n")
    options = {
        "Dir::Etc::sourcelist": apt / "suite.sources",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": apt / "lists",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt / "cache",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root" if os.geteuid() == 0 else os.environ.get("USER", ""),
    }
    command = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    _run([*command, "update"], apt)
    _run([*command, "download", "kubectl"], apt)
    package = max(apt.glob("kubectl_*.deb"), key=lambda path: path.stat().st_mtime)
    _run(["dpkg", "-x", str(package), str(target)], apt)


def _run(command: list[str], directory: Path) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise Unavailable(f"{command[0]} {command[-1]}: {done.stderr.strip()[-300:]}")

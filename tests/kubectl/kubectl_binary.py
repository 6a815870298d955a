"""Stock kubectl from Debian's archive, kept outside the repository and of no effect on the system.

A private list directory for apt, `apt-get download`, `dpkg -x`: nothing is installed. Suites move on, so that
each is asked for the newest patch of the wanted minor version that it has.
"""

import os
import shutil
import subprocess
from pathlib import Path

SUITES_BY_VERSION = {"1.32": ("trixie", "trixie-backports"), "1.36": ("sid", "testing")}
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "isthmus-test"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


class Unavailable(Exception):
    """This kubectl cannot be had here; the message says why."""


def kubectl(version: str) -> Path:
    """The binary of a minor version, fetched once; Unavailable when that does not work."""
    found = _CACHE / f"kubectl-{version}" / "usr/bin/kubectl"
    if not found.exists():
        _fetch(version, found.parents[2])
    told = subprocess.run([found, "version", "--client"], capture_output=True, text=True, check=False)
    if f"v{version}." not in told.stdout:
        raise Unavailable(f"{found} is another version, delete it: {(told.stdout + told.stderr).strip()}")
    return found


def newest(policy: str, version: str) -> str:
    """The newest package of a minor version in the words of `apt-cache madison`; Unavailable without one."""
    every = [line.split("|")[1].strip() for line in policy.splitlines() if line.count("|") == 2]
    for package in every:
        if package.startswith(f"{version}."):
            return package
    suites, there = ", ".join(SUITES_BY_VERSION[version]), ", ".join(every) or "nothing"
    raise Unavailable(f"no kubectl {version} in {suites}, only {there}: name a suite that has it")


def _fetch(version: str, target: Path) -> None:
    if not shutil.which("apt-get") or not Path(_KEYRING).exists():
        raise Unavailable("this machine has no apt-get with Debian's keys")
    apt = _CACHE / "apt" / version
    for part in ("lists/partial", "cache/archives/partial"):
        (apt / part).mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    suites = " ".join(SUITES_BY_VERSION[version])
    source = f"Types: deb\nURIs: http://deb.debian.org/debian\nSuites: {suites}\nComponents: main\n"
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
    told = [f"-o{name}={value}" for name, value in options.items()]
    _run(["apt-get", "-qq", *told, "update"], apt)
    package = newest(_run(["apt-cache", *told, "madison", "kubectl"], apt), version)
    _run(["apt-get", "-qq", *told, "download", f"kubectl={package}"], apt)
    file = max(apt.glob("kubectl_*.deb"), key=lambda path: path.stat().st_mtime)
    _run(["dpkg", "-x", str(file), str(target)], apt)


def _run(command: list[str], directory: Path) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise Unavailable(f"{command[0]} {command[-1]}: {done.stderr.strip()[-300:]}")
    return done.stdout

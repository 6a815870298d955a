"""The way in for people: `admin.kubeconfig` (0600) with a bearer token, of which the server keeps the hash.

first start     a new token, its hash in users.json, the token in admin.kubeconfig
later starts    the same token; the file follows the server's address
file deleted    a new token; the old one is worth nothing from then on
"""

import io
import logging
import secrets
from base64 import b64encode
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from isthmus.identity.keys import write_durably
from isthmus.server.authentication import token_hash
from isthmus.server.roles import Grant
from isthmus.server.users import Account, Users

KUBECONFIG = "admin.kubeconfig"
_NAME = "isthmus"
_USER = "admin"

_log = logging.getLogger(__name__)


def admin_access(directory: Path, *, server: str, roots: str) -> Users:
    """Makes `admin.kubeconfig` point at `server` (a URL); returns all users."""
    users = Users(directory)
    try:
        _bring_up_to_date(directory, users, server=server, roots=roots)
    except OSError as error:
        # proxies need the control plane more than people need this file
        _log.error("%s not brought up to date, start again when it can be: %s", directory / KUBECONFIG, error)
    return users


def _bring_up_to_date(directory: Path, users: Users, *, server: str, roots: str) -> None:
    token = _kept_token(directory, users)
    if token is None:
        token = secrets.token_urlsafe(32)
        users.put(Account(_USER, (Grant("admin"),), token=token_hash(token)))
    text = _yaml(kubeconfig(server=server, roots=roots, token=token))
    path = directory / KUBECONFIG
    if not path.exists() or path.read_text() != text:
        write_durably(path, text.encode(), 0o600)


def kubeconfig(*, server: str, roots: str, token: str) -> dict[str, Any]:
    """A kubeconfig document (https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/)."""
    authority = b64encode(roots.encode()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": _NAME, "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": _USER, "user": {"token": token}}],
        "contexts": [{"name": _NAME, "context": {"cluster": _NAME, "user": _USER}}],
        "current-context": _NAME,
    }


def _kept_token(directory: Path, users: Users) -> str | None:
    """The token of the file, when it is one that this server gave."""
    try:
        document = YAML(typ="safe", pure=True).load((directory / KUBECONFIG).read_text())
        token = document["users"][0]["user"]["token"]
    except (OSError, ValueError, YAMLError, LookupError, TypeError):
        return None
    return token if isinstance(token, str) and users.knows(token) else None


def _yaml(document: dict[str, Any]) -> str:
    out = io.StringIO()
    yaml = YAML()
    yaml.width = 1 << 20
    yaml.dump(document, out)
    return out.getvalue()

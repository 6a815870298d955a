"""A kubeconfig -> requests to the API, answers as plain documents, refusals as typed errors."""

import base64
import binascii
import http.client
import json
import os
import ssl
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlencode, urlsplit

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from isthmus.api.kinds import Kind

Document = dict[str, Any]
_TIMEOUT_S = 30.0
_JSON = "application/json"
_TABLE = f"{_JSON};as=Table;v=v1;g=meta.k8s.io"


class ClientError(Exception):
    """A request that did not get what it asked for; the message is for people."""


class KubeconfigError(ClientError):
    """The kubeconfig is missing or cannot be used."""


class Unreachable(ClientError):
    """The server did not answer, or is not the one that the kubeconfig means."""


class Refused(ClientError):
    """The server answered with a `Status` that says no."""

    def __init__(self, code: int, status: Mapping[str, Any]) -> None:
        super().__init__(str(status.get("message") or f"the server answered {code}"))
        self.code = code
        self.reason = str(status.get("reason", ""))
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answered, with its warnings."""

    document: Document
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Client:
    """Requests to one API server."""

    host: str
    port: int
    context: ssl.SSLContext
    token: str = field(repr=False)
    """Empty: the certificate in `context` says who asks."""
    authority: str = field(default="", repr=False)
    """The certificates (PEM) that the server is known by."""

    @classmethod
    def from_kubeconfig(cls, path: Path) -> "Client":
        """The client for a kubeconfig's current context; KubeconfigError when it cannot be used."""
        document = _kubeconfig(path)
        try:
            context = _entry(document, "contexts", document["current-context"])["context"]
            cluster = _entry(document, "clusters", context["cluster"])["cluster"]
            user = _entry(document, "users", context["user"])["user"]
            server = urlsplit(cluster["server"])
            authority = base64.b64decode(cluster["certificate-authority-data"], validate=True).decode()
            port = server.port or 443
        except (LookupError, TypeError, ValueError, binascii.Error) as error:
            raise KubeconfigError(
                f"{path}: {error!r} is missing or wrong; isthmus serve writes a good one into its --state-dir"
            ) from None
        if server.scheme != "https" or not server.hostname:
            raise KubeconfigError(f"{path}: server {cluster['server']!r} is not https://HOST:PORT")
        token, certificate = user.get("token"), user.get("client-certificate-data")
        if not (isinstance(token, str) and token) and not certificate:
            raise KubeconfigError(
                f"{path}: user {context['user']} has no token or client-certificate-data; "
                "others are not supported"
            )
        try:
            trusting = _trusting(authority)
            if certificate:
                _show(trusting, certificate, user.get("client-key-data"))
            return cls(server.hostname, port, trusting, token or "", authority)
        except (ssl.SSLError, ValueError) as error:
            raise KubeconfigError(
                f"{path}: certificate-authority-data holds no certificate: {error}"
            ) from None

    def get(self, kind: Kind, namespace: str, name: str) -> Document:
        """One object."""
        return self.request("GET", _path(kind, namespace, name)).document

    def listing(self, kind: Kind, namespace: str | None, query: Mapping[str, str]) -> Document:
        """The list of a kind's objects in a namespace, or (None) in all."""
        return self.request("GET", _path(kind, namespace or ""), query=query).document

    def table(self, kind: Kind, namespace: str | None, name: str, query: Mapping[str, str]) -> Document:
        """The objects of a kind, or (with a name) one of them, as a table with the objects in its rows."""
        path, wanted = _path(kind, namespace or "", name), {**query, "includeObject": "Object"}
        return self.request("GET", path, query=wanted, accept=_TABLE).document

    def watch(
        self, kind: Kind, namespace: str | None, query: Mapping[str, str], *, table: bool
    ) -> Iterator[Document]:
        """Every change of a kind's objects, as the server tells it; ends when the server ends it."""
        wanted = {**query, "watch": "true"} | ({"includeObject": "Object"} if table else {})
        path = f"{_path(kind, namespace or '')}?{urlencode(wanted)}"
        headers = {"Accept": _TABLE if table else _JSON}
        with self._asked("GET", path, None, headers, timeout_s=None) as response:
            if response.status >= 400:
                raise Refused(response.status, self._document(response.read(), response.status))
            while line := response.readline():
                yield json.loads(line)

    def create(self, kind: Kind, namespace: str, document: Document) -> Answer:
        """Makes one object."""
        return self.request("POST", _path(kind, namespace), document)

    def replace(self, kind: Kind, namespace: str, name: str, document: Document) -> Answer:
        """Puts one object in place of the present one, in the version that the document is written in."""
        version = str(document.get("apiVersion", "")).rpartition("/")[2]
        path = _path(kind, namespace, name, version if version in kind.versions else "")
        return self.request("PUT", path, document, {"fieldValidation": "Strict"})

    def delete(self, kind: Kind, namespace: str, name: str) -> Answer:
        """Deletes one object."""
        return self.request("DELETE", _path(kind, namespace, name))

    def apply(self, objects: Sequence[Document], *, dry_run: bool = False) -> Sequence[Document]:
        """Applies all objects or none; a result for each, in order."""
        body = {"objects": [*objects], "dryRun": dry_run}
        answer = self.request("POST", "/apis/isthmus.dev/v1alpha1/apply", body)
        results: Sequence[Document] = answer.document["results"]
        return results

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        *,
        media_type: str = _JSON,
        accept: str = _JSON,
    ) -> Answer:
        """One request; Refused or Unreachable when it does not succeed."""
        headers = {"Accept": accept} | ({"Content-Type": media_type} if body is not None else {})
        raw_body = None if body is None else json.dumps(body)
        with self._asked(
            method, f"{path}?{urlencode(query)}" if query else path, raw_body, headers
        ) as response:
            raw = response.read()
        document = self._document(raw, response.status)
        if response.status >= 400:
            raise Refused(response.status, document)
        return Answer(document, tuple(_warnings(response.headers.get_all("Warning") or ())))

    def download(self, path: str, out: IO[bytes]) -> int:
        """Copies what the server has at the path into a file; returns its size."""
        with self._asked("GET", path, None, {"Accept": "*/*"}) as response:
            if response.status >= 400:
                raise Refused(response.status, self._document(response.read(), response.status))
            size = 0
            while chunk := response.read(1 << 20):
                size += out.write(chunk)
            return size

    @contextmanager
    def _asked(
        self,
        method: str,
        url: str,
        body: str | None,
        headers: Mapping[str, str],
        *,
        timeout_s: float | None = _TIMEOUT_S,
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPSConnection(
            self.host, self.port, timeout=timeout_s, context=self.context
        )
        sent = {"User-Agent": "isthmus", **headers}
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        try:
            connection.request(method, url, body, sent)
            yield connection.getresponse()
        except ssl.SSLCertVerificationError as error:
            raise Unreachable(
                f"{self._server}: the kubeconfig does not trust its certificate ({error.verify_message}); "
                "take the kubeconfig of this server's --state-dir"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(
                f"{self._server} does not answer: {error}; is isthmus serve running there?"
            ) from None
        finally:
            connection.close()

    @property
    def _server(self) -> str:
        return (
            f"https://[{self.host}]:{self.port}" if ":" in self.host else f"https://{self.host}:{self.port}"
        )

    def _document(self, raw: bytes, code: int) -> Document:
        try:
            document = json.loads(raw)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise Unreachable(f"{self._server} answered {code} and no JSON: is it Isthmus' API?")
        return document


def _trusting(authority: str) -> ssl.SSLContext:
    # not create_default_context: given an empty text it would trust every authority of the system
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority)
    return context


def _show(context: ssl.SSLContext, certificate: str, key: Any) -> None:
    """Makes connections show a certificate (base64 of PEM, as its key)."""
    both = b"".join(base64.b64decode(str(part), validate=True) for part in (certificate, key))
    # the ssl module takes keys from files only
    with tempfile.NamedTemporaryFile() as file:
        file.write(both)
        file.flush()
        context.load_cert_chain(file.name)


def kubeconfig_path(given: str | None) -> Path:
    """The kubeconfig to use: the given one, $ISTHMUS_KUBECONFIG, or ./admin.kubeconfig."""
    return Path(given or os.environ.get("ISTHMUS_KUBECONFIG") or "admin.kubeconfig")


def _kubeconfig(path: Path) -> Document:
    try:
        document = YAML(typ="safe", pure=True).load(path.read_text())
    except FileNotFoundError:
        raise KubeconfigError(
            f"{path} does not exist: give --kubeconfig or set ISTHMUS_KUBECONFIG to the admin.kubeconfig "
            "that isthmus serve wrote into its --state-dir"
        ) from None
    except OSError as error:
        raise KubeconfigError(f"{path}: {error.strerror}") from None
    except (YAMLError, ValueError) as error:
        raise KubeconfigError(f"{path} is not YAML: {error}") from None
    if not isinstance(document, dict):
        raise KubeconfigError(f"{path} is not a kubeconfig")
    return document


def _entry(document: Document, section: str, name: str) -> Document:
    for entry in document[section]:
        if entry["name"] == name:
            found: Document = entry
            return found
    raise KeyError(f"{section}: {name}")


def _path(kind: Kind, namespace: str, name: str = "", version: str = "") -> str:
    served = version or kind.versions[0]
    base = f"/apis/{kind.group}/{served}" if kind.group else f"/api/{served}"
    if kind.namespaced and namespace:
        base += f"/namespaces/{quote(namespace, safe='')}"
    base += f"/{kind.plural}"
    return f"{base}/{quote(name, safe='')}" if name else base


def _warnings(headers: Sequence[str]) -> Iterator[str]:
    for header in headers:
        _, _, quoted = header.partition('"')
        yield quoted.removesuffix('"').replace('\\"', '"').replace("\\\\", "\\")

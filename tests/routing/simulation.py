"""Rendered Envoy configuration + one call -> where it ends: listener, chain, route, cluster, or an error.

The call is taken through the same decisions, in the same order, that Envoy takes:

    address, port --listener--> listener filters say protocol and ALPN --filter chain (Envoy's sieve)-->
    TLS fits? --HTTP--> virtual host --> route --> cluster          --TCP--> cluster

Calls and results have the shape of `pilot/pkg/simulation` in Istio; errors have its names.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Config = Mapping[str, Any]
"""A message of Envoy in its JSON form, with original field names."""

NO_LISTENER = "ErrNoListener"
NO_FILTER_CHAIN = "ErrNoFilterChain"
SEVERAL_FILTER_CHAINS = "ErrMultipleFilterChain"
NO_VIRTUAL_HOST = "ErrNoVirtualHost"
NO_ROUTE = "ErrNoRoute"
TLS_REDIRECT = "ErrTLSRedirect"
PROTOCOL = "ErrProtocolError"
TLS = "ErrTLSError"
MTLS = "ErrMTLSError"

_WILDCARDS = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True)
class Call:
    """One call, with everything that a case leaves out filled in."""

    address: str
    port: int
    path: str
    protocol: str
    """http, http2, tcp, or empty."""
    tls: str
    """plaintext, tls or mtls."""
    alpn: str
    sni: str
    host: str
    headers: Mapping[str, str]
    mode: str
    """inbound: captured on its way in; otherwise what a program or a gateway's client dials."""
    mtls_secret: str

    @classmethod
    def of(cls, case: Mapping[str, Any]) -> "Call":
        """The call of a case."""
        protocol, tls = case.get("Protocol") or "", case.get("TLS") or "plaintext"
        host, alpn = case.get("HostHeader") or "", case.get("Alpn") or ""
        if alpn and tls == "plaintext":
            raise ValueError("a plaintext call has no ALPN")
        if not alpn and tls == "mtls":
            alpn = {"http": "istio-http/1.1", "http2": "istio-h2"}.get(protocol, "istio")
        if not alpn and tls == "tls":
            alpn = {"http": "http/1.1", "http2": "h2"}.get(protocol, "")
        headers = {name.lower(): ",".join(values) for name, values in (case.get("Headers") or {}).items()}
        return cls(
            address=case.get("Address") or "1.3.3.7",
            port=case.get("Port") or 0,
            path=case.get("Path") or "/",
            protocol=protocol,
            tls=tls,
            alpn=alpn,
            sni=case.get("Sni") or (host if tls == "tls" else ""),
            host=host or headers.pop("host", ""),
            headers=headers,
            mode=case.get("CallMode") or "outbound",
            mtls_secret=case.get("MtlsSecretConfigName") or "default",
        )


@dataclass(slots=True)
class Result:
    """Where a call ended; what it never reached is empty. Fields stand in the order of the decisions."""

    ListenerMatched: str = ""
    FilterChainMatched: str = ""
    RouteConfigMatched: str = ""
    VirtualHostMatched: str = ""
    RouteMatched: str = ""
    ClusterMatched: str = ""
    Error: str = ""
    weighted: dict[str, int] = field(default_factory=dict)
    """Shares by cluster, where a route has several."""


def simulate(rendered: Mapping[str, Sequence[Config]], call: Call) -> Result:
    """Where the call ends under the rendered configuration."""
    result = Result()
    listener = _listener(rendered["listeners"], call)
    if listener is None:
        result.Error = NO_LISTENER
        return result
    result.ListenerMatched = listener["name"]
    chain = _filter_chain(listener, call)
    if isinstance(chain, str):
        result.Error = chain
        return result
    result.FilterChainMatched = chain.get("name", "")
    if error := _tls_error(chain, call):
        result.Error = error
    elif (http := _network_filter(chain, "HttpConnectionManager")) is not None:
        _http(http, chain, call, {r["name"]: r for r in rendered["routes"]}, result)
    elif (tcp := _network_filter(chain, "TcpProxy")) is not None:
        result.ClusterMatched = tcp.get("cluster", "")
        result.weighted = _shares(tcp)
    return result


def mismatches(wanted: Mapping[str, Any], got: Result) -> dict[str, tuple[str, str]]:
    """The fields in which a result is not as wanted, with (wanted, got).

    What a case leaves out may be anything, except the error and, under StrictMatch, everything. Shares of
    several clusters are compared where a case has `Weighted`.
    """
    found = {}
    for name, value in asdict(got).items():
        if name == "weighted":
            continue
        want = wanted.get(name) or ""
        if want != value and (want or name == "Error" or wanted.get("StrictMatch")):
            found[name] = (want, value)
    if "Weighted" in wanted and wanted["Weighted"] != got.weighted:
        found["Weighted"] = (str(wanted["Weighted"]), str(got.weighted))
    return found


# which listener


def _listener(listeners: Sequence[Config], call: Call) -> Config | None:
    if call.mode == "inbound":
        return next((each for each in listeners if each["name"] == "virtualInbound"), None)
    for hosts in ((call.address,), _WILDCARDS):
        for listener in listeners:
            addresses = [listener["address"]]
            addresses += [each["address"] for each in listener.get("additional_addresses", ())]
            if any(_is_at(address, hosts, call.port) for address in addresses):
                return listener
    # captured, and nobody claims it; a gateway has no such listener
    return next((each for each in listeners if each["name"] == "virtualOutbound"), None)


def _is_at(address: Config, hosts: Sequence[str], port: int) -> bool:
    socket = address.get("socket_address", {})
    return socket.get("address") in hosts and socket.get("port_value", 0) == port


# which filter chain


def _filter_chain(listener: Config, call: Call) -> Config | str:
    assert "filter_chain_matcher" not in listener, f"{listener['name']} is matched in a way not known here"
    sees_tls = _has_listener_filter(listener, "tls_inspector", call.port)
    alpn = call.alpn if sees_tls else ""
    if call.tls == "plaintext" and _has_listener_filter(listener, "http_inspector", call.port):
        alpn = {"http": "http/1.1", "http2": "h2c"}.get(call.protocol, alpn)
    transport = "tls" if sees_tls and call.tls != "plaintext" else "raw_buffer"
    chains = list(listener.get("filter_chains", ()))
    chains = _sieve(chains, "destination_port", lambda port: int(port == call.port))
    chains = _sieve(chains, "prefix_ranges", lambda ranges: _longest_prefix(ranges, call.address))
    chains = _sieve(chains, "server_names", lambda names: _best_name(names, call.sni))
    chains = _sieve(chains, "transport_protocol", lambda wanted: int(wanted == transport))
    chains = _sieve(chains, "application_protocols", lambda wanted: int(alpn in wanted))
    if len(chains) > 1:
        return SEVERAL_FILTER_CHAINS
    return chains[0] if chains else listener.get("default_filter_chain", NO_FILTER_CHAIN)


def _sieve(chains: list[Config], criterion: str, rank: Callable[[Any], int]) -> list[Config]:
    """Keeps the chains that fit best by one criterion; when none fits, those that do not ask for it.

    There is no way back: what falls out here is lost, whatever later criteria would say.
    """
    asking = [(rank(m), c) for c in chains if (m := c.get("filter_chain_match", {}).get(criterion))]
    best = max((r for r, _ in asking), default=0)
    if best > 0:
        return [chain for r, chain in asking if r == best]
    return [chain for chain in chains if not chain.get("filter_chain_match", {}).get(criterion)]


def _longest_prefix(ranges: Sequence[Config], address: str) -> int:
    networks = [ip_network(f"{r['address_prefix']}/{r.get('prefix_len', 0)}", strict=False) for r in ranges]
    return max((n.prefixlen + 1 for n in networks if ip_address(address) in n), default=0)


def _best_name(names: Sequence[str], sni: str) -> int:
    sni = sni.lower()
    ranks = [10_000 if name == sni else len(name) if _covers(name, sni) else 0 for name in names]
    return max(ranks, default=0)


def _covers(pattern: str, name: str) -> bool:
    return pattern.startswith("*") and name.endswith(pattern[1:]) and len(name) >= len(pattern)


def _has_listener_filter(listener: Config, word: str, port: int) -> bool:
    return any(
        each["name"] == f"envoy.filters.listener.{word}" and not _holds(each.get("filter_disabled", {}), port)
        for each in listener.get("listener_filters", ())
    )


def _holds(predicate: Config, port: int) -> bool:
    """Whether a predicate over connections holds for those to a port; an empty one holds for none."""
    match next(iter(predicate.items()), None):
        case ("any_match", value):
            return bool(value)
        case ("or_match", value):
            return any(_holds(rule, port) for rule in value["rules"])
        case ("and_match", value):
            return all(_holds(rule, port) for rule in value["rules"])
        case ("not_match", value):
            return not _holds(value, port)
        case ("destination_port_range", value):
            return bool(value.get("start", 0) <= port < value.get("end", 0))
    return False


# does the TLS fit


def _tls_error(chain: Config, call: Call) -> str:
    socket = chain.get("transport_socket")
    if socket is None:
        return ""
    if call.tls == "plaintext":
        return TLS
    context = socket["typed_config"]
    secrets = context.get("common_tls_context", {}).get("tls_certificate_sds_secret_configs", ())
    mutual = (
        bool(secrets)
        and secrets[0]["name"] == call.mtls_secret
        and context.get("require_client_certificate", False)
    )
    return "" if mutual == (call.tls == "mtls") else MTLS


# requests


def _network_filter(chain: Config, message: str) -> Config | None:
    typed = (each.get("typed_config", {}) for each in chain.get("filters", ()))
    return next((config for config in typed if config.get("@type", "").endswith("." + message)), None)


def _http(manager: Config, chain: Config, call: Call, routes: Mapping[str, Config], result: Result) -> None:
    opaque = call.tls != "plaintext" and "transport_socket" not in chain
    if opaque or call.protocol not in ("http", "http2"):
        result.Error = PROTOCOL
        return
    table = manager.get("route_config")
    if table is None:
        result.RouteConfigMatched = manager["rds"]["route_config_name"]
        table = routes.get(result.RouteConfigMatched, {})
    strips = table.get("ignore_port_in_host_matching") or manager.get("strip_any_host_port")
    host = _virtual_host(table.get("virtual_hosts", ()), _without_port(call.host) if strips else call.host)
    if host is None:
        result.Error = NO_VIRTUAL_HOST
        return
    result.VirtualHostMatched = host["name"]
    if host.get("require_tls") == "ALL" and call.tls == "plaintext":
        result.Error = TLS_REDIRECT
        return
    route = next((r for r in host.get("routes", ()) if _matches(r["match"], call)), None)
    if route is None:
        result.Error = NO_ROUTE
        return
    result.RouteMatched = route.get("name", "")
    result.ClusterMatched = route.get("route", {}).get("cluster", "")
    result.weighted = _shares(route.get("route", {}))


def _shares(action: Config) -> dict[str, int]:
    shares = action.get("weighted_clusters", {}).get("clusters", ())
    return {share["name"]: share.get("weight", 0) for share in shares}


def _without_port(host: str) -> str:
    return re.sub(r":\d+$", "", host)


def _virtual_host(hosts: Sequence[Config], name: str) -> Config | None:
    name = name.lower()
    by_domain = {domain.lower(): host for host in hosts for domain in host["domains"]}
    if name in by_domain:
        return by_domain[name]
    wild = sorted((d for d in by_domain if "*" in d and d != "*"), key=len, reverse=True)
    for domain in wild:
        if _covers(domain, name):
            return by_domain[domain]
    for domain in wild:
        if domain.endswith("*") and name.startswith(domain[:-1]) and len(name) >= len(domain):
            return by_domain[domain]
    return by_domain.get("*")


def _matches(match: Config, call: Call) -> bool:
    path, _, query = call.path.partition("?")
    fold = str if match.get("case_sensitive", True) else str.lower
    wanted = {
        name: fold(match[name]) for name in ("prefix", "path", "path_separated_prefix") if name in match
    }
    if "prefix" in wanted and not fold(call.path).startswith(wanted["prefix"]):
        return False
    if "path" in wanted and fold(path) != wanted["path"]:
        return False
    if "path_separated_prefix" in wanted and not (fold(path) + "/").startswith(
        wanted["path_separated_prefix"] + "/"
    ):
        return False
    if "safe_regex" in match and not re.fullmatch(match["safe_regex"]["regex"], path):
        return False
    values = {
        **call.headers,
        ":path": call.path,
        ":method": call.headers.get(":method", "GET"),
        ":authority": call.host,
        ":scheme": "http" if call.tls == "plaintext" else "https",
    }
    parameters = dict(part.partition("=")[::2] for part in query.split("&") if part)
    asked = [(rule, values.get(rule["name"].lower())) for rule in match.get("headers", ())]
    asked += [(rule, parameters.get(rule["name"])) for rule in match.get("query_parameters", ())]
    return all(_value_matches(rule, value) for rule, value in asked)


def _value_matches(rule: Config, value: str | None) -> bool:
    if "present_match" in rule:
        return bool(((value is not None) == rule["present_match"]) != rule.get("invert_match", False))
    if value is None:
        return bool(rule.get("treat_missing_header_as_empty") and _string_matches(rule["string_match"], ""))
    held = _string_matches(rule["string_match"], value) if "string_match" in rule else True
    return bool(held != rule.get("invert_match", False))


def _string_matches(rule: Config, value: str) -> bool:
    if "safe_regex" in rule:
        return re.fullmatch(rule["safe_regex"]["regex"], value) is not None
    fold = str.lower if rule.get("ignore_case") else str
    value = fold(value)
    if "exact" in rule:
        return bool(value == fold(rule["exact"]))
    if "prefix" in rule:
        return value.startswith(fold(rule["prefix"]))
    if "suffix" in rule:
        return value.endswith(fold(rule["suffix"]))
    return bool(fold(rule["contains"]) in value)

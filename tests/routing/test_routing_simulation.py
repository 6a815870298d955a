"""The simulator itself: Envoy's decisions on small configurations."""

from typing import Any

import pytest
from simulation import Call, Result, mismatches, simulate


def chain(name: str, cluster: str = "", **match: Any) -> dict[str, Any]:
    """A filter chain that carries bytes to a cluster."""
    tcp = {"@type": "type.googleapis.com/envoy.TcpProxy", "cluster": cluster or name}
    return {"name": name, "filter_chain_match": match, "filters": [{"name": "tcp", "typed_config": tcp}]}


def listener(name: str, host: str, port: int, *chains: dict[str, Any], **rest: Any) -> dict[str, Any]:
    """A listener at an address."""
    address = {"socket_address": {"address": host, "port_value": port}}
    return {"name": name, "address": address, "filter_chains": [*chains], **rest}


def inspecting(word: str, **rest: Any) -> dict[str, Any]:
    """A listener filter that looks at the first bytes."""
    return {"name": f"envoy.filters.listener.{word}", **rest}


def decide(listeners: list[dict[str, Any]], *routes: dict[str, Any], **call: Any) -> Result:
    """Where a call ends."""
    return simulate({"listeners": listeners, "routes": [*routes]}, Call.of(call))


def web(name: str, *routes: dict[str, Any], **host: Any) -> dict[str, Any]:
    """A filter chain that takes requests for one virtual host."""
    table = {"virtual_hosts": [{"name": "host", "domains": ["*"], "routes": [*routes], **host}]}
    manager = {"@type": "type.googleapis.com/envoy.HttpConnectionManager", "route_config": table}
    return {"name": name, "filters": [{"name": "http", "typed_config": manager}]}


def test_exact_address_before_wildcard_before_the_captured_rest() -> None:
    listeners = [
        listener("virtualOutbound", "0.0.0.0", 15001, chain("rest")),
        listener("0.0.0.0_80", "0.0.0.0", 80, chain("all")),
        listener("1.2.3.4_80", "1.2.3.4", 80, chain("one")),
    ]
    assert decide(listeners, Address="1.2.3.4", Port=80).ClusterMatched == "one"
    assert decide(listeners, Address="1.2.3.5", Port=80).ClusterMatched == "all"
    assert decide(listeners, Address="1.2.3.4", Port=81).ListenerMatched == "virtualOutbound"
    assert decide(listeners[1:], Port=81).Error == "ErrNoListener"


def test_sieve_never_goes_back() -> None:
    """The chain of the port is taken; that a chain without a port would take the rest does not count."""
    listeners = [
        listener(
            "0.0.0.0_80",
            "0.0.0.0",
            80,
            chain("port", destination_port=80, server_names=["a.example"]),
            chain("any"),
            listener_filters=[inspecting("tls_inspector")],
        )
    ]
    assert decide(listeners, Port=80, TLS="tls", Sni="a.example").ClusterMatched == "port"
    assert decide(listeners, Port=80, TLS="tls", Sni="b.example").Error == "ErrNoFilterChain"


def test_longest_prefix_and_longest_name_win() -> None:
    ranges = [{"address_prefix": "10.0.0.0", "prefix_len": 8}]
    narrow = [{"address_prefix": "10.1.0.0", "prefix_len": 16}]
    listeners = [
        listener(
            "l", "0.0.0.0", 80, chain("wide", prefix_ranges=ranges), chain("narrow", prefix_ranges=narrow)
        )
    ]
    assert decide(listeners, Address="10.1.2.3", Port=80).ClusterMatched == "narrow"
    assert decide(listeners, Address="10.2.2.3", Port=80).ClusterMatched == "wide"
    names = [
        chain("exact", server_names=["a.b.example"]),
        chain("long", server_names=["*.b.example"]),
        chain("short", server_names=["*.example"]),
    ]
    listeners = [listener("l", "0.0.0.0", 80, *names, listener_filters=[inspecting("tls_inspector")])]
    for name, wanted in (("a.b.example", "exact"), ("c.b.example", "long"), ("c.example", "short")):
        assert decide(listeners, Port=80, TLS="tls", Sni=name).ClusterMatched == wanted


def test_listener_filters_say_what_is_known() -> None:
    chains = [
        chain("http", application_protocols=["http/1.1", "h2c"]),
        chain("tls", transport_protocol="tls"),
        chain("raw", transport_protocol="raw_buffer"),
    ]
    blind = [listener("l", "0.0.0.0", 80, *chains)]
    assert decide(blind, Port=80, Protocol="http").ClusterMatched == "raw"
    assert decide(blind, Port=80, TLS="tls").ClusterMatched == "raw"
    both = [inspecting("tls_inspector"), inspecting("http_inspector")]
    seeing = [listener("l", "0.0.0.0", 80, chains[1], chains[2], listener_filters=both)]
    assert decide(seeing, Port=80, TLS="tls").ClusterMatched == "tls"
    assert decide(seeing, Port=80, Protocol="http").ClusterMatched == "raw"
    off = {"destination_port_range": {"start": 80, "end": 81}}
    looking = [inspecting("http_inspector", filter_disabled=off)]
    half = [listener("l", "0.0.0.0", 80, chains[0], chain("rest"), listener_filters=looking)]
    assert decide(half, Port=80, Protocol="http").ClusterMatched == "rest"


@pytest.mark.parametrize(
    ("tls", "error"), [("plaintext", "ErrTLSError"), ("tls", "ErrMTLSError"), ("mtls", "")]
)
def test_mutual_tls_takes_only_that(tls: str, error: str) -> None:
    context = {
        "require_client_certificate": True,
        "common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": "default"}]},
    }
    mutual = {**chain("mutual"), "transport_socket": {"name": "tls", "typed_config": context}}
    assert decide([listener("l", "0.0.0.0", 80, mutual)], Port=80, TLS=tls).Error == error


def test_requests_need_http_and_a_host_and_a_route() -> None:
    routes = [
        {"name": "r1", "match": {"path": "/x"}, "route": {"cluster": "c1"}},
        {"name": "r2", "match": {"safe_regex": {"regex": "/y.*"}}, "direct_response": {"status": 200}},
    ]
    listeners = [listener("l", "0.0.0.0", 80, web("web", *routes))]
    assert decide(listeners, Port=80, Protocol="tcp").Error == "ErrProtocolError"
    assert decide(listeners, Port=80, Protocol="http", TLS="tls").Error == "ErrProtocolError"
    assert decide(listeners, Port=80, Protocol="http", Path="/x?q=1").ClusterMatched == "c1"
    assert decide(listeners, Port=80, Protocol="http", Path="/yy").RouteMatched == "r2"
    assert decide(listeners, Port=80, Protocol="http", Path="/z").Error == "ErrNoRoute"
    only_tls = [listener("l", "0.0.0.0", 80, web("web", *routes, require_tls="ALL"))]
    assert decide(only_tls, Port=80, Protocol="http", Path="/x").Error == "ErrTLSRedirect"


def test_virtual_hosts_exact_then_longest_wildcard() -> None:
    hosts = [
        {"name": name, "domains": [name], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": name}}]}
        for name in ("a.example", "*.example", "*.b.example", "a.*", "*")
    ]
    table = {"name": "80", "virtual_hosts": hosts, "ignore_port_in_host_matching": True}
    manager = {"@type": "type.googleapis.com/envoy.HttpConnectionManager", "rds": {"route_config_name": "80"}}
    rds = {"name": "web", "filters": [{"name": "http", "typed_config": manager}]}
    listeners = [listener("l", "0.0.0.0", 80, rds)]
    for name, wanted in (
        ("A.example:80", "a.example"),
        ("c.example", "*.example"),
        ("c.b.example", "*.b.example"),
        ("a.org", "a.*"),
        ("example", "*"),
    ):
        assert decide(listeners, table, Port=80, Protocol="http", HostHeader=name).ClusterMatched == wanted
    assert decide(listeners, Port=80, Protocol="http").Error == "ErrNoVirtualHost"


def test_header_and_query_matches() -> None:
    match = {
        "prefix": "/",
        "headers": [
            {"name": "end-user", "string_match": {"exact": "jason"}},
            {"name": "x", "present_match": False},
        ],
        "query_parameters": [{"name": "q", "string_match": {"prefix": "1"}}],
    }
    listeners = [listener("l", "0.0.0.0", 80, web("web", {"match": match, "route": {"cluster": "c"}}))]
    user = {"end-user": ["jason"]}
    assert decide(listeners, Port=80, Protocol="http", Path="/?q=12", Headers=user).ClusterMatched == "c"
    assert decide(listeners, Port=80, Protocol="http", Path="/?q=2", Headers=user).Error == "ErrNoRoute"
    assert decide(listeners, Port=80, Protocol="http", Path="/?q=1").Error == "ErrNoRoute"


def test_what_a_case_leaves_out_may_be_anything_unless_strict() -> None:
    got = Result(ListenerMatched="l", ClusterMatched="c")
    assert mismatches({"ClusterMatched": "c"}, got) == {}
    assert mismatches({"ClusterMatched": "c", "StrictMatch": True}, got) == {"ListenerMatched": ("", "l")}
    assert mismatches({"Error": "ErrNoRoute"}, got) == {"Error": ("ErrNoRoute", "")}

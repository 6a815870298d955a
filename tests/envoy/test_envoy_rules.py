"""One HTTP rule -> one route, feature by feature."""

from typing import Any

import pytest
from route_worlds import made

REVIEWS = "outbound|9080||reviews.bookinfo.svc.cluster.local"
TO = "route: [{destination: {host: reviews}}]"


def _action(rest: str) -> dict[str, Any]:
    found: dict[str, Any] = made(f"{{{TO}, {rest}}}")["route"]
    return found


def _match(match: str) -> dict[str, Any]:
    found: dict[str, Any] = made(f"{{match: [{match}], {TO}}}")["match"]
    return found


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("{}", {"prefix": "/"}),
        ("{uri: {exact: /a}}", {"path": "/a"}),
        ("{uri: {prefix: /a}}", {"prefix": "/a"}),
        ("{uri: {regex: '/a.*'}}", {"safe_regex": {"regex": "/a.*"}}),
        ("{uri: {exact: /a}, ignoreUriCase: true}", {"path": "/a", "case_sensitive": False}),
        ("{uri: {prefix: /a}, ignoreUriCase: true}", {"prefix": "/a", "case_sensitive": False}),
    ],
)
def test_paths(said: str, expected: dict[str, Any]) -> None:
    assert _match(said) == expected


def test_headers_sorted_then_the_request_line() -> None:
    found = _match(
        "{headers: {X-B: {exact: b}, a: {prefix: p}, any: {}, star: {regex: '*'}},"
        " withoutHeaders: {gone: {}, not: {exact: n}}, scheme: {exact: https}, method: {regex: 'G.*'},"
        " authority: {prefix: r}, queryParams: {q: {exact: '1'}, p: {}}}"
    )
    assert found["headers"] == [
        {"name": "a", "string_match": {"prefix": "p"}},
        {"name": "any", "present_match": True},
        {"name": "gone", "present_match": True, "invert_match": True},
        {
            "name": "not",
            "string_match": {"exact": "n"},
            "invert_match": True,
            "treat_missing_header_as_empty": True,
        },
        {"name": "star", "present_match": True},
        {"name": "x-b", "string_match": {"exact": "b"}},
        {"name": ":method", "string_match": {"safe_regex": {"regex": "G.*"}}},
        {"name": ":authority", "string_match": {"prefix": "r"}},
        {"name": ":scheme", "string_match": {"exact": "https"}},
    ]
    assert found["query_parameters"] == [
        {"name": "p", "present_match": True},
        {"name": "q", "string_match": {"exact": "1"}},
    ]


@pytest.mark.parametrize("name", ["@request.auth.claims.group.id", "@request.auth.claims[group][id]"])
def test_claims_of_a_token(name: str) -> None:
    found = _match(
        f"{{headers: {{'{name}': {{exact: a}}}}, withoutHeaders: {{'@request.auth.claims.x': {{}}}}}}"
    )
    path = [{"key": "payload"}, {"key": "group"}, {"key": "id"}]
    value = {"string_match": {"exact": "a"}}
    assert found["dynamic_metadata"] == [
        {
            "filter": "envoy.filters.http.jwt_authn",
            "path": path,
            "value": {"or_match": {"value_matchers": [{"list_match": {"one_of": value}}, value]}},
        },
        {
            "filter": "envoy.filters.http.jwt_authn",
            "path": [{"key": "payload"}, {"key": "x"}],
            "value": {"present_match": True},
            "invert": True,
        },
    ]
    assert "headers" not in found


def test_statistics_of_a_match() -> None:
    assert made(f"{{match: [{{uri: {{exact: /a}}, statPrefix: mine}}], {TO}}}")["stat_prefix"] == "mine"


def test_one_destination_gets_all_whatever_its_weight() -> None:
    assert _action("timeout: 0s")["cluster"] == REVIEWS


def test_destinations_without_weight_get_nothing() -> None:
    route = made(
        "{route: [{destination: {host: reviews, subset: a}, weight: 7,"
        " headers: {request: {set: {host: h, x: y}}}},"
        " {destination: {host: reviews, subset: b}}]}"
    )
    (cluster,) = route["route"]["weighted_clusters"]["clusters"]
    assert cluster["name"] == "outbound|9080|a|reviews.bookinfo.svc.cluster.local"
    assert (cluster["weight"], cluster["host_rewrite_literal"]) == (7, "h")
    assert [option["header"] for option in cluster["request_headers_to_add"]] == [{"key": "x", "value": "y"}]


@pytest.mark.parametrize(
    ("rewrite", "expected"),
    [
        ("{uri: /new}", {"prefix_rewrite": "/new"}),
        ("{uri: /}", {"prefix_rewrite": "/"}),
        ("{authority: other}", {"host_rewrite_literal": "other"}),
        (
            "{uriRegexRewrite: {match: '^/a/(.*)$', rewrite: '/b/\\1'}, authority: o}",
            {
                "regex_rewrite": {"pattern": {"regex": "^/a/(.*)$"}, "substitution": "/b/\\1"},
                "host_rewrite_literal": "o",
            },
        ),
    ],
)
def test_rewrites(rewrite: str, expected: dict[str, Any]) -> None:
    assert expected.items() <= _action(f"rewrite: {rewrite}").items()


@pytest.mark.parametrize(
    ("headers", "host"),
    [
        ("headers: {request: {set: {Host: a}}}", "a"),
        ("headers: {request: {add: {':authority': a}}}", "a"),
        ("headers: {request: {add: {host: a}, set: {host: b}}}", "b"),
        ("headers: {request: {set: {host: a}}}, rewrite: {authority: r}", "r"),
    ],
)
def test_the_host_header_is_a_rewrite(headers: str, host: str) -> None:
    route = made(f"{{{TO}, {headers}}}")
    assert route["route"]["host_rewrite_literal"] == host
    assert "request_headers_to_add" not in route


def test_headers_of_the_rule_then_of_its_only_destination() -> None:
    route = made(
        "{headers: {request: {set: {a: '1'}, remove: [x, host]}, response: {add: {r: '100%'}}},"
        " route: [{destination: {host: reviews}, headers: {request: {add: {a: '2'}, set: {host: h}}}}]}"
    )
    added = [
        (o["header"]["key"], o["header"]["value"], o.get("append_action"))
        for o in route["request_headers_to_add"]
    ]
    assert added == [("a", "1", "OVERWRITE_IF_EXISTS_OR_ADD"), ("a", "2", None)]
    assert route["request_headers_to_remove"] == ["x"]
    assert route["response_headers_to_add"][0]["header"]["value"] == "100%%"
    assert route["route"]["host_rewrite_literal"] == "h"


@pytest.mark.parametrize(
    ("redirect", "expected"),
    [
        ("{uri: /n}", {"path_redirect": "/n"}),
        (
            "{uri: /n, authority: h, scheme: https, redirectCode: 307}",
            {
                "path_redirect": "/n",
                "host_redirect": "h",
                "scheme_redirect": "https",
                "response_code": "TEMPORARY_REDIRECT",
            },
        ),
        ("{authority: h, redirectCode: 302}", {"host_redirect": "h", "response_code": "FOUND"}),
        ("{authority: h, redirectCode: 303}", {"host_redirect": "h", "response_code": "SEE_OTHER"}),
        ("{authority: h, redirectCode: 308}", {"host_redirect": "h", "response_code": "PERMANENT_REDIRECT"}),
        ("{authority: h, port: 8443}", {"host_redirect": "h", "port_redirect": 8443}),
        ("{authority: h, port: 80}", {"host_redirect": "h"}),
        ("{scheme: https, port: 443}", {"scheme_redirect": "https"}),
        ("{scheme: https, port: 80}", {"scheme_redirect": "https", "port_redirect": 80}),
        ("{authority: h, derivePort: FROM_REQUEST_PORT}", {"host_redirect": "h", "port_redirect": 9080}),
        ("{authority: h, derivePort: FROM_PROTOCOL_DEFAULT}", {"host_redirect": "h"}),
    ],
)
def test_redirects(redirect: str, expected: dict[str, Any]) -> None:
    assert made(f"{{match: [{{uri: {{prefix: /}}}}], redirect: {redirect}}}")["redirect"] == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", None),
        (", body: {string: hi}", {"inline_string": "hi"}),
        (", body: {bytes: aGk=}", {"inline_bytes": "aGk="}),
    ],
)
def test_direct_responses(body: str, expected: object) -> None:
    found = made(f"{{directResponse: {{status: 418{body}}}}}")["direct_response"]
    assert (found["status"], found.get("body")) == (418, expected)


DEFAULT_RETRIES = {
    "retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes",
    "num_retries": 2,
    "host_selection_retry_max_attempts": "5",
}


def _retries(rest: str) -> dict[str, Any]:
    found: dict[str, Any] = _action(rest)["retry_policy"]
    return found


def test_retries_without_a_word() -> None:
    found = _retries("timeout: 1s")
    assert found.pop("retry_host_predicate")[0]["name"] == "envoy.retry_host_predicates.previous_hosts"
    assert found == DEFAULT_RETRIES
    assert "retry_policy" not in _action("retries: {attempts: 0}")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("{attempts: 5}", {"num_retries": 5, "retry_on": DEFAULT_RETRIES["retry_on"]}),
        (
            "{attempts: 1, perTryTimeout: 2s, backoff: 50ms}",
            {"per_try_timeout": "2s", "retry_back_off": {"base_interval": "0.050s"}},
        ),
        (
            "{attempts: 1, retryOn: 'gateway-error, 503,5xx'}",
            {"retry_on": "gateway-error,5xx,retriable-status-codes", "retriable_status_codes": [503]},
        ),
        (
            "{attempts: 1, retryOn: 'retriable-status-codes,503'}",
            {"retry_on": "retriable-status-codes", "retriable_status_codes": [503]},
        ),
    ],
)
def test_retries(said: str, expected: dict[str, Any]) -> None:
    assert expected.items() <= _retries(f"retries: {said}").items()


def test_where_another_try_goes() -> None:
    assert "retry_host_predicate" not in _retries("retries: {attempts: 1, retryIgnorePreviousHosts: false}")
    assert "retry_host_predicate" in _retries("retries: {attempts: 1, retryIgnorePreviousHosts: true}")
    found = _retries("retries: {attempts: 1, retryRemoteLocalities: true}")
    assert found["retry_priority"]["name"] == "envoy.retry_priorities.previous_priorities"


def _fault(said: str) -> dict[str, Any]:
    found: dict[str, Any] = made(f"{{{TO}, fault: {said}}}")["typed_per_filter_config"]
    return {name: value for name, value in found["envoy.filters.http.fault"].items() if name != "@type"}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "{delay: {percentage: {value: 0.1}, fixedDelay: 7s}}",
            {"delay": {"fixed_delay": "7s", "percentage": {"numerator": 1000, "denominator": "MILLION"}}},
        ),
        (
            "{delay: {percent: 50, fixedDelay: 1ms}}",
            {
                "delay": {
                    "fixed_delay": "0.001s",
                    "percentage": {"numerator": 500000, "denominator": "MILLION"},
                }
            },
        ),
        # without a share nothing is touched
        (
            "{delay: {fixedDelay: 7s}}",
            {"delay": {"fixed_delay": "7s", "percentage": {"denominator": "MILLION"}}},
        ),
        ("{abort: {httpStatus: 500}}", {"abort": {"http_status": 500}}),
        (
            "{abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}}",
            {"abort": {"grpc_status": 14, "percentage": {"numerator": 1000000, "denominator": "MILLION"}}},
        ),
    ],
)
def test_faults(said: str, expected: dict[str, Any]) -> None:
    assert _fault(said) == expected


def test_copies_of_requests() -> None:
    (first, second) = _action(
        "mirrors: [{destination: {host: ratings}, percentage: {value: 5}}, {destination: {host: details}}]"
    )["request_mirror_policies"]
    assert first["cluster"] == "outbound|9080||ratings.bookinfo.svc.cluster.local"
    assert first["runtime_fraction"]["default_value"] == {"numerator": 50000, "denominator": "MILLION"}
    assert second["runtime_fraction"]["default_value"]["numerator"] == 1000000
    assert first["trace_sampled"] is False
    assert first["disable_shadow_host_suffix_append"] is True


def test_cross_origin_requests() -> None:
    said = (
        "{allowOrigins: [{exact: 'https://a'}, {prefix: 'https://b'}, {regex: '.*c'}],"
        " allowMethods: [GET, PUT], allowHeaders: [x, y], exposeHeaders: [z], maxAge: 1m30s,"
        " allowCredentials: false, unmatchedPreflights: IGNORE}"
    )
    found = made(f"{{{TO}, corsPolicy: {said}}}")["typed_per_filter_config"]["envoy.filters.http.cors"]
    del found["@type"]
    assert found == {
        "allow_origin_string_match": [
            {"exact": "https://a"},
            {"prefix": "https://b"},
            {"safe_regex": {"regex": ".*c"}},
        ],
        "allow_methods": "GET,PUT",
        "allow_headers": "x,y",
        "expose_headers": "z",
        "max_age": "90",
        "allow_credentials": False,
        "filter_enabled": {"default_value": {"numerator": 100}},
        "forward_not_matching_preflights": False,
    }
    old = made(f"{{{TO}, corsPolicy: {{allowOrigin: ['*']}}}}")["typed_per_filter_config"]
    assert old["envoy.filters.http.cors"]["allow_origin_string_match"] == [{"exact": "*"}]
    assert old["envoy.filters.http.cors"]["forward_not_matching_preflights"] is True


HASHES = """---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: bookinfo}
spec:
  host: reviews
  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-user}}}
  subsets:
  - {name: cookie, trafficPolicy: {loadBalancer: {consistentHash:
      {httpCookie: {name: c, path: /p, ttl: 5s, attributes: [{name: SameSite, value: Lax}]}}}}}
  - {name: ip, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}}
  - {name: query, trafficPolicy: {loadBalancer: {consistentHash: {httpQueryParameterName: q}}}}
"""


@pytest.mark.parametrize(
    ("subset", "expected"),
    [
        ("", {"header": {"header_name": "x-user"}}),
        ("other", {"header": {"header_name": "x-user"}}),
        (
            "cookie",
            {
                "cookie": {
                    "name": "c",
                    "path": "/p",
                    "ttl": "5s",
                    "attributes": [{"name": "SameSite", "value": "Lax"}],
                }
            },
        ),
        ("ip", {"connection_properties": {"source_ip": True}}),
        ("query", {"query_parameter": {"name": "q"}}),
    ],
)
def test_callers_that_stay_at_one_endpoint(subset: str, expected: dict[str, Any]) -> None:
    action = made(f"{{route: [{{destination: {{host: reviews, subset: '{subset}'}}}}]}}", HASHES)["route"]
    assert action["hash_policy"] == [expected]
    # another try would otherwise leave the endpoint
    assert "retry_host_predicate" not in action["retry_policy"]


def test_timeouts() -> None:
    assert _action("timeout: 1500ms")["timeout"] == "1.500s"
    assert _action("name: none")["timeout"] == "0s"
    # the deadline that a gRPC caller sends along holds, up to the rule's
    for rule, limit in (("timeout: 1500ms", "1.500s"), ("name: none", "0s")):
        assert _action(rule)["max_grpc_timeout"] == limit
        # with this one the rule's own timeout would count no more
        assert "max_stream_duration" not in _action(rule)

"""Requests, told apart from bytes all the way to the server, on ports of which nobody said the protocol.

    caller: requests are marked --(socket by mark and endpoint)--> ALPN istio-http/1.1 --> server: HTTP
            bytes are not       --------------------------------->  ALPN istio         --> server: TCP

One cluster carries both, and its endpoints choose the protocol of the inner chain by what the TLS handshake
offers. Connections with and without the mark are never shared. (Istio has a filter of its own for this.)
"""

from envoy.config.cluster.v3 import cluster_pb2 as cluster_v3
from envoy.config.core.v3 import base_pb2 as base_v3
from envoy.extensions.filters.common.set_filter_state.v3 import value_pb2 as value_v3
from envoy.extensions.filters.http.set_filter_state.v3 import set_filter_state_pb2 as set_filter_state_v3
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_v3,
)
from envoy.extensions.matching.common_inputs.transport_socket.v3 import (
    transport_socket_inputs_pb2 as inputs_v3,
)
from google.protobuf.message import Message
from xds.type.matcher.v3 import matcher_pb2 as matcher_v3

from isthmus.envoy.message import packed

ALPN = ("istio-http/1.1", "istio")
"""What is offered for requests: nothing that a server would pick, so that it looks for HTTP/2 itself."""

MUTUAL, PLAINTEXT = "tlsMode-istio", "tlsMode-disabled"
"""The sockets of a cluster, by what its endpoints take."""

_MARK = "isthmus.requests"
_YES = "yes"
_BY_ENDPOINT = "envoy.transport_socket_match"
_REQUESTS = "tlsMode-istio-http"
_Predicate = matcher_v3.Matcher.MatcherList.Predicate


def mark() -> hcm_v3.HttpFilter:
    """The filter that marks requests for the choice of a socket."""
    value = value_v3.FilterStateValue(
        object_key=_MARK,
        # hashed: marked and other requests do not share connections
        factory_key="envoy.hashable_string",
        format_string={"text_format_source": {"inline_string": _YES}},
        shared_with_upstream=value_v3.FilterStateValue.ONCE,
    )
    config = set_filter_state_v3.Config(on_request_headers=[value])
    return hcm_v3.HttpFilter(name="isthmus.requests", typed_config=packed(config))


def choose(message: cluster_v3.Cluster, requests: base_v3.TransportSocket) -> None:
    """Gives a cluster, beside its socket or sockets for mutual TLS, one for requests."""
    marked = _is("transport_socket_filter_state", inputs_v3.FilterStateInput(key=_MARK), _YES)
    chooser = matcher_v3.Matcher()
    if message.transport_socket_matches:
        source = inputs_v3.EndpointMetadataInput(filter=_BY_ENDPOINT, path=[{"key": "tlsMode"}])
        mutual = _is("endpoint_metadata", source, "istio")
        both = _Predicate(and_matcher={"predicate": [mutual, marked]})
        chooser.matcher_list.matchers.add(predicate=both, on_match=_socket(_REQUESTS))
        chooser.matcher_list.matchers.add(predicate=mutual, on_match=_socket(MUTUAL))
        chooser.on_no_match.CopyFrom(_socket(PLAINTEXT))
    else:
        chooser.matcher_list.matchers.add(predicate=marked, on_match=_socket(_REQUESTS))
    message.transport_socket_matches.add(name=_REQUESTS, transport_socket=requests)
    message.transport_socket_matcher.CopyFrom(chooser)


def _is(read: str, source: Message, text: str) -> matcher_v3.Matcher.MatcherList.Predicate:
    source_config = {"name": f"envoy.matching.inputs.{read}", "typed_config": packed(source)}
    return _Predicate(single_predicate={"input": source_config, "value_match": {"exact": text}})


def _socket(name: str) -> matcher_v3.Matcher.OnMatch:
    action = inputs_v3.TransportSocketNameAction(name=name)
    return matcher_v3.Matcher.OnMatch(
        action={"name": "envoy.matching.action.transport_socket.name", "typed_config": packed(action)}
    )

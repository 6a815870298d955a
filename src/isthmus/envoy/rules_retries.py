"""When a failed request is tried again -> Envoy's retry policy.

Without a word from anybody, two more tries of what failed before it was worked on, each at another endpoint.
"""

from http import HTTPStatus

from envoy.config.route.v3 import route_components_pb2 as route_components_v3
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2 as previous_hosts_v3
from envoy.extensions.retry.priority.previous_priorities.v3 import (
    previous_priorities_config_pb2 as previous_priorities_v3,
)

from isthmus.api.duration import parse_duration
from isthmus.api.networking.virtual_service import HTTPRetry
from isthmus.envoy.message import duration, packed

_RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
_BY_CODE = "retriable-status-codes"
_RETRIES = 2
_SELECTIONS = 5
_PRIORITY_UPDATES = 2
_STATUS_CODES = frozenset(status.value for status in HTTPStatus)


def retry_policy(said: HTTPRetry | None, *, sticky: bool) -> route_components_v3.RetryPolicy | None:
    """The policy; None when retries are switched off. A `sticky` caller stays at its endpoint."""
    if said is not None and said.attempts <= 0:
        return None
    words, codes = _conditions(said.retry_on if said else "")
    policy = route_components_v3.RetryPolicy(
        retry_on=words,
        retriable_status_codes=codes,
        num_retries={"value": said.attempts if said else _RETRIES},
        host_selection_retry_max_attempts=_SELECTIONS,
    )
    elsewhere = said.retry_ignore_previous_hosts if said else None
    if not sticky if elsewhere is None else elsewhere:
        policy.retry_host_predicate.append(_previous_hosts())
    if said and said.per_try_timeout:
        policy.per_try_timeout.CopyFrom(duration(max(parse_duration(said.per_try_timeout), 0.0)))
    if said and said.retry_remote_localities:
        policy.retry_priority.CopyFrom(_previous_priorities())
    if said and said.backoff:
        policy.retry_back_off.base_interval.CopyFrom(duration(parse_duration(said.backoff)))
    return policy


def _conditions(retry_on: str) -> tuple[str, list[int]]:
    """Envoy's words and the status codes among them."""
    words = [word.strip() for word in retry_on.split(",") if word.strip()]
    if not words:
        return _RETRY_ON, []
    codes = [int(word) for word in words if word.isdigit() and int(word) in _STATUS_CODES]
    names = [word for word in words if not (word.isdigit() and int(word) in _STATUS_CODES)]
    if codes and _BY_CODE not in names:
        names.append(_BY_CODE)
    return ",".join(names), codes


def _previous_hosts() -> route_components_v3.RetryPolicy.RetryHostPredicate:
    return route_components_v3.RetryPolicy.RetryHostPredicate(
        name="envoy.retry_host_predicates.previous_hosts",
        typed_config=packed(previous_hosts_v3.PreviousHostsPredicate()),
    )


def _previous_priorities() -> route_components_v3.RetryPolicy.RetryPriority:
    config = previous_priorities_v3.PreviousPrioritiesConfig(update_frequency=_PRIORITY_UPDATES)
    return route_components_v3.RetryPolicy.RetryPriority(
        name="envoy.retry_priorities.previous_priorities", typed_config=packed(config)
    )

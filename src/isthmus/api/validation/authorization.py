"""An AuthorizationPolicy -> its problems."""

from collections.abc import Iterator, Mapping, Sequence

from isthmus.api.meta import Problem
from isthmus.api.rules import attachment, conflict, has, missing, warning, wrong
from isthmus.api.security import AuthorizationPolicySpec, Condition, Operation, Rule, Source
from isthmus.api.validation import attributes

DRY_RUN = "istio.io/dry-run"
_BOOLEANS = {"1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"}
_IDENTITIES = {
    "namespaces": "namespaces",
    "notNamespaces": "not_namespaces",
    "serviceAccounts": "service_accounts",
    "notServiceAccounts": "not_service_accounts",
    "trustDomains": "trust_domains",
    "notTrustDomains": "not_trust_domains",
    "principals": "principals",
    "notPrincipals": "not_principals",
    "requestPrincipals": "request_principals",
    "notRequestPrincipals": "not_request_principals",
}
_ADDRESSES = {
    "ipBlocks": "ip_blocks",
    "notIpBlocks": "not_ip_blocks",
    "remoteIpBlocks": "remote_ip_blocks",
    "notRemoteIpBlocks": "not_remote_ip_blocks",
}
_OPERATION = {
    "hosts": "hosts",
    "notHosts": "not_hosts",
    "ports": "ports",
    "notPorts": "not_ports",
    "methods": "methods",
    "notMethods": "not_methods",
    "paths": "paths",
    "notPaths": "not_paths",
}
_HTTP_ONLY = {"request_principals", "not_request_principals", "trust_domains", "not_trust_domains"}
_TCP_SOURCE = {*_IDENTITIES.values(), *_ADDRESSES.values()} - _HTTP_ONLY


def authorization_policy(spec: AuthorizationPolicySpec, annotations: Mapping[str, str]) -> Iterator[Problem]:
    """The problems of an AuthorizationPolicy by itself."""
    yield from attachment(spec)
    yield from _action(spec)
    yield from _dry_run(spec, annotations)
    for index, rule in enumerate(spec.rules):
        at = f"spec.rules[{index}]"
        yield from _rule(at, rule)
        if spec.action == "CUSTOM":
            yield from _custom(at, rule)
        if spec.action == "DENY" and _denies_all_tcp(rule):
            text = (
                "configured AuthorizationPolicy will deny all traffic to TCP ports under its scope due to "
                "the use of only HTTP attributes in a DENY rule; it is recommended to specify the port"
            )
            yield warning(at, text)


def _action(spec: AuthorizationPolicySpec) -> Iterator[Problem]:
    provider = spec.provider.name if spec.provider else ""
    if spec.action in {"CUSTOM", "DENY"} and not spec.rules:
        text = f"{spec.action} action without `rules` is meaningless as it will never be triggered"
        yield missing(
            "spec.rules", text, "add an empty rule `{}` if you want it be triggered for every request"
        )
    if spec.action == "CUSTOM" and not provider:
        yield missing("spec.provider.name", "`provider.name` must not be empty")
    if spec.action != "CUSTOM" and spec.provider is not None:
        yield conflict("spec.provider", f"`provider` must not be with non CUSTOM action, found {spec.action}")


def _dry_run(spec: AuthorizationPolicySpec, annotations: Mapping[str, str]) -> Iterator[Problem]:
    said = annotations.get(DRY_RUN)
    if said is None:
        return
    if spec.action not in {"ALLOW", "DENY"}:
        text = (
            f"the annotation {DRY_RUN} currently only supports action ALLOW/DENY, found action {spec.action}"
        )
        yield from wrong(f"metadata.annotations[{DRY_RUN}]", said, text)
    elif said not in _BOOLEANS:
        text = f"annotation {DRY_RUN} with invalid value: should be true or false"
        yield from wrong(f"metadata.annotations[{DRY_RUN}]", said, text)


def _custom(at: str, rule: Rule) -> Iterator[Problem]:
    for index, caller in enumerate(rule.from_):
        for name, field in _IDENTITIES.items():
            if caller.source is not None and getattr(caller.source, field):
                text = f"From.{name} is currently not supported with CUSTOM action"
                yield conflict(f"{at}.from[{index}].source.{name}", text)
    for index, condition in enumerate(rule.when):
        identity = {"source.namespace", "source.serviceAccount", "source.trustDomain", "source.principal"}
        if condition.key in identity or condition.key.startswith("request.auth."):
            text = f"{condition.key} is currently not supported with CUSTOM action"
            yield from wrong(f"{at}.when[{index}].key", condition.key, text)


def _rule(at: str, rule: Rule) -> Iterator[Problem]:
    for name, field in (("from", "from_"), ("to", "to")):
        if has(rule, field) and not getattr(rule, field):
            yield missing(f"{at}.{name}", f"`{name}` must not be empty", "leave it out")
    for index, caller in enumerate(rule.from_):
        if caller.source is None:
            yield missing(f"{at}.from[{index}].source", "`from.source` must not be nil")
        else:
            yield from _source(f"{at}.from[{index}].source", caller.source)
    for index, request in enumerate(rule.to):
        if request.operation is None:
            yield missing(f"{at}.to[{index}].operation", "`to.operation` must not be nil")
        else:
            yield from _operation(f"{at}.to[{index}].operation", request.operation)
    for index, condition in enumerate(rule.when):
        yield from _condition(f"{at}.when[{index}]", condition)


def _source(at: str, source: Source) -> Iterator[Problem]:
    accounts = ("service_accounts", "not_service_accounts")
    if has(source, *accounts) and has(source, "principals", "not_principals", "namespaces", "not_namespaces"):
        yield conflict(at, "Cannot set serviceAccounts with namespaces or principals")
    if not any(getattr(source, field) for field in (*_IDENTITIES.values(), *_ADDRESSES.values())):
        yield missing(at, "`from.source` must not be empty")
    for name, field in _IDENTITIES.items():
        values: Sequence[str] = getattr(source, field)
        if field in accounts:
            yield from attributes.service_accounts(f"{at}.{name}", values)
        elif field in {"trust_domains", "not_trust_domains"}:
            yield from attributes.trust_domains(f"{at}.{name}", values)
        else:
            yield from attributes.not_empty(f"{at}.{name}", values)
    for name, field in _ADDRESSES.items():
        yield from attributes.addresses(f"{at}.{name}", getattr(source, field))


def _operation(at: str, operation: Operation) -> Iterator[Problem]:
    if not any(getattr(operation, field) for field in _OPERATION.values()):
        yield missing(at, "`to.operation` must not be empty")
    for name, field in _OPERATION.items():
        values: Sequence[str] = getattr(operation, field)
        if field in {"ports", "not_ports"}:
            yield from attributes.ports(f"{at}.{name}", values)
        else:
            yield from attributes.not_empty(f"{at}.{name}", values)
        if field in {"paths", "not_paths"}:
            yield from attributes.paths(f"{at}.{name}", values)


def _condition(at: str, condition: Condition) -> Iterator[Problem]:
    if not condition.key:
        yield missing(f"{at}.key", "`key` must not be empty")
    else:
        yield from wrong(f"{at}.key", condition.key, attributes.key_fault(condition.key))
    if not condition.values and not condition.not_values:
        text = f"at least one of `values` or `notValues` must be set for key {condition.key}"
        yield missing(f"{at}.values", text)
    for name, values in (("values", condition.values), ("notValues", condition.not_values)):
        yield from attributes.values(f"{at}.{name}", condition.key, values)


def _denies_all_tcp(rule: Rule) -> bool:
    sources = [caller.source for caller in rule.from_ if caller.source is not None]
    operations = [request.operation for request in rule.to if request.operation is not None]
    tcp_from = any(getattr(source, field) for source in sources for field in _TCP_SOURCE)
    tcp_to = any(operation.ports or operation.not_ports for operation in operations)
    return bool((sources and not operations and not tcp_from) or (operations and not tcp_to))

"""A DestinationRule -> its problems."""

from collections.abc import Iterator

from isthmus.api.meta import Problem
from isthmus.api.networking.destination_rule import (
    ClientTLSSettings,
    DestinationRuleSpec,
    OutlierDetection,
    PortTrafficPolicy,
    TrafficPolicy,
    TunnelSettings,
)
from isthmus.api.rules import (
    conflict,
    duplicates,
    duration,
    export_to,
    has,
    label_selector,
    missing,
    port,
    share,
    tags,
    warning,
    wrong,
)
from isthmus.api.syntax import address, fqdn, wildcard_domain
from isthmus.api.validation.connection_pool import connection_pool
from isthmus.api.validation.destination import subset_name
from isthmus.api.validation.load_balancing import load_balancer

_PARTS = ("load_balancer", "connection_pool", "outlier_detection", "tls")
_WIDE_PARTS = (*_PARTS, "tunnel", "proxy_protocol", "retry_budget")
_CONFIG_MAP = "configmap://"


def destination_rule(spec: DestinationRuleSpec, namespace: str) -> Iterator[Problem]:
    """The problems of a DestinationRule by itself."""
    yield from wrong("spec.host", spec.host, wildcard_domain(spec.host))
    if spec.traffic_policy is not None:
        yield from _policy("spec.trafficPolicy", spec.traffic_policy, namespace)
    for index, subset in enumerate(spec.subsets):
        at = f"spec.subsets[{index}]"
        yield from subset_name(f"{at}.name", subset.name)
        yield from tags(f"{at}.labels", subset.labels)
        if subset.traffic_policy is not None:
            yield from _policy(f"{at}.trafficPolicy", subset.traffic_policy, namespace)
    yield from duplicates("spec.subsets", (subset.name for subset in spec.subsets), "duplicate subset names")
    yield from export_to("spec.exportTo", spec.export_to, namespace)
    yield from label_selector("spec.workloadSelector", spec.workload_selector)
    exported = {namespace if name == "." else name for name in spec.export_to}
    if spec.workload_selector is not None and exported - {namespace}:
        text = "destination rule with workload selector cannot have exportTo beyond current namespace"
        yield conflict("spec.exportTo", text)


def _policy(at: str, policy: TrafficPolicy, namespace: str) -> Iterator[Problem]:
    if not has(policy, *_WIDE_PARTS) and not policy.port_level_settings:
        yield missing(at, "traffic policy must have at least one field", "leave it out")
    if policy.tunnel is not None and policy.proxy_protocol is not None:
        yield conflict(at, "tunnel and proxyProtocol must not be set together")
    yield from _parts(at, policy, namespace)
    for index, settings in enumerate(policy.port_level_settings):
        where = f"{at}.portLevelSettings[{index}]"
        if settings.port is None:
            yield missing(f"{where}.port", "portTrafficPolicy must have valid port")
        if not has(settings, *_PARTS):
            yield missing(where, "port traffic policy must have at least one field")
        yield from _parts(where, settings, namespace)
    if policy.tunnel is not None:
        yield from _tunnel(f"{at}.tunnel", policy.tunnel)


def _parts(at: str, policy: TrafficPolicy | PortTrafficPolicy, namespace: str) -> Iterator[Problem]:
    if policy.outlier_detection is not None:
        yield from _outlier_detection(f"{at}.outlierDetection", policy.outlier_detection)
    if policy.connection_pool is not None:
        yield from connection_pool(f"{at}.connectionPool", policy.connection_pool)
    if policy.load_balancer is not None:
        yield from load_balancer(f"{at}.loadBalancer", policy.load_balancer, policy.outlier_detection)
    if policy.tls is not None:
        yield from _tls(f"{at}.tls", policy.tls, namespace)


def _outlier_detection(at: str, detection: OutlierDetection) -> Iterator[Problem]:
    yield from duration(f"{at}.baseEjectionTime", detection.base_ejection_time)
    yield from duration(f"{at}.interval", detection.interval)
    if detection.consecutive_errors:
        text = "outlier detection consecutive errors is deprecated"
        hint = "use consecutiveGatewayErrors or consecutive5xxErrors instead"
        yield warning(f"{at}.consecutiveErrors", text, hint)
    if detection.consecutive_local_origin_failures and not detection.split_external_local_origin_errors:
        text = (
            "outlier detection consecutive local origin failures is specified, "
            "but split external local origin errors is set to false"
        )
        yield conflict(f"{at}.consecutiveLocalOriginFailures", text)
    yield from share(f"{at}.maxEjectionPercent", detection.max_ejection_percent, "percentage")
    yield from share(f"{at}.minHealthPercent", detection.min_health_percent, "percentage")


def _tls(at: str, tls: ClientTLSSettings, namespace: str) -> Iterator[Problem]:
    if tls.credential_name.startswith(_CONFIG_MAP):
        home, slash, name = tls.credential_name.removeprefix(_CONFIG_MAP).rpartition("/")
        if not name or (slash and home != namespace):
            text = "invalid configmap:// credentialName: namespace must match the configuration namespace"
            yield from wrong(f"{at}.credentialName", tls.credential_name, f"{text} {namespace}")
    if tls.insecure_skip_verify and tls.mode in {"SIMPLE", "MUTUAL"}:
        by_secret = tls.mode == "SIMPLE" and tls.credential_name
        if tls.ca_certificates or by_secret or has(tls, "subject_alt_names"):
            text = (
                "cannot specify CaCertificates or CredentialName or SubjectAltNames "
                "when InsecureSkipVerify is set true"
            )
            yield conflict(at, text)
    if tls.mode in {"SIMPLE", "MUTUAL"} and tls.credential_name:
        if tls.client_certificate or tls.ca_certificates or tls.private_key or tls.ca_crl:
            text = "cannot specify client certificates or CA certificate or CA CRL if credentialName is set"
            yield conflict(at, text)
    elif tls.mode == "MUTUAL":
        if not tls.client_certificate:
            yield missing(f"{at}.clientCertificate", "client certificate required for mutual tls")
        if not tls.private_key:
            yield missing(f"{at}.privateKey", "private key required for mutual tls")


def _tunnel(at: str, tunnel: TunnelSettings) -> Iterator[Problem]:
    if tunnel.protocol not in {"", "CONNECT", "POST"}:
        yield from wrong(f"{at}.protocol", tunnel.protocol, 'tunnel protocol must be "CONNECT" or "POST"')
    if fqdn(tunnel.target_host) and address(tunnel.target_host):
        text = "tunnel target host must be valid FQDN or IP address"
        yield from wrong(f"{at}.targetHost", tunnel.target_host, text)
    yield from port(f"{at}.targetPort", tunnel.target_port)

"""MeshConfig -> the settings that every proxy shares.

What decides identities (trust domain, root namespace) is fixed when the control plane is set up: an object
cannot change it, a `mesh.yaml` that stands for the whole set-up can (`whole`).
"""

from dataclasses import replace
from ipaddress import ip_network

from isthmus.api.duration import parse_duration
from isthmus.api.mesh import MeshConfigSpec
from isthmus.mesh.model import Front, MeshSettings, Network, Outbound

KIND = "MeshConfig"
NAME = "default"


def applied(settings: MeshSettings, spec: MeshConfigSpec) -> MeshSettings:
    """The settings as a MeshConfig changes them; what it does not say stays."""
    outbound, inbound, locality = (
        spec.outbound_traffic_policy,
        spec.inbound_traffic_policy,
        spec.locality_lb_setting,
    )
    paths, mtls = spec.path_normalization, spec.mesh_mtls
    return replace(
        settings,
        trust_domain_aliases=spec.trust_domain_aliases or settings.trust_domain_aliases,
        outbound=Outbound(outbound.mode) if outbound else settings.outbound,
        inbound_localhost=inbound.mode == "LOCALHOST" if inbound else settings.inbound_localhost,
        detection_timeout_s=_seconds(spec.protocol_detection_timeout, settings.detection_timeout_s),
        auto_mtls=settings.auto_mtls if spec.enable_auto_mtls is None else spec.enable_auto_mtls,
        locality=locality or settings.locality,
        h2_upgrade=spec.h2_upgrade_policy == "UPGRADE" or settings.h2_upgrade,
        access_log_file=spec.access_log_file or settings.access_log_file,
        access_log_format=spec.access_log_format or settings.access_log_format,
        access_log_json=spec.access_log_encoding == "JSON" or settings.access_log_json,
        service_export_to=spec.default_service_export_to or settings.service_export_to,
        virtual_service_export_to=spec.default_virtual_service_export_to
        or settings.virtual_service_export_to,
        destination_rule_export_to=(
            spec.default_destination_rule_export_to or settings.destination_rule_export_to
        ),
        retries=spec.default_http_retry_policy or settings.retries,
        connect_timeout_s=_seconds(spec.connect_timeout, settings.connect_timeout_s),
        keepalive=spec.tcp_keepalive or settings.keepalive,
        dns_refresh_s=_seconds(spec.dns_refresh_rate, settings.dns_refresh_s),
        path_normalization=paths.normalization if paths else settings.path_normalization,
        min_tls=mtls.min_protocol_version if mtls else settings.min_tls,
        front=_front(spec) or settings.front,
        networks=_networks(spec) or settings.networks,
    )


def _front(spec: MeshConfigSpec) -> Front | None:
    said = spec.default_config.gateway_topology if spec.default_config else None
    if said is None:
        return None
    details = said.forward_client_cert_details
    return Front(
        trusted_proxies=said.num_trusted_proxies,
        client_certificates="SANITIZE_SET" if details == "UNDEFINED" else details,
        proxy_protocol=said.proxy_protocol is not None,
    )


def _networks(spec: MeshConfigSpec) -> tuple[tuple[str, Network], ...]:
    return tuple(
        (
            name,
            Network(
                gateways=tuple((g.address, g.port) for g in said.gateways if g.address),
                ranges=tuple(e.from_cidr for e in said.endpoints if _is_range(e.from_cidr)),
            ),
        )
        for name, said in sorted(spec.mesh_networks.items())
    )


def _is_range(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def whole(settings: MeshSettings, spec: MeshConfigSpec) -> MeshSettings:
    """The same, and what is fixed at set-up."""
    return replace(
        applied(settings, spec),
        trust_domain=spec.trust_domain or settings.trust_domain,
        root_namespace=spec.root_namespace or settings.root_namespace,
    )


def _seconds(said: str | None, otherwise: float) -> float:
    return otherwise if said is None else parse_duration(said)

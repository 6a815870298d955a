"""security.istio.io kinds: who may talk to a workload, and how it knows them.

https://istio.io/latest/docs/reference/config/security/
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from isthmus.api.duration import Duration
from isthmus.api.meta import Later, Model
from isthmus.api.shapes import FilledString, LabelSelector, PolicyTargetReference, PortKey

_ATTACHED = "policies are found by selector only"

TargetRefs = Annotated[tuple[PolicyTargetReference, ...], Field(max_length=16)]
ServiceAccounts = Annotated[tuple[Annotated[str, Field(max_length=320)], ...], Field(max_length=16)]


class MutualTLS(Model):
    """Whether connections to a workload use mutual TLS."""

    mode: Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"] = "UNSET"
    """UNSET inherits from the parent, PERMISSIVE takes plaintext and mutual TLS, STRICT mutual TLS only."""


class PeerAuthenticationSpec(Model):
    """Spec of a PeerAuthentication: how traffic is taken by a workload's proxy."""

    selector: LabelSelector | None = None
    """The workloads this is about; without it the whole namespace, in the root namespace the whole mesh."""
    mtls: MutualTLS | None = None
    """Mutual TLS settings of the workload; inherited when left out."""
    port_level_mtls: Mapping[PortKey, MutualTLS] = Field(default_factory=dict)
    """Mutual TLS settings of single workload ports; needs a selector."""


class JWTHeader(Model):
    """A header that may hold a token."""

    name: FilledString
    """Name of the header."""
    prefix: str = ""
    """What stands before the token, such as `Bearer ` (with the blank)."""


class ClaimToHeader(Model):
    """Copies a claim of a token into a header."""

    header: Annotated[str, Field(min_length=1, pattern=r"^[-_A-Za-z0-9]+$")]
    """Name of the header."""
    claim: FilledString
    """Name of the claim; `.` leads into nested claims."""


class JWTRule(Model):
    """One issuer of tokens, and how its tokens are checked."""

    issuer: FilledString | None = None
    """Issuer (`iss`) of the tokens."""
    audiences: tuple[FilledString, ...] = ()
    """Audiences (`aud`) of which a token must name one; the service's own names when left out."""
    jwks_uri: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    """URL of the issuer's public keys; found by OpenID discovery when left out."""
    jwks_uri_snake: Annotated[str | None, Field(alias="jwks_uri", min_length=1, max_length=2048)] = None
    """Old way to spell `jwksUri`."""
    jwks: str | None = None
    """The issuer's public keys themselves, as a JSON Web Key Set."""
    from_headers: tuple[JWTHeader, ...] = ()
    """Headers that may hold the token; `Authorization: Bearer` when nothing else is named."""
    from_params: tuple[FilledString, ...] = ()
    """Query parameters that may hold the token."""
    from_cookies: tuple[FilledString, ...] = ()
    """Cookies that may hold the token."""
    output_payload_to_header: str = ""
    """Header that gets the token's payload, base64url."""
    forward_original_token: bool = False
    """Whether the token is sent on to the workload."""
    output_claim_to_headers: tuple[ClaimToHeader, ...] = ()
    """Headers that get single claims."""
    timeout: Duration | None = None
    """Time limit for fetching the public keys; 5s when left out."""
    space_delimited_claims: Annotated[tuple[FilledString, ...], Field(max_length=64)] = ()
    """Claims whose text is a list of words, beside `scope` and `permission`."""
    presence: Literal["OPTIONAL", "REQUIRED"] = "OPTIONAL"
    """Whether requests without a token are let through by this rule."""


class RequestAuthenticationSpec(Model):
    """Spec of a RequestAuthentication: which tokens requests may carry. A wrong token is always refused."""

    selector: LabelSelector | None = None
    """The workloads this is about; without it the whole namespace, in the root namespace the whole mesh."""
    target_ref: Annotated[PolicyTargetReference | None, Later(_ATTACHED)] = None
    """Old way to spell `targetRefs` for one resource."""
    target_refs: Annotated[TargetRefs, Later(_ATTACHED)] = ()
    """Resources this is attached to, instead of a selector."""
    jwt_rules: Annotated[tuple[JWTRule, ...], Field(max_length=4096), Later("tokens are not looked at")] = ()
    """Issuers whose tokens are taken."""


class Source(Model):
    """Properties of the caller; all that are set must hold, of each one value."""

    principals: tuple[str, ...] = ()
    """Identities proved by mutual TLS, as `<trust domain>/ns/<namespace>/sa/<service account>`."""
    not_principals: tuple[str, ...] = ()
    """Identities that the caller must not have."""
    request_principals: tuple[str, ...] = ()
    """Identities proved by a token, as `<issuer>/<subject>`."""
    not_request_principals: tuple[str, ...] = ()
    """Token identities that the request must not have."""
    namespaces: tuple[str, ...] = ()
    """Namespaces of the caller's identity."""
    not_namespaces: tuple[str, ...] = ()
    """Namespaces that the caller must not be of."""
    service_accounts: ServiceAccounts = ()
    """Service accounts of the caller, as `name` (the policy's namespace) or `namespace/name`."""
    not_service_accounts: ServiceAccounts = ()
    """Service accounts that the caller must not have."""
    trust_domains: tuple[str, ...] = ()
    """Trust domains of the caller's identity."""
    not_trust_domains: tuple[str, ...] = ()
    """Trust domains that the caller must not be of."""
    ip_blocks: tuple[str, ...] = ()
    """Addresses or CIDR ranges from which the connection comes."""
    not_ip_blocks: tuple[str, ...] = ()
    """Addresses or CIDR ranges from which it must not come."""
    remote_ip_blocks: tuple[str, ...] = ()
    """Addresses or CIDR ranges of the first caller, as X-Forwarded-For or the PROXY protocol tell it."""
    not_remote_ip_blocks: tuple[str, ...] = ()
    """Addresses or CIDR ranges that the first caller must not have."""


class Operation(Model):
    """Properties of the request; all that are set must hold, of each one value."""

    hosts: tuple[str, ...] = ()
    """Hosts that the request names."""
    not_hosts: tuple[str, ...] = ()
    """Hosts that it must not name."""
    ports: tuple[str, ...] = ()
    """Ports of the workload."""
    not_ports: tuple[str, ...] = ()
    """Ports that it must not be for."""
    methods: tuple[str, ...] = ()
    """HTTP methods; for gRPC always POST."""
    not_methods: tuple[str, ...] = ()
    """HTTP methods that it must not have."""
    paths: tuple[str, ...] = ()
    """Paths: whole, `prefix*`, `*suffix`, or templates with `{*}` and `{**}`; for gRPC `/service/method`."""
    not_paths: tuple[str, ...] = ()
    """Paths that it must not have."""


class From(Model):
    """One caller of a rule."""

    source: Source | None = None
    """Properties of the caller."""


class To(Model):
    """One request of a rule."""

    operation: Operation | None = None
    """Properties of the request."""


class Condition(Model):
    """A condition on one attribute."""

    key: str
    """The attribute, such as `source.ip` or `request.headers[x-user]`."""
    values: tuple[str, ...] = ()
    """Values of which the attribute must have one."""
    not_values: tuple[str, ...] = ()
    """Values that it must not have."""


class Rule(Model):
    """Requests from one of the callers, to one of the operations, when all conditions hold."""

    from_: Annotated[tuple[From, ...], Field(alias="from", max_length=512)] = ()
    """Callers; every one when left out."""
    to: tuple[To, ...] = ()
    """Requests; every one when left out."""
    when: tuple[Condition, ...] = ()
    """Conditions, all of which must hold."""


class ExtensionProvider(Model):
    """A service of the mesh's settings that decides."""

    name: str = ""
    """Its name in the mesh's settings."""


class AuthorizationPolicySpec(Model):
    """Spec of an AuthorizationPolicy: which requests a workload's proxy lets through."""

    selector: LabelSelector | None = None
    """The workloads this is about; without it the whole namespace, in the root namespace the whole mesh."""
    target_ref: PolicyTargetReference | None = None
    """Old way to spell `targetRefs` for one resource."""
    target_refs: TargetRefs = ()
    """Resources this is attached to, instead of a selector: gateways by name."""
    rules: Annotated[tuple[Rule, ...], Field(max_length=512)] = ()
    """Requests that the action is for; none of them when left out, so that ALLOW lets nothing through."""
    action: Annotated[
        Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"], Later("nothing is audited", values=("AUDIT",))
    ] = "ALLOW"
    """What happens to the requests; CUSTOM and DENY come before ALLOW."""
    provider: Annotated[ExtensionProvider | None, Later("what the rules are for is refused")] = None
    """Who decides, for CUSTOM."""

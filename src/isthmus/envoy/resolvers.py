"""Whom Envoy asks for the names of hosts that it resolves itself.

On a VM the system's resolver tells the mesh's virtual addresses, which would lead Envoy back to itself: it
asks one of the agent's that only passes on. A gateway asks the system's.
"""

from envoy.config.core.v3 import extension_pb2 as extension_v3
from envoy.extensions.network.dns_resolver.cares.v3 import cares_dns_resolver_pb2 as cares_v3

from isthmus.envoy.message import address, packed

AGENT_ADDRESS, AGENT_PORT = "127.0.73.54", 53


def agent() -> extension_v3.TypedExtensionConfig:
    """The agent's resolver for Envoy."""
    config = cares_v3.CaresDnsResolverConfig(resolvers=[address(AGENT_ADDRESS, AGENT_PORT)])
    return extension_v3.TypedExtensionConfig(
        name="envoy.network.dns_resolver.cares", typed_config=packed(config)
    )

"""Where calls come from, and from where they may.

Rule: an address that is not known is in no network.
"""

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from shared.core.headers import Headers

type Networks = tuple[IPv4Network | IPv6Network, ...]


@lru_cache(maxsize=1024)
def parsed(networks: tuple[str, ...]) -> Networks:
    """Networks in CIDR notation as such; read once. Raises ValueError, which says what is wrong with which."""
    return tuple(ip_network(network) for network in networks)


def is_within(address: str | None, networks: tuple[str, ...]) -> bool:
    """Whether the address is in one of the networks. An IPv4 address may be written as IPv6 (`::ffff:10.0.0.1`)."""
    try:
        found = ip_address(address or "")
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None) or found
    return any(mapped in network or found in network for network in parsed(networks))


def caller_ip(headers: Headers, told_by: str, trusted_proxies: int) -> str | None:
    """Who called, as the header `told_by` (lower case) says: each proxy adds at the right whom it saw, so the address is
    as many from the right as there are proxies to trust; what stands left of it anyone can have written. Fewer addresses
    than proxies: the leftmost. Addresses may carry a port.

    In Azure X-Forwarded-For has one address, of whoever called the platform's front end: the Functions host writes it
    anew. With Front Door in front that is Front Door, and its caller stands in X-Azure-SocketIP
    (https://github.com/Azure/azure-functions-host/issues/11254).
    """
    hops = ",".join(value for name, value in headers if name == told_by).split(",")
    hop = hops[max(0, len(hops) - trusted_proxies)].strip()
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return (hop.partition(":")[0] if hop.count(":") == 1 else hop) or None

"""Which addresses are of the internet at large, so that the server may be sent there.

https://www.iana.org/assignments/iana-ipv4-special-registry, https://www.iana.org/assignments/iana-ipv6-special-registry
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

# IPv6 hands out no other addresses to the public. Outside are the old forms that stand for IPv4
# ones (compatible, translated, local NAT64), site-local, link-local and multicast addresses.
_UNICAST = IPv6Network("2000::/3")
# Behind these is the IPv4 address of the last 32 bits, which counts: mapped, and NAT64 (RFC 6052).
_STANDS_FOR = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))
# What `is_global` takes for public, in one or another version of Python: protocol assignments with
# Teredo, 6to4, documentation; protocol assignments and the relays of 6to4.
_SPECIAL = tuple(
    map(ip_network, ("2001::/23", "2002::/16", "3fff::/20", "192.0.0.0/24", "192.88.99.0/24"))
)


def is_public(address: str) -> bool:
    """Whether an address is of one machine on the internet: not of this one, a private network or
    a multicast group, nor an IPv6 address that stands for such a one."""
    try:
        meant: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(meant, IPv6Address):
        if any(meant in network for network in _STANDS_FOR):
            return is_public(str(IPv4Address(meant.packed[12:])))
        if meant not in _UNICAST:
            return False
    special = any(meant in network for network in _SPECIAL)
    return meant.is_global and not meant.is_multicast and not special

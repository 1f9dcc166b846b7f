"""Which network addresses a notification may be sent to: public ones; private ones where that is allowed; some never.

Core: no look-up, no connection; `monitoring.posting` asks for each address a name stands for, before it connects to it.

| address                                           | judged as                                            |
|---------------------------------------------------|------------------------------------------------------|
| in `NEVER` (metadata servers, link-local, ...)    | refused, whatever is allowed                         |
| in `PRIVATE` (loopback, 10/8, fc00::/7, ...)      | allowed with `allow_private`                         |
| IPv4 inside IPv6: mapped (::ffff:), NAT64         | the IPv4 address inside                              |
| any other IPv6 outside of 2000::/3                | refused: nothing public is there                     |
| the rest                                          | allowed                                              |

The tables follow IANA's registries of special-purpose addresses (RFC 6890 and its updates); a law compares them with Python's.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

NEVER: Final[Mapping[Network, str]] = {
    ip_network(network): what
    for network, what in {
        "169.254.0.0/16": "link-local, where metadata servers are",
        "100.100.100.200/32": "a metadata server (Alibaba)",
        "168.63.129.16/32": "a metadata server (Azure)",
        "fd00:ec2::/32": "a metadata server (AWS)",
        "fd20:ce::/32": "a metadata server (Google)",
        "0.0.0.0/8": "unspecified",
        "192.0.0.0/24": "reserved for protocols",
        "192.0.2.0/24": "for documentation",
        "192.88.99.0/24": "a relay of 6to4",
        "198.18.0.0/15": "for benchmarks",
        "198.51.100.0/24": "for documentation",
        "203.0.113.0/24": "for documentation",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "reserved or broadcast",
        "fe80::/10": "link-local",
        "ff00::/8": "multicast",
        "::/128": "unspecified",
        "2001::/23": "reserved for protocols, Teredo among them",
        "2001:db8::/32": "for documentation",
        "2002::/16": "6to4, an IPv4 address in disguise",
        "3fff::/20": "for documentation",
    }.items()
}
"""Refused always."""

PRIVATE: Final[Mapping[Network, str]] = {
    ip_network(network): what
    for network, what in {
        "127.0.0.0/8": "loopback",
        "::1/128": "loopback",
        "10.0.0.0/8": "private",
        "172.16.0.0/12": "private",
        "192.168.0.0/16": "private",
        "100.64.0.0/10": "shared by a carrier's customers (CGNAT)",
        "fc00::/7": "private",
    }.items()
}
"""Refused unless private addresses are allowed."""

_NAT64: Final = IPv6Network("64:ff9b::/96")
_PUBLIC6: Final = IPv6Network("2000::/3")


def refusal(address: str, *, allow_private: bool) -> str | None:
    """Why this address must not be connected to; None if it may.

    >>> refusal("93.184.215.14", allow_private=False), refusal("10.0.0.8", allow_private=True)
    (None, None)
    >>> refusal("::ffff:169.254.169.254", allow_private=True)
    '169.254.169.254 is link-local, where metadata servers are'
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return f"{address!r} is no address"
    inner = _inner(parsed)
    for networks in (NEVER, {} if allow_private else PRIVATE):
        for network, what in networks.items():
            if inner.version == network.version and inner in network:
                return f"{inner} is {what}"
    if (
        isinstance(inner, IPv6Address)
        and inner not in _PUBLIC6
        and not any(inner in n for n in PRIVATE if n.version == inner.version)
    ):
        return f"{inner} is outside of what is public"
    return None


def _inner(address: Address) -> Address:
    """The IPv4 address that packets to this one go to in the end, where it is one."""
    if isinstance(address, IPv4Address):
        return address
    if address.scope_id is not None:
        address = IPv6Address(int(address))
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv4Address(int(address) & 0xFFFF_FFFF) if address in _NAT64 else address

"""Which addresses an account lets its users come from (`Account.security`: ``api_acl`` and ``console_acl``)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

Range = tuple[int, int, int]
"""Version of IP, first and last address as numbers."""
_EVERY_V4: Range = (4, 0, 2**32 - 1)


def parse_range(text: str) -> Range:
    """``10.0.0.0/8``, ``10.0.0.1-10.0.0.9`` or one address, of IP 4 or 6. Raises ValueError."""
    first, dash, last = text.partition("-")
    if dash:
        low, high = ipaddress.ip_address(first.strip()), ipaddress.ip_address(last.strip())
        if low.version != high.version or int(low) > int(high):
            raise ValueError(f"'{text}' does not go from a lower to a higher address")
        return low.version, int(low), int(high)
    network = ipaddress.ip_network(text.strip(), strict=False)
    return network.version, int(network.network_address), int(network.broadcast_address)


def allowed(lists: Mapping[str, Any], address: str | None) -> bool:
    """Whether `address` is in one of the lists of an address policy; one that lists nothing allows all.

    :param lists: ``allow_address_netmasks`` [{address_netmask}] and ``allow_ip_ranges`` [{ip_range}], each also with
        the ending ``_ipv6``, as the vendor writes them.
    """
    ranges = tuple(
        entry[key]
        for name, key in (("allow_address_netmasks", "address_netmask"), ("allow_ip_ranges", "ip_range"))
        for ending in ("", "_ipv6")
        for entry in lists.get(name + ending) or ()
    )
    return not ranges or (address is not None and _within(ranges, address))


@lru_cache(maxsize=4096)
def _within(ranges: Sequence[str], address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    parsed = [parse_range(text) for text in ranges]
    if found.version == 6 and all(version == 4 for version, _, _ in parsed):
        return _EVERY_V4 in parsed  # lists that know IP 4 only, and let all of it in, say nothing against IP 6
    return any(version == found.version and low <= int(found) <= high for version, low, high in parsed)

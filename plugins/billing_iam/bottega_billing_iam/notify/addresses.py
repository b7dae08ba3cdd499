"""Where something may be sent by HTTP: no address inside the operator's own network unless the operator allows it."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

import httpx

from bottega.errors import Invalid

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class Refused(Exception):
    """The address is one that nothing is sent to."""


class Addresses:
    """Checks at creation, and again whenever a connection is opened: a name may lead elsewhere by then."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self._allowed: list[Network] = [ipaddress.ip_network(network) for network in allowed]

    def permits(self, address: Address) -> bool:
        for inner in (address, *_embedded(address)):
            if any(inner.version == n.version and inner in n for n in self._allowed):
                continue
            if not inner.is_global or inner.is_multicast:
                return False
        return True

    async def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a host. Raises Refused when one of them is not permitted, OSError without any."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        resolved = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for text in resolved:
            if not self.permits(ipaddress.ip_address(text.partition("%")[0])):
                raise Refused(f"'{host}' leads to {text}, an address that nothing is sent to")
        return resolved

    async def check(self, text: str, what: str = "url") -> str:
        """The URL of a receiver, normalised. Raises Invalid with what is wrong of `what`."""
        try:
            url = httpx.URL(text)
        except httpx.InvalidURL as e:
            raise Invalid(f"{what}: '{text[:200]}' is not a URL: {e}") from e
        if url.scheme not in ("http", "https") or not url.host:
            raise Invalid(f"{what}: write the whole address, such as https://example.org/hooks")
        if url.userinfo:
            raise Invalid(f"{what}: put no user and password into it; the receiver knows the sender by the signature")
        if url.fragment:
            raise Invalid(f"{what}: what follows # is never sent; leave it out")
        if url.port is not None and not 0 < url.port < 65536:
            raise Invalid(f"{what}: {url.port} is not a port")
        try:
            await self.resolve(url.raw_host.decode("ascii"), port_of(url))
        except Refused as e:
            raise Invalid(
                f"{what}: {e}: loopback, link-local, private and reserved ones are refused unless the operator lists "
                "their network in [plugins.notify] allowed_networks"
            ) from e
        except (OSError, UnicodeError) as e:
            raise Invalid(f"{what}: there is no host '{url.host}': {e}") from e
        return str(url)


def port_of(url: httpx.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


def _embedded(address: Address) -> list[Address]:
    """IPv4 addresses that an IPv6 one stands for, by which a check of IPv6 alone could be passed."""
    if not isinstance(address, ipaddress.IPv6Address):
        return []
    found: list[Address | None] = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if address in _NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [inner for inner in found if inner is not None]

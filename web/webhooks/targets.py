"""Where webhooks may go: public addresses, and what the configuration allows beside them.

The house asks on behalf of others, so an address that it can reach and they cannot must not be reachable through it
(server-side request forgery). What counts is the address that is connected to, not the name: names are resolved here,
each time, and whoever sends connects to an address that this module gave out, so that a name which changes its mind
between the look and the connection (DNS rebinding) changes nothing.

Public is decided by our own table (IANA's special-purpose registries), since what Python calls global differs from
version to version. Of IPv6 only 2000::/3 is handed out at all, which leaves the mapped, NAT64, unique local, link-local
and multicast forms outside by itself.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    import httpx2

__all__ = ["Allowed", "Resolve", "Target", "TargetRefused", "Targets", "allowed", "is_public", "resolver"]

Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a name, as texts. Raises OSError."""

_NOT_PUBLIC_4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",  # public by number, but inside a cloud its own control plane
    )
)  # fmt: skip
_HANDED_OUT_6: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_6: Final = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocols: Teredo (an IPv4 address inside), ORCHID, benchmarking
        "2001:db8::/32", "3fff::/20",  # documentation
        "2002::/16",  # 6to4: an IPv4 address inside
    )
)  # fmt: skip
RESOLVE_S: Final = 5.0
_USUAL_PORTS: Final = frozenset({80, 443})
_FIRST_FREE_PORT: Final = 1024
_URL: Final = re.compile(r"https?://([^/?#]+)[\x21-\x7e]*", re.IGNORECASE)
_HOST: Final = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_-]{1,63}\.?")


class TargetRefused(Exception):
    """A webhook may not go there. One sentence."""


@dataclass(frozen=True, slots=True)
class Target:
    """A well-formed address of a receiver: `host` without brackets, `port` always there."""

    url: httpx2.URL
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Allowed:
    """What is not public and may be gone to all the same. `port` None: the usual ones."""

    network: IPv4Network | IPv6Network
    port: int | None


class Targets:
    """`allow`: addresses and networks, with or without a port: `127.0.0.1:9000`, `10.0.0.0/8`, `[fd00::/8]:8443`.
    Raises ValueError for others.
    """

    def __init__(self, allow: Iterable[str] = (), *, resolve: Resolve) -> None:
        self._allow = tuple(allowed(text) for text in allow)
        self._resolve = resolve

    async def check(self, url: str) -> None:
        """Raises TargetRefused for a target that is refused now."""
        await self.addresses(self.parse(url))

    def parse(self, url: str) -> Target:
        """Raises TargetRefused for what is no plain address of an HTTP server."""
        import httpx2  # 0.03 s, for houses that have webhooks alone

        match = _URL.fullmatch(url)
        if match is None or "\\" in url:
            raise TargetRefused("The url must be http:// or https:// and plain ASCII without spaces.")
        if "@" in match[1]:
            raise TargetRefused("The url may hold no user name or password: the signature says who sends.")
        try:
            parsed = httpx2.URL(url)
        except httpx2.InvalidURL as error:
            raise TargetRefused(f"The url cannot be read ({error}).") from None
        host, port = parsed.host, parsed.port
        if port is None:
            port = 443 if parsed.scheme == "https" else 80
        if parsed.fragment or "#" in url:
            raise TargetRefused("The url may have no fragment: it is never sent.")
        if parsed.userinfo or not (_literal(host) or _HOST.fullmatch(host)) or not 0 < port < 1 << 16:
            raise TargetRefused("The url must name a host, and a port from 1 to 65535 if any.")
        return Target(parsed, host, port)

    async def addresses(self, target: Target) -> list[str]:
        """The addresses of the target that may be connected to, at least one. Raises TargetRefused."""
        literal = _literal(target.host)
        if literal is not None:
            found: list[Address] = [literal]
        else:
            try:
                with trio.fail_after(RESOLVE_S):
                    texts = await self._resolve(target.host, target.port)
                found = [_plain(ip_address(text)) for text in texts]
            except (OSError, ValueError, trio.TooSlowError):
                raise TargetRefused(f"The host {target.host} cannot be resolved.") from None
        permitted = [address for address in dict.fromkeys(found) if self.permits(address, target.port)]
        if not permitted:
            raise TargetRefused(
                f"The host {target.host} at port {target.port} is not public: webhooks go to public addresses and the "
                "ports 80, 443 and from 1024 on, and to what webhooks.allow names."
            )
        return [str(address) for address in permitted]

    def permits(self, address: Address, port: int) -> bool:
        """Whether this may be connected to."""
        usual = port in _USUAL_PORTS or port >= _FIRST_FREE_PORT
        for entry in self._allow:
            if address in entry.network and (usual if entry.port is None else entry.port == port):
                return True
        return usual and is_public(address)


def is_public(address: Address) -> bool:
    """Whether the whole internet means the same machine by it."""
    address = _plain(address)
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    return address in _HANDED_OUT_6 and not any(address in network for network in _NOT_PUBLIC_6)


def resolver(limit: int) -> Resolve:
    """The system's resolver, in threads of its own: names that hang keep no other work of the house waiting."""
    limiter = trio.CapacityLimiter(limit)

    async def resolve(host: str, port: int) -> list[str]:
        found = await trio.to_thread.run_sync(
            lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), limiter=limiter, abandon_on_cancel=True
        )
        return [str(sockaddr[0]) for *_, sockaddr in found]

    return resolve


def _plain(address: Address) -> Address:
    """An IPv4 address that is written as IPv6 is that IPv4 address."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _literal(host: str) -> Address | None:
    try:
        return _plain(ip_address(host)) if "%" not in host else None
    except ValueError:
        return None


def allowed(text: str) -> Allowed:
    """An entry of the allow-list. Raises ValueError."""
    network, port = text, None
    match = re.fullmatch(r"(?:\[([^\]]+)\]|([^:\[\]]+)):([0-9]{1,5})", text)
    if match is not None:
        network, port = match[1] or match[2], int(match[3])
        if not 0 < port < 1 << 16:
            raise ValueError(text)
    return Allowed(ip_network(network.removeprefix("[").removesuffix("]")), port)

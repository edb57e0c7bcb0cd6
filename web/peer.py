"""Who is on the other side: the address of a client, also when a proxy stands between.

A proxy tells in `X-Forwarded-For`, `-Proto` and `-Host` for whom it asks; anybody else can write the same lines. So
they are believed from a trusted proxy alone, and of `X-Forwarded-For` only what trusted proxies appended: reading from
the right, the first address that is not one of theirs is the client. `Forwarded` (RFC 7239) is not read: whoever writes
one of the two passes the other one on as it came, so reading both would be believing the client.

A unix socket has no address. Its peer is known better than that, by the user that the kernel names (SO_PEERCRED): the
client is then `("unix:<uid>", <pid>)`.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, Protocol, TypeAlias

from web.asgi import Scope

__all__ = ["FORWARDED_HOST", "UNIX", "Proxies", "Ucred", "address_of", "credentials_of", "group_of", "seen_through"]

UNIX: Final = "unix"  # how a unix socket's peer is named among trusted proxies
FORWARDED_HOST: Final = "enginehouse.forwarded_host"  # the key in an ASGI scope of what a trusted proxy names

_UCRED: Final = struct.Struct("3i")
_SCHEMES: Final = frozenset({"http", "https"})
_LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))

Network: TypeAlias = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Ucred:
    """The process at the other end of a unix socket, as it was when it connected (unix(7))."""

    pid: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Proxies:
    """Whose word is taken for whom they ask. `unix`: whoever comes over the unix socket."""

    networks: tuple[Network, ...] = ()
    unix: bool = False

    @classmethod
    def named(cls, names: Iterable[str]) -> Proxies:
        """`127.0.0.1`, `10.0.0.0/8`, `fd00::/8` or `unix`. Raises ValueError for anything else."""
        named = tuple(names)
        return cls(tuple(ip_network(name) for name in named if name != UNIX), UNIX in named)

    @classmethod
    def here(cls) -> Proxies:
        """Loopback and the unix socket: the proxy is on this machine."""
        return cls(_LOOPBACK, unix=True)

    def trusts(self, address: str) -> bool:
        if address.startswith("unix:"):
            return self.unix
        if not self.networks:
            return False
        try:
            found = ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self.networks)


class HasOptions(Protocol):
    """A socket, the standard library's or trio's."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...


def credentials_of(sock: HasOptions) -> Ucred:
    """Of a connected unix socket."""
    return Ucred(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


def address_of(scope: Scope) -> str:
    """An IP address or `unix:<uid>`; empty when there is none."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def group_of(address: str) -> str:
    """What counts as one address: of IPv6 the /64, since whoever has one address there has them all."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((found, 64), strict=False)) if isinstance(found, IPv6Address) else address


def seen_through(scope: Scope, proxies: Proxies) -> None:
    """When a trusted proxy asks: put into the scope for whom (`client`, port 0), by which scheme (`scheme`) and under
    which host (FORWARDED_HOST), as far as it says so.
    """
    if not proxies.trusts(address_of(scope)):
        return
    client = _client(_listed(scope, b"x-forwarded-for"), proxies)
    if client is not None:
        scope["client"] = (client, 0)
    schemes = _listed(scope, b"x-forwarded-proto")
    if schemes and schemes[-1].lower() in _SCHEMES:
        scope["scheme"] = schemes[-1].lower()
    hosts = _listed(scope, b"x-forwarded-host")
    if hosts:
        scope[FORWARDED_HOST] = hosts[-1].encode("latin-1")


def _client(hops: list[str], proxies: Proxies) -> str | None:
    """The rightmost that is no trusted proxy; else the leftmost. None when a proxy did not say."""
    client = None
    for hop in reversed(hops):
        address = _address(hop)
        if address is None:
            break
        client = address
        if not proxies.trusts(address):
            break
    return client


def _address(hop: str) -> str | None:
    """`192.0.2.1`, `192.0.2.1:80`, `2001:db8::1` or `[2001:db8::1]:80` as an address alone; None for anything else."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    try:
        found = ip_address(hop)
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        if found.scope_id is not None:
            return None
        found = found.ipv4_mapped or found
    return str(found)


def _listed(scope: Scope, name: bytes) -> list[str]:
    """The parts of a header that is a list, over all its lines (RFC 9110 5.3)."""
    text = b",".join(value for key, value in scope["headers"] if key == name).decode("latin-1")
    return [part.strip() for part in text.split(",") if part.strip()]

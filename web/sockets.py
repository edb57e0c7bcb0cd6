"""Listening sockets: bound before anything else is started, so that a busy port is a plain OSError before any promise
is made.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Any, Final

from web.limits import Limits

__all__ = ["bind_loopback", "bind_tcp", "bind_unix", "url_of"]

_NO_IPV6: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_FREE_PORTS: Final = 20  # that are tried, since one that is free on 127.0.0.1 need not be free on ::1


def bind_tcp(host: str, port: int, limits: Limits | None = None) -> list[socket.socket]:
    """Listening sockets for every address of `host`; port 0 takes a free one, the same for all of them.

    Raises:
        OSError: the address is in use, not ours, or `host` is unknown.

    """
    limits = limits or Limits()
    sockets: list[socket.socket] = []
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((info[0], info[4]) for info in infos):
            sock = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Inherited by each connection: the kernel gives up on what a vanished or stalled peer does not take, also
            # after we have closed our side (tcp(7); without it an orphan may live for a quarter of an hour).
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(limits.send_s * 1000))
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            port = port or (sockets[0].getsockname()[1] if len(sockets) > 1 else 0)
            sock.bind((address[0], port, *address[2:]))
            sock.listen(limits.backlog)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def bind_loopback(port: int, limits: Limits | None = None) -> list[socket.socket]:
    """127.0.0.1 and, where this machine has it, ::1, on one port; 0 takes a free one.

    Without the second, another program could listen there and be sent the keys of clients that say `localhost`.

    Raises:
        OSError: the port is in use on either.

    """
    for _ in range(_FREE_PORTS):
        sockets = bind_tcp("127.0.0.1", port, limits)
        try:
            return sockets + bind_tcp("::1", sockets[0].getsockname()[1], limits)
        except OSError as error:
            if isinstance(error, socket.gaierror) or error.errno in _NO_IPV6:
                return sockets
            sockets[0].close()
            if port or error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def bind_unix(path: Path, limits: Limits | None = None) -> socket.socket:
    """A listening unix socket that only its owner may open (0600). A dead socket at `path` is replaced.

    Raises:
        OSError: somebody listens there, or something else than a socket is in the way.

    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_dead(path)
        # The mode is set on the descriptor before bind: at no moment does the path exist with a wider one (unix(7)).
        os.fchmod(sock.fileno(), 0o600)
        sock.bind(str(path))
        sock.listen((limits or Limits()).backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def url_of(sock: socket.socket, *, tls: bool = False) -> str:
    """`http://127.0.0.1:39731`, `https://[::1]:39731` or `unix:/run/house.sock`."""
    address: Any = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{address}"
    host = f"[{address[0]}]" if sock.family == socket.AF_INET6 else address[0]
    return f"{'https' if tls else 'http'}://{host}:{address[1]}"


def _remove_dead(path: Path) -> None:
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise FileExistsError(f"{path} is not a socket; name another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(f"{path} is in use by another process")

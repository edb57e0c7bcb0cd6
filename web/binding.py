"""Sockets, as the settings want them: bound before anything is started, so that a busy port is found out first."""

from __future__ import annotations

import errno
import os
import socket
import sys
from functools import partial

import structlog

from web.claim import Refused
from web.limits import Limits
from web.loaded import Loaded
from web.places import Problem
from web.sockets import bind_loopback, bind_tcp, bind_unix

__all__ = ["bind", "check_socket_folder"]

log = structlog.get_logger("enginehouse.daemon")


def bind(loaded: Loaded, limits: Limits) -> list[socket.socket]:
    """Listening sockets. Raises Refused for a busy port that was asked for, Problem for an address that is not ours."""
    server = loaded.settings.server
    sockets: list[socket.socket] = []
    try:
        if server.enabled:
            sockets += _bind_port(loaded, limits)
        if server.unix_socket is not None:
            path = server.unix_socket.expanduser().absolute()
            check_socket_folder(loaded)
            sockets.append(bind_unix(path, limits))
    except Problem:
        for sock in sockets:
            sock.close()
        raise
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise Refused(
            f"{loaded.origin('server.unix_socket')}: server.unix_socket: {error.strerror or error}."
        ) from None
    return sockets


def check_socket_folder(loaded: Loaded) -> None:
    """Whoever may write to the folder could put a socket of their own in the place of ours. Raises Problem."""
    assert loaded.settings.server.unix_socket is not None
    folder = loaded.settings.server.unix_socket.expanduser().absolute().parent
    where = f"{loaded.origin('server.unix_socket')}: server.unix_socket"
    try:
        status = folder.stat()
    except OSError as error:
        raise Problem(f"{where}: the folder {folder} cannot be used ({error.strerror}); make it, 0700.") from None
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise Problem(f"{where}: others may write to {folder}; use a folder that is ours alone.")


def _bind_port(loaded: Loaded, limits: Limits) -> list[socket.socket]:
    server = loaded.settings.server
    # Nobody said where: everything that this machine calls itself.
    listen = partial(bind_tcp, server.host) if loaded.explicit("server.host") else bind_loopback
    try:
        return listen(server.port, limits)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            where = f"{loaded.origin('server.host')}: server.host {server.host!r}"
            raise Problem(
                f"{where} cannot be listened on ({error.strerror}); use an address of this machine."
            ) from None
        if loaded.explicit("server.port") and not server.port_fallback:
            raise Refused(
                f"Port {server.port} is in use by another program; free it, name another port (0 takes a free one), "
                "or set server.port_fallback = true."
            ) from None
    print(f"warning: port {server.port} is in use by another program; a free one is taken", file=sys.stderr, flush=True)  # noqa: T201 - what a command says
    log.warning("the port is busy, a free one is taken", port=server.port)
    return listen(0, limits)

"""What a service manager is told of the daemon: sd_notify(3), which is one datagram to a socket that it names.

Without a service manager (no `NOTIFY_SOCKET`) nothing is said, and nothing costs anything.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

import trio

__all__ = ["Notify"]


class Notify:
    """Takes the variables out of `environ`: they are for this process, and no child may speak in its name.

    `watchdog_s`: how often a sign of life is wanted, at the least; None: never.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        address = environ.pop("NOTIFY_SOCKET", "")
        every = environ.pop("WATCHDOG_USEC", "")
        whose = environ.pop("WATCHDOG_PID", "")
        # A name in the abstract namespace is written with an @ where its NUL byte is (unix(7)).
        self._address = "\0" + address[1:] if address.startswith("@") else address
        asked = bool(address) and every.isdecimal() and int(every) > 0 and whose in {"", str(os.getpid())}
        self.watchdog_s = int(every) / 1e6 if asked else None

    def say(self, *assignments: str) -> None:
        """Such as `READY=1`. A manager that does not listen loses the message; the daemon goes on."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            try:
                sock.sendto("\n".join(assignments).encode(), self._address)
            except OSError:
                return

    async def keep_alive(self) -> None:
        """Give signs of life as long as the event loop turns, twice as often as they are wanted."""
        while self.watchdog_s is not None:
            self.say("WATCHDOG=1")
            await trio.sleep(self.watchdog_s / 2)

"""Every number that bounds what a stranger can cost us, in one frozen record.

The parser, the connection, the guard and the app each enforce their share, but none of them owns a number: a limit that
is written twice is a limit that differs.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes (`_bytes`), durations in seconds (`_s`), counts without suffix."""

    uri_bytes: int = 4 * 1024
    header_bytes: int = 16 * 1024
    header_fields: int = 64
    body_bytes: int = 1024 * 1024
    json_depth: int = 64
    json_keys: int = 10_000
    json_int_digits: int = 300
    header_s: float = 5.0  # from the first byte of a request (or from the connect) to the end of its header section
    body_s: float = 10.0  # for a body; every `body_rate_bytes` received buy one second more
    body_rate_bytes: int = 16 * 1024
    send_s: float = 30.0  # for each `send_bytes` of an answer to fit into the client's receive window
    send_bytes: int = 64 * 1024
    keep_alive_s: float = 30.0  # of silence between two requests on one connection
    keep_alive_requests: int = 1_000_000
    linger_s: float = 2.0  # reading and discarding after an early answer, so that the client can still read that answer
    linger_bytes: int = 8 * 1024 * 1024
    response_s: float = 60.0  # for an answer that is no stream; a stream sets its own `timeout = None`
    backlog: int = 2048  # Linux cuts it to net.core.somaxconn
    connections: int | None = (
        None  # None: half of the soft RLIMIT_NOFILE; the journal and child processes need the rest
    )
    address_connections: int | None = None  # from one address; None: half of all, so that none takes everything
    turned_away: int = 64  # connections beyond the cap that still get a 503; further ones are closed unanswered
    rate_per_min: int = 100  # of a key that is created without a rate of its own
    failures_per_min: int = 100  # refused credentials from one address, before they get 429 instead of 401
    streams: int = 16  # open at once, of a principal that brings no number of its own

    def connection_cap(self) -> int:
        if self.connections is not None:
            return self.connections
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return 65_536 if soft == resource.RLIM_INFINITY else max(1, soft // 2)

    def address_cap(self) -> int:
        return max(1, self.connection_cap() // 2) if self.address_connections is None else self.address_connections

    def for_quart(self) -> dict[str, float | int]:
        """The same numbers under the names of Quart's configuration: `app.config.update(limits.for_quart())`.

        `BODY_TIMEOUT` is only the backstop of the connection's own rule, which also counts the rate.
        """
        return {
            "MAX_CONTENT_LENGTH": self.body_bytes,
            "BODY_TIMEOUT": self.body_s + self.body_bytes / self.body_rate_bytes,
            "RESPONSE_TIMEOUT": self.response_s,
        }

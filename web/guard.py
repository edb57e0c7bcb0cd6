"""The outermost ASGI app: what a stranger's request must be before any of our own code looks at it.

First it is found out who asks, through a trusted proxy as well (`web/peer.py`). The checks are a tuple of plain
functions, and its order is a promise (a foreign page learns nothing about routes, a wrong Host learns nothing about
origins). Syntax proper, which no ASGI app can see any more, is refused one layer below in `web/connection.py`;
credentials, rate, route and body come one layer above.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from structlog.contextvars import bind_contextvars, reset_contextvars

from supervisor.entropy import Entropy
from web.asgi import App, Message, Receive, Scope, Send
from web.cors import ORIGIN, granted, is_preflight, preflight_headers
from web.limits import Limits
from web.peer import FORWARDED_HOST, Proxies, seen_through
from web.problems import REQUEST_ID, Answer, problem
from web.refusals import (
    HeadersTooLarge,
    MalformedRequest,
    MethodNotAllowed,
    MisdirectedHost,
    OriginNotAllowed,
    UriTooLong,
)
from web.security import HSTS, hardened

LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
LIVE: Final = "/health/live"

_HOST = re.compile(rb"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_ALIVE = b'{"status":"live"}'
_random = Entropy()
_OWN_SITE = frozenset({b"same-origin", b"none"})


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may call. `hosts` are names without port, IPv6 in brackets; `origins` are exact (`https://example.org`);
    `proxies` may say for whom they ask.
    """

    hosts: Collection[str] = LOOPBACK_HOSTS
    origins: Collection[str] = ()
    proxies: Proxies = field(default_factory=Proxies)
    limits: Limits = field(default_factory=Limits)


def hosts_of(address: str) -> frozenset[str]:
    """What a `Host` may say of a server that listens on `address` (a name or an IP address).

    Nothing for 0.0.0.0 and ::, which are every address and nobody's name: a page can send them, and so reach loopback.
    """
    if address in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        return frozenset()
    return frozenset({f"[{address}]" if ":" in address else address.lower()})


def values_of(scope: Scope, name: bytes) -> list[bytes]:
    """Every value of a header, in order; `name` in lower case."""
    return [value for key, value in scope["headers"] if key == name]


def check_target(scope: Scope, policy: Policy) -> None:
    """Origin-form only (RFC 9112 3.2.1), but for CONNECT and `OPTIONS *`; no NUL, not even an escaped one."""
    target: bytes = scope["raw_path"]
    plain = target.startswith(b"/") or scope["method"] == "CONNECT" or (target, scope["method"]) == (b"*", "OPTIONS")
    if not plain or "\0" in scope["path"]:
        raise MalformedRequest("Send a request target that is an absolute path.")


def check_host(scope: Scope, policy: Policy) -> None:
    """Against DNS rebinding: a page may point its own name at 127.0.0.1, but cannot forge the Host it then sends.

    A page can write `X-Forwarded-Host`, and a careless proxy passes it on, so that one never replaces the other: where
    it is believed both must be ours.
    """
    hosts = values_of(scope, b"host")
    if len(hosts) > 1:
        raise MalformedRequest("Send one Host header.")
    forwarded = [scope[FORWARDED_HOST]] if FORWARDED_HOST in scope else []
    if not hosts or not all(_name_of(host) in policy.hosts for host in (*hosts, *forwarded)):
        raise MisdirectedHost("Use a host name that this server is configured for (server.allowed_hosts).")


def check_method(scope: Scope, policy: Policy) -> None:
    if scope["method"] in {"CONNECT", "TRACE"}:
        raise MethodNotAllowed(f"Use one of {', '.join(METHODS)}.", allow=METHODS)


def check_origin(scope: Scope, policy: Policy) -> None:
    """A browser names the page it acts for (Fetch standard 3.2, Fetch Metadata); programs name none."""
    origins = values_of(scope, b"origin")
    if len(origins) == 1 and origins[0].decode("latin-1") in policy.origins:
        scope[ORIGIN] = origins[0]
        return
    host = scope.get(FORWARDED_HOST) or b"".join(values_of(scope, b"host"))
    if origins and origins != [scope["scheme"].encode("ascii") + b"://" + host]:
        raise OriginNotAllowed(
            "Call from this server's own pages, or have the origin configured (server.cors_origins)."
        )
    if not _OWN_SITE.issuperset(values_of(scope, b"sec-fetch-site")):
        raise OriginNotAllowed("Call from this server's own pages, not from another site.")


def check_size(scope: Scope, policy: Policy) -> None:
    limits = policy.limits
    query: bytes = scope["query_string"]
    if len(scope["raw_path"]) + bool(query) + len(query) > limits.uri_bytes:
        raise UriTooLong(f"Send a request target of at most {limits.uri_bytes} bytes.")
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    # Four bytes a field for ": " and the line end, as they were on the wire.
    if len(headers) > limits.header_fields or sum(len(n) + len(v) + 4 for n, v in headers) > limits.header_bytes:
        raise HeadersTooLarge(f"Send at most {limits.header_fields} headers and {limits.header_bytes} bytes of them.")


CHECKS: Final[tuple[Callable[[Scope, Policy], None], ...]] = (
    check_target,
    check_host,
    check_method,
    check_origin,
    check_size,
)


class Guard:
    """`Guard(app, policy)` is an ASGI app; it refuses, or calls `app`, and hardens whatever is answered. `policy` may
    be replaced at any time; a request keeps the one that it came under.

    The request's id is left in the scope (`problems.request_id_of(scope)`). An exception of `app` becomes a problem as
    long as no response was started; later ones go on, so that the connection is torn and the client sees that.
    """

    def __init__(self, app: App, policy: Policy | None = None) -> None:
        self._app = app
        self.policy = policy or Policy()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope[REQUEST_ID] = _request_id(scope)
        bound = bind_contextvars(correlation_id=request_id)
        policy = self.policy
        started = checked = False

        async def hardened_send(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = hardened(message.get("headers", ()), request_id)
                headers += granted(scope, policy.origins)
                if checked and scope["scheme"] == "https" and not _is_loopback(scope):
                    headers.append(HSTS)
                message["headers"] = headers
            await send(message)

        try:
            seen_through(scope, policy.proxies)
            for check in CHECKS:
                check(scope, policy)
            checked = True
            if is_preflight(scope):
                await respond(hardened_send, Answer(204, tuple(preflight_headers()), b""))
            elif scope["path"] == LIVE:
                await respond(hardened_send, _live(scope["method"]))
            else:
                await self._app(scope, receive, hardened_send)
        except Exception as error:  # every error ends in the same table; what is not in it is logged there as a bug
            if started:
                raise
            await respond(hardened_send, problem(error, instance=scope["path"], request_id=request_id))
        finally:
            reset_contextvars(**bound)


async def respond(send: Send, answer: Answer) -> None:
    """Send a whole answer through an ASGI `send`."""
    await send({"type": "http.response.start", "status": answer.status, "headers": list(answer.headers)})
    await send({"type": "http.response.body", "body": answer.body, "more_body": False})


def _live(method: str) -> Answer:
    if method not in {"GET", "HEAD"}:
        raise MethodNotAllowed("Use GET or HEAD here.", allow=("GET", "HEAD"))
    headers = ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(_ALIVE)))
    return Answer(200, headers, _ALIVE)


def _name_of(host: bytes) -> str | None:
    """The name in a Host, without port and in lower case; None when it is none."""
    match = _HOST.fullmatch(host)
    return match[1].decode("ascii").lower() if match else None


def _is_loopback(scope: Scope) -> bool:
    """HSTS for `localhost` would take plain HTTP from everything else that a developer serves there."""
    host = scope.get(FORWARDED_HOST) or b"".join(values_of(scope, b"host"))
    return _name_of(host) in LOOPBACK_HOSTS


def _request_id(scope: Scope) -> str:
    sent = values_of(scope, b"x-request-id")
    if len(sent) == 1 and _REQUEST_ID.fullmatch(sent[0]):
        return sent[0].decode("ascii")
    return f"{_random.getrandbits(128):032x}"

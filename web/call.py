"""One request, as a route sees it: who calls, what was sent, and the house it is about. Free of Quart, so that a
route runs the same beneath Quart and below it.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from protocol.errors import ValidationFailed
from protocol.trace import Trace
from supervisor.attendance import Watcher
from supervisor.audit import Trail
from supervisor.house import Caller, Filter, House
from web.asgi import Scope
from web.auth import Principal
from web.guard import values_of
from web.services import Services
from web.traces import TRACE

__all__ = ["MAX_WAIT_S", "Call", "caller_of"]

ALL: Final = Filter()
MAX_WAIT_S: Final = 60

_KEY = re.compile(rb"[\x21-\x7e]{1,255}")
_WAIT = re.compile(r'wait\s*=\s*"?([0-9]{1,9})"?\s*(?:;.*)?')


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """`house`: the house as the caller sees it; `json`: the body as plain values (None without one); `caller`: what the
    house is told of who asks; `principal` is None on public routes alone.
    """

    services: Services
    house: House
    scope: Scope
    caller: Caller
    principal: Principal | None
    json: Any = None

    def watcher(self, shown: Filter = ALL, *, kind: str | None = None) -> Watcher:
        """Who asks, as somebody who sees what the filter shows (and requests of this `kind` alone)."""
        assert self.principal is not None
        return Watcher(principal=self.principal.name, authority=self.principal.authority, shown=shown, kind=kind)

    def header(self, name: bytes) -> str | None:
        """The first value of a header; `name` in lower case."""
        values = values_of(self.scope, name)
        return values[0].decode("latin-1") if values else None

    @property
    def wait_s(self) -> int | None:
        """`Prefer: wait=N` (RFC 7240 4.3): how long the client would wait for the effect, at most MAX_WAIT_S; None
        when it does not say so, or not in a way that can be read.
        """
        for value in values_of(self.scope, b"prefer"):
            for preference in value.decode("latin-1").split(","):
                match = _WAIT.fullmatch(preference.strip())
                if match is not None:
                    return min(int(match[1]), MAX_WAIT_S)
        return None


def caller_of(scope: Scope, principal: Principal | None, body: Any, trail: Trail | None = None) -> Caller:
    """Who asks, under which `Idempotency-Key`, and the fingerprint of what is asked under it.

    Raises:
        ValidationFailed: a key that is not 1 to 255 visible ASCII characters, or more than one.

    """
    name = principal.name if principal else None
    standing = principal.standing if principal else None
    trace: Trace | None = scope.get(TRACE)
    keys = values_of(scope, b"idempotency-key")
    if not keys or scope["method"] != "POST":
        return Caller(principal=name, standing=standing, trail=trail, trace=trace)
    if len(keys) > 1 or _KEY.fullmatch(keys[0]) is None:
        fault = {
            "loc": ["header", "Idempotency-Key"],
            "msg": "must be 1 to 255 visible ASCII characters",
            "type": "key",
        }
        raise ValidationFailed("Send one Idempotency-Key of 1 to 255 visible ASCII characters.", errors=[fault])
    # Sorted members and no spaces: the same request written differently is the same request.
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256("\n".join((scope["method"], scope["path"], canonical)).encode("utf-8", "surrogatepass"))
    return Caller(
        principal=name, key=keys[0].decode("ascii"), digest=digest.hexdigest(), standing=standing, trail=trail,
        trace=trace,
    )  # fmt: skip

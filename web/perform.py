"""What happens to a request between its route and its answer, in the order of checks that is promised:

    content type 415 -> body 413, 408, 400 -> schema 422 -> scope 403 -> key in flight 409 -> the house

Credentials, rate and route come before (`web/app.py`), the house's own answers (state, capacity) after. Where only the
type of a command tells how it counts, the rate has its last word when the type is known, after the schema.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from protocol.edge import parse
from protocol.errors import IdempotencyInFlight, UnsupportedCommand, ValidationFailed
from protocol.specs import STRICT
from supervisor.audit import Trail
from supervisor.house import Caller
from web import strict_json
from web.asgi import Scope
from web.audit import BODY_BYTES, masked_body, trail_of
from web.auth import Principal
from web.auth import Scope as Grant
from web.bodies import has_body, require_json
from web.call import Call, caller_of
from web.params import query_of
from web.route import NO_BODY, Route
from web.services import Services

__all__ = ["PRINCIPAL", "TURN", "perform"]

PRINCIPAL = "enginehouse.principal"  # the key in an ASGI scope under which the app leaves who asks
TURN = "enginehouse.turn"  # and what the rate says of it, for who is limited


@dataclass(frozen=True, slots=True)
class Nothing:
    """What a route without a body takes: no body, or an empty object."""

    __pydantic_config__ = STRICT


async def perform(
    route: Route, services: Services, scope: Scope, path: Mapping[str, str], read: Callable[[], Awaitable[bytes]]
) -> Any:
    """The result of the route's function, or the error that answers. `read` gives the whole body (TooLarge, too
    slow).
    """
    raw = b""
    if has_body(scope["headers"]):
        require_json(scope["headers"])
        raw = await read()
    json, body = _parse(route, services, raw)
    arguments = query_of(scope["query_string"], route.params) | dict(path)
    principal: Principal | None = scope.get(PRINCIPAL)
    trail = trail_of(scope)
    caller = caller_of(scope, principal, json, trail)
    if isinstance(route.urgent, frozenset) and TURN in scope:
        scope[TURN].decide(urgent=getattr(body, "type", None) in route.urgent)
    if isinstance(route.scope, Grant) and principal is not None:
        _check(principal, route.scopes.get(getattr(body, "type", ""), route.scope))
    if trail is not None:
        _note(trail, services, route, raw, json)
    call = Call(
        services=services,
        house=services.house if principal is None else services.house.seen_by(principal.authority),
        scope=scope,
        caller=caller,
        principal=principal,
        json=json,
    )
    if route.body is not NO_BODY:
        arguments["body"] = body
    with _alone(services, caller) if route.once else nullcontext():
        return await route.function(call, **arguments)


def _check(principal: Principal, scope: Grant) -> None:
    """Whether this may be asked now: the body may have taken long, and the credential may be over since.

    Raises:
        Unauthenticated: it is over.
        InsufficientScope: it is too little; there is one house, and its administration is for nobody's pools.

    """
    principal.check()
    principal.require(scope)
    if scope is Grant.ADMIN:
        principal.authority.require_everywhere()


def _note(trail: Trail, services: Services, route: Route, raw: bytes, json: Any) -> None:
    """What of the body the audit row says: its digest, and all of it when that is configured. Of the bodies in which
    people log in nothing at all: a password can be guessed from a digest, a thousand times faster than from its hash.
    """
    if not raw or route.tag == "auth":
        return
    trail.note(digest=hashlib.sha256(raw).hexdigest())
    if services.audit_level == "request" and len(raw) <= BODY_BYTES:
        trail.note(body=masked_body(json))


def _parse(route: Route, services: Services, raw: bytes) -> tuple[Any, Any]:
    """The body as plain values and as the route's model."""
    model, default = (Nothing, Nothing()) if route.body is NO_BODY else (route.body, route.body_default)
    if not raw and default is not NO_BODY:
        return None, default
    limits = services.limits
    json: Any = strict_json.parse(
        raw, max_depth=limits.json_depth, max_keys=limits.json_keys, max_int_digits=limits.json_int_digits
    )
    try:
        return json, parse(model, raw, loc=("body",))
    except ValidationFailed as error:
        errors: Any = error.extra["errors"]
        if errors[0]["type"] == "union_tag_invalid" and isinstance(json.get("type"), str):
            raise UnsupportedCommand(error.detail, errors=errors) from None
        raise


@contextmanager
def _alone(services: Services, caller: Caller) -> Iterator[None]:
    """While a request with this key is answered, another is refused. What is no command keeps no key beyond
    that.
    """
    if caller.key is None:
        yield
        return
    key = (caller.principal, caller.key)
    if key in services.in_flight:
        raise IdempotencyInFlight("Wait for the answer to the first request with this key.", retry_after_s=1)
    services.in_flight.add(key)
    try:
        yield
    finally:
        services.in_flight.discard(key)

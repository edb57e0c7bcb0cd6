"""The app: every route of `web/routes` behind credentials and rate, in one ASGI callable.

    Guard -> App: credentials 401 -> rate 429 -> route 404, 405 -> perform -> Quart, or straight to the socket

Routing is werkzeug's map, made from the routes' own table and asked once per request. Most routes run in Quart.
Routes that are `raw` run below it: the hot ones because Quart costs more than they do, the streams because a plain
coroutine that subscribes, sends and cleans up in one scope cannot leak what an abandoned generator can (quart-trio
0.12: a response that is never iterated never runs its `finally`).

A client that hangs up cancels its request at the next checkpoint; that is the connection's doing
(`web/connection.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, Final, Literal

import trio
from quart import Response, request
from quart.routing import QuartRule
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

from protocol.edge import dump
from supervisor.attendance import Attendance
from supervisor.house import SharedHouse
from supervisor.schedules import Schedules
from web.asgi import Message, Receive, Scope, Send
from web.audit import AuditJournal, trail_of
from web.auth import Failures, Identity, Principal
from web.auth.rates import FREE, Turn
from web.bodies import read_body
from web.guard import respond
from web.limits import Limits
from web.metrics import Metrics, ScheduleFigures, WebhookFigures
from web.peer import address_of
from web.perform import PRINCIPAL, TURN, perform
from web.problems import SLUG, Answer, install, problem, request_id_of, slug_of
from web.reply import answer_of
from web.route import FOUND, Route
from web.routes import ROUTES
from web.routes.metrics import METRICS
from web.services import Daemon, Services
from web.streams import Streams
from web.webhooks import Webhooks

__all__ = ["Api", "create_app"]

PUBLIC: Final = frozenset(route.path for route in ROUTES if route.scope is None)


class Api:
    """An ASGI app; put a `web.guard.Guard` around it. `quart` is the app beneath, `services` what its routes
    use.
    """

    def __init__(self, services: Services) -> None:
        self.services = services
        self.quart = _quart(services)
        self._routes = {route.operation: route for route in ROUTES}
        self._map: MapAdapter = self.quart.url_map.bind("")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.quart(scope, receive, send)  # type: ignore[arg-type]  # hypercorn's TypedDicts
            return
        found = self._find(scope)
        self._note(scope, found)
        if isinstance(found, tuple):
            scope[FOUND] = (found[0].path, found[1])
        if scope["path"] not in PUBLIC and not (scope["path"] == METRICS and self.services.metrics.public):
            takes_ticket = isinstance(found, tuple) and found[0].takes_ticket
            with self.services.failures.counted(scope):
                principal = self.services.identity.admit(scope, takes_ticket=takes_ticket)
            scope[PRINCIPAL] = principal
            if (trail := trail_of(scope)) is not None:
                trail.principal = principal.name
            turn = self._turn(principal, None if isinstance(found, HTTPException) else found[0])
            if turn is not FREE:
                scope[TURN] = turn
                send = partial(_send_with, turn, send)
            if turn.refused:
                await respond(send, self._problem(turn.refused, scope))
                return
        if isinstance(found, HTTPException):
            await respond(send, self._problem(found, scope))
        elif found[0].raw:
            await self._run(found[0], found[1], scope, receive, send)
        else:
            await self.quart(scope, receive, send)  # type: ignore[arg-type]  # as above

    async def close_streams(self) -> None:
        """End every stream with a `server.closing` frame and wait for that; what `web.server.serve` takes as
        `closing`.
        """
        await self.services.streams.close()

    def adjust(self, limits: Limits, heartbeat_s: float, audit_level: Literal["metadata", "request"]) -> None:
        """From the next request and the next stream on."""
        services = self.services
        services.limits, services.heartbeat_s, services.audit_level = limits, heartbeat_s, audit_level
        services.keys.rate_per_min = limits.rate_per_min
        services.failures.per_min = limits.failures_per_min
        services.streams.per_principal = limits.streams
        self.quart.config.update(limits.for_quart())

    def _find(self, scope: Scope) -> tuple[Route, Mapping[str, str]] | HTTPException:
        try:
            operation, path = self._map.match(scope["path"], scope["method"])
        except HTTPException as error:
            return error
        return self._routes[operation], path

    def _turn(self, principal: Principal, route: Route | None) -> Turn:
        """What the rate says; where the command decides, `perform` asks again once it is parsed."""
        if route is None:
            return self.services.rates.take(principal, urgent=False)
        if route.free:
            return FREE
        return self.services.rates.take(principal, urgent=route.urgent if isinstance(route.urgent, bool) else None)

    async def _run(self, route: Route, path: Mapping[str, str], scope: Scope, receive: Receive, send: Send) -> None:
        read = partial(read_body, receive, scope["headers"], self.services.limits)
        try:
            result = await perform(route, self.services, scope, path, read)
        except Exception as error:  # noqa: BLE001  # the table of problems, as Quart asks it; it logs what is a bug
            result = self._problem(error, scope)
        if callable(result):
            await result(send, head=scope["method"] == "HEAD")
        else:
            await respond(send, result if isinstance(result, Answer) else answer_of(result))

    @staticmethod
    def _note(scope: Scope, found: tuple[Route, Mapping[str, str]] | HTTPException) -> None:
        """What the audit row of this request says."""
        trail = trail_of(scope)
        if trail is not None:
            trail.note(
                address=address_of(scope),
                request_id=request_id_of(scope),
                method=scope["method"],
                path=scope["path"],
                operation=found[0].operation if isinstance(found, tuple) else None,
            )

    def _problem(self, error: Exception, scope: Scope) -> Answer:
        scope[SLUG] = slug_of(error)
        return problem(error, instance=scope["path"], request_id=request_id_of(scope))


def create_app(
    house: SharedHouse,
    *,
    identity: Identity,
    audit: AuditJournal | None = None,
    audit_level: Literal["metadata", "request"] = "metadata",
    limits: Limits | None = None,
    heartbeat_s: float = 15.0,
    metrics: Metrics | None = None,
    wall: Callable[[], float] = time.time,
    attendance: Attendance | None = None,
    daemon: Daemon | None = None,
    schedules: Schedules | None = None,
    webhooks: Webhooks | None = None,
) -> Api:
    """The API of `house`. `identity` is loaded; `heartbeat_s`: silence after which a stream sends a comment;
    `attendance`: the house's own, so that it knows who watches; `metrics`: what `/metrics` shows; `daemon`: for what
    only a daemon can do.
    """
    limits = limits or Limits()
    services = Services(
        house=house,
        identity=identity,
        audit=audit,
        audit_level=audit_level,
        limits=limits,
        failures=Failures(limits.failures_per_min),
        streams=Streams(limits.streams),
        wall=wall,
        heartbeat_s=heartbeat_s,
        daemon=daemon,
        openapi=_Document(),
        attendance=attendance or Attendance(trio.current_time),
        metrics=metrics or Metrics(),
        schedules=schedules,
        webhooks=webhooks,
        takes_ticket=_takes_ticket,
    )
    services.metrics.include(services.streams.collect)
    if schedules is not None:
        services.metrics.include(ScheduleFigures(schedules.statistics).collect)
    if webhooks is not None:
        services.metrics.include(WebhookFigures(webhooks.statistics).collect)
    return Api(services)


class _Document:
    """The OpenAPI document, made once by who asks first, in a thread: it takes 0.1 s, which neither the start nor
    anybody else's request should pay for. The others wait for that one and take no thread: it is a public address, and
    two hundred at once held the loop for a second.
    """

    def __init__(self) -> None:
        self._making = trio.Lock()
        self._made: bytes | None = None

    async def __call__(self) -> bytes:
        async with self._making:
            if self._made is None:
                self._made = await trio.to_thread.run_sync(_openapi)
            return self._made


@cache
def _openapi() -> bytes:
    from web.openapi import document

    return dump(document(ROUTES))


def _takes_ticket(path: str) -> bool:
    return any(route.takes_ticket and route.matches(path) for route in ROUTES)


class _OneWay(QuartRule):
    """An address that is matched and never built. What builds it is compiled for each of them in werkzeug 3.1: 14 ms
    that a start need not wait for.
    """

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        def build(**values: Any) -> tuple[str, str]:
            raise NotImplementedError("no address is built from its rule")

        return build


def _quart(services: Services) -> QuartTrio:
    app = QuartTrio(__name__, static_folder=None)
    app.url_rule_class = _OneWay
    app.config.update(services.limits.for_quart())
    app.url_map.merge_slashes = False  # an address is served or not; nothing is redirected
    install(app)
    for route in ROUTES:
        rule = route.path.replace("{", "<").replace("}", ">")
        app.add_url_rule(
            rule,
            endpoint=route.operation,
            view_func=_view(route, services),
            methods=[route.method],
            provide_automatic_options=False,
        )
    return app


def _view(route: Route, services: Services) -> Callable[..., Any]:
    async def view(**path: str) -> Response:
        scope: Any = request.scope
        answer = answer_of(await perform(route, services, scope, path, partial(request.get_data, as_text=False)))
        response = Response(answer.body, answer.status)
        response.headers.clear()
        for name, value in answer.headers:
            response.headers.add(name.decode("ascii"), value.decode("latin-1"))
        return response

    return view


async def _send_with(turn: Turn, send: Send, message: Message) -> None:
    if message["type"] == "http.response.start":
        message["headers"] = [*message["headers"], *turn.headers]
    await send(message)

"""Who may what, as data: a row for every route, a maker for every kind of credential, and what follows from both.

What a row says is written here and not read from the route, so that a route that asks for too little contradicts it.
Add a row with every route, and a maker with every kind of credential: a test fails for a route without one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tests.attack.target import Target

OWN: Final = "alpha"
"""The pool in which everything lies that the rows ask for."""

FOREIGN: Final = "beta"

Needs = Literal["read", "operate", "approve", "admin", "anybody"] | None
ALL: Final = frozenset({"read", "operate", "approve", "admin"})


@dataclass(frozen=True, kw_only=True)
class Row:
    """One route. `needs`: a scope (and `also` another), `anybody` with good credentials, or None: public.

    `ok`: what whoever may is answered; `foreign`: and whoever may, but sees another pool alone; `asks`: the query;
    `ends`: whoever may is not asked, for nothing would be left to ask.
    """

    needs: Needs
    also: Needs = None
    ok: int = 200
    foreign: int = 404
    body: Any = None
    asks: str = ""
    ends: bool = False


@dataclass(frozen=True, kw_only=True)
class Credential:
    """`scopes`: what it allows; None: it is no credential of ours, or not any more. `pools`: None for all of them.

    `methods`: those with which it counts at all.
    """

    headers: tuple[str, ...] = ()
    scopes: frozenset[str] | None = None
    pools: frozenset[str] | None = None
    methods: frozenset[str] | None = None


def expected(row: Row, credential: Credential, method: str) -> int:
    if row.needs is None:
        return row.ok
    if credential.scopes is None or (credential.methods is not None and method not in credential.methods):
        return 401
    if row.needs != "anybody" and not credential.scopes & {row.needs, "admin"}:
        return 403
    if row.also is not None and not credential.scopes & {row.also, "admin"}:
        return 403
    if credential.pools is not None and OWN not in credential.pools:
        return row.foreign
    return row.ok


NEW: Final = {"kind": "probe", "pool": OWN, "start": False}

SCHEDULE: Final = {"every_s": 86_400, "engine": "matrix", "run": {"input": "hello"}, "enabled": False}

ROWS: Final[Mapping[str, Row]] = {
    # engines
    "spawn_engine": Row(needs="operate", ok=201, body=NEW),
    "list_engines": Row(needs="read", foreign=200),
    "get_engine": Row(needs="read"),
    "put_engine": Row(needs="operate", ok=409, body={"kind": "probe", "pool": OWN, "labels": {"other": "spec"}}),
    "dispose_engine": Row(needs="operate"),
    "get_state": Row(needs="read"),
    "get_slice": Row(needs="read"),
    "get_plan": Row(needs="read"),
    "get_stats": Row(needs="read"),
    "get_history": Row(needs="read"),
    "list_processes": Row(needs="read"),
    "get_why": Row(needs="read"),
    # commands; what decides needs more than what steers
    "send_command": Row(needs="operate", ok=202, body={"type": "start"}),
    "send_command: approve": Row(needs="approve", ok=409, body={"type": "approve"}),
    "send_command: reject": Row(needs="approve", ok=409, body={"type": "reject"}),
    "send_command: skip": Row(needs="approve", ok=409, body={"type": "skip"}),
    "send_command: answer": Row(needs="approve", ok=404, body={"type": "answer", "request_id": "req_0", "answer": 1}),
    "get_engine_command": Row(needs="read"),
    "get_command": Row(needs="read"),
    # runs
    "submit_run": Row(needs="operate", ok=202, body={"input": "hello"}),
    "list_runs": Row(needs="read", foreign=200),
    "list_engine_runs": Row(needs="read"),
    "get_run": Row(needs="read"),
    "cancel_run": Row(needs="operate", ok=409),
    "continue_run": Row(needs="operate", ok=409),
    "retry_run": Row(needs="operate", ok=202),
    "get_output": Row(needs="read"),
    # requests
    "list_requests": Row(needs="read", foreign=200),
    "list_engine_requests": Row(needs="read"),
    "get_request": Row(needs="read"),
    "reply_request": Row(needs="approve", ok=409, body={"option": "approve"}),
    # events, as pages
    "stream_events": Row(needs="read", foreign=200, asks="limit=1"),
    "stream_engine_events": Row(needs="read", asks="limit=1"),
    "stream_run_events": Row(needs="read", asks="limit=1"),
    # pools
    "list_pools": Row(needs="read", foreign=200),
    "create_pool": Row(needs="operate", ok=409, foreign=403, body={"id": OWN}),
    "get_pool": Row(needs="read"),
    "patch_pool": Row(needs="operate", body={"max_engines": 100_000}),
    "delete_pool": Row(needs="operate", ok=409),
    "get_or_spawn": Row(needs="operate"),
    "command_pool": Row(needs="operate", body={"type": "resume"}),
    # the house
    "list_dead_letters": Row(needs="read", foreign=200),
    "redeliver": Row(needs="operate", ok=410),
    "discard": Row(needs="operate", ok=204),
    "list_kinds": Row(needs="read", foreign=200),
    "get_kind": Row(needs="read", foreign=200),
    "get_full_health": Row(needs="read", foreign=200),
    "list_audit": Row(needs="admin", foreign=403),
    # what works by itself; there is no webhook in this house, for none may be sent from a test
    "list_schedules": Row(needs="read", foreign=200),
    "create_schedule": Row(needs="operate", ok=201, body=SCHEDULE),
    "get_schedule": Row(needs="read"),
    "patch_schedule": Row(needs="operate", body={"enabled": False}),
    "delete_schedule": Row(needs="operate", ok=204),
    "run_schedule": Row(needs="operate"),
    "list_webhooks": Row(needs="read", foreign=200),
    "create_webhook": Row(needs="operate", also="read", ok=422, foreign=422, body={"url": "https://127.0.0.1/hook"}),
    "get_webhook": Row(needs="read", ok=404),
    "patch_webhook": Row(needs="operate", ok=404, body={"enabled": False}),
    "delete_webhook": Row(needs="operate", ok=404),
    "rotate_webhook": Row(needs="operate", ok=404),
    "test_webhook": Row(needs="operate", ok=404),
    "list_deliveries": Row(needs="read", ok=404),
    "list_dead_deliveries": Row(needs="read", ok=404),
    "redeliver_event": Row(needs="operate", ok=404),
    "discard_event": Row(needs="operate", ok=404),
    # the daemon
    "get_metrics": Row(needs="read", foreign=200),
    "reload": Row(needs="admin", foreign=403),
    "drain": Row(needs="admin", foreign=403, body={"cancel": True}),
    "shut_down": Row(needs="admin", ok=202, foreign=403, ends=True),
    # credentials
    "whoami": Row(needs="anybody", foreign=200),
    "list_keys": Row(needs="admin", foreign=403),
    "create_key": Row(needs="admin", ok=201, foreign=403, body={"name": "k", "scopes": ["read"]}),
    "revoke_key": Row(needs="admin", ok=204, foreign=403),
    # public
    "get_health": Row(needs=None),
    "get_live": Row(needs=None),
    "get_ready": Row(needs=None),
    "get_openapi": Row(needs=None),
    "get_docs": Row(needs=None),
    "get_docs_script": Row(needs=None),
    "get_docs_style": Row(needs=None),
}  # fmt: skip


@dataclass
class World:
    """What the rows ask for: things of the pool OWN by the name of the path's parameter, each there and used up already
    where that makes the answer the same each time. `fresh` makes those that a request ends.
    """

    target: Target
    there: dict[str, str] = field(default_factory=dict)

    async def make(self) -> None:
        ask = self.target.ask
        for pool in (OWN, FOREIGN):
            await ask("POST", "/api/v1/pools", {"id": pool, "template": {"kind": "probe"}, "max_engines": 100_000})
        await ask("PUT", "/api/v1/engines/matrix", {"kind": "probe", "pool": OWN})
        run = await self.target.run("matrix", {"steps": 1, "ask_at": 1, "ask": {"kind": "approval"}}, wait_s=1)
        (request,) = (await ask("GET", "/api/v1/engines/matrix/requests")).json["items"]
        await ask("POST", f"/api/v1/requests/{request['id']}/reply", {"option": "approve"})
        ended = await self.target.run("matrix", "hello")
        await ask("PUT", f"/api/v1/pools/{OWN}/engines/key")
        await ask("POST", "/api/v1/schedules", {**SCHEDULE, "id": "matrix"})
        self.there = {
            "engine": "matrix", "run": ended["id"], "request": request["id"], "command": run["command_id"],
            "slice": "progress", "pool": OWN, "kind": "probe", "key": "key",
            "webhook": "nobody", "event": "nobody", "schedule": "matrix",
        }  # fmt: skip

    async def fresh(self, operation: str) -> dict[str, str]:
        """The parameters of one request."""
        if operation == "dispose_engine":
            return {"engine": await self.target.engine(pool=OWN, start=False)}
        if operation in {"redeliver", "discard"}:
            return {"letter": await self.letter()}
        if operation == "delete_schedule":
            made = await self.target.ask("POST", "/api/v1/schedules", SCHEDULE)
            return {"schedule": str(made.json["id"])}
        if operation == "revoke_key":
            made = await self.target.ask("POST", "/api/v1/auth/keys", {"name": "k", "scopes": ["read"]})
            return {"key": str(made.json["id"])}
        return self.there

    async def letter(self) -> str:
        """A dead letter in OWN: a run that nobody will do."""
        engine = await self.target.engine(pool=OWN)
        await self.target.ask("POST", f"/api/v1/engines/{engine}/commands", {"type": "pause"})
        run = await self.target.run(engine, wait_s=0)
        await self.target.ask("DELETE", f"/api/v1/engines/{engine}?force=true")
        letters = (await self.target.ask("GET", "/api/v1/dead-letters?limit=1000")).json["items"]
        return next(str(letter["id"]) for letter in letters if letter["run_id"] == run["id"])


def bearer(key: str) -> tuple[str, ...]:
    return (f"Authorization: Bearer {key}",)


async def nothing(world: World) -> Credential:
    return Credential()


async def garbage(world: World) -> Credential:
    return Credential(headers=bearer("eh_000000000000_" + "x" * 43))


async def another_scheme(world: World) -> Credential:
    return Credential(headers=("Authorization: Basic " + "YWRtaW46YWRtaW4=",))


async def expired(world: World) -> Credential:
    return Credential(headers=bearer(await world.target.key("admin", expires_in_s=0.001)))


async def revoked(world: World) -> Credential:
    key = await world.target.key("admin")
    await world.target.ask("DELETE", f"/api/v1/auth/keys/{key.split('_')[1]}")
    return Credential(headers=bearer(key))


async def in_the_other_header(world: World) -> Credential:
    return Credential(headers=(f"X-API-Key: {await world.target.key('read')}",), scopes=frozenset({"read"}))


async def master(world: World) -> Credential:
    return Credential(headers=bearer(world.target.admin), scopes=ALL)


def created(*scopes: str, pools: frozenset[str] | None = None) -> Callable[[World], Awaitable[Credential]]:
    async def make(world: World) -> Credential:
        more = {} if pools is None else {"pools": sorted(pools)}
        return Credential(
            headers=bearer(await world.target.key(*scopes, **more)), scopes=frozenset(scopes), pools=pools
        )

    return make


MAKERS: Final[Mapping[str, Callable[[World], Awaitable[Credential]]]] = {
    "nothing": nothing,
    "garbage": garbage,
    "another scheme": another_scheme,
    "expired": expired,
    "revoked": revoked,
    "the admin key": master,
    "in the other header": in_the_other_header,
    "read": created("read"),
    "operate": created("operate"),
    "approve": created("approve"),
    "read and operate": created("read", "operate"),
    "admin": created("admin"),
}

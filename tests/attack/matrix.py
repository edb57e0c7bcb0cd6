"""Who may what, as data: a row for every route, a maker for every kind of credential, and what follows from both.

What a row says is written here and not read from the route, so that a route that asks for too little contradicts it.
Add a row with every route, and a maker with every kind of credential: a test fails for a route without one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal

from tests.attack.target import Target
from tests.attack.wire import Answer

OWN: Final = "alpha"
"""The pool in which everything lies that the rows ask for."""

FOREIGN: Final = "beta"

Needs = Literal["read", "operate", "approve", "admin", "anybody"] | None
ALL: Final = frozenset({"read", "operate", "approve", "admin"})


@dataclass(frozen=True, kw_only=True)
class Row:
    """One route. `needs`: a scope (and `also` another), `anybody` with good credentials, or None: public.

    `ok`: what whoever may is answered; `bound`: and whoever may, but sees this pool alone; `foreign`: another pool
    alone, or another engine; `own`: an engine, even where it asks of itself; `asks`: the query; `key`: public, but for
    the holder of an API key alone; `ends`: whoever may is not asked, for nothing would be left to ask.
    """

    needs: Needs
    also: Needs = None
    ok: int = 200
    bound: int | None = None
    foreign: int = 404
    own: int | None = None
    body: Any = None
    asks: str = ""
    key: bool = False
    ends: bool = False


@dataclass(frozen=True, kw_only=True)
class Credential:
    """`scopes`: what it allows; None: it is no credential of ours, or not any more. `pools`: None for all of them.

    `methods`: those with which it counts at all; `key`: it is an API key; `engine`: it is an engine's own; `there`:
    what that engine has of what the rows ask for.
    """

    headers: tuple[str, ...] = ()
    scopes: frozenset[str] | None = None
    pools: frozenset[str] | None = None
    methods: frozenset[str] | None = None
    key: bool = False
    engine: bool = False
    there: Mapping[str, str] = field(default_factory=dict)


def expected(row: Row, credential: Credential, method: str) -> int:
    if row.needs is None:
        return row.ok if credential.key or not row.key else 401
    if credential.scopes is None or (credential.methods is not None and method not in credential.methods):
        return 401
    if row.needs != "anybody" and not credential.scopes & {row.needs, "admin"}:
        return 403
    if row.also is not None and not credential.scopes & {row.also, "admin"}:
        return 403
    if credential.engine:
        return row.own or (row.ok if credential.there else row.foreign)
    if credential.pools is None:
        return row.ok
    if OWN not in credential.pools:
        return row.foreign
    return row.ok if row.bound is None else row.bound


NEW: Final = {"kind": "probe", "pool": OWN, "start": False}

PASSWORD: Final = "a password of somebody"

USER: Final = {"name": "login", "password": PASSWORD, "scopes": ["read"]}

SCHEDULE: Final = {"every_s": 86_400, "engine": "matrix", "run": {"input": "hello"}, "enabled": False}

ROWS: Final[Mapping[str, Row]] = {
    # engines
    "spawn_engine": Row(needs="operate", own=404, ok=201, body=NEW),
    "list_engines": Row(needs="read", foreign=200),
    "get_engine": Row(needs="read"),
    "put_engine": Row(needs="operate", ok=409, own=404, body={**NEW, "mailbox_size": 7}),
    "dispose_engine": Row(needs="operate", own=404),
    "get_state": Row(needs="read"),
    "get_slice": Row(needs="read", own=404),
    "get_plan": Row(needs="read"),
    "get_stats": Row(needs="read"),
    "get_history": Row(needs="read"),
    "list_processes": Row(needs="read"),
    "get_why": Row(needs="read"),
    "get_log": Row(needs="read", ok=404),
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
    "get_request": Row(needs="read", own=404),
    "reply_request": Row(needs="approve", ok=409, body={"option": "approve"}),
    # events, as pages
    "stream_events": Row(needs="read", foreign=200, asks="limit=1"),
    "stream_engine_events": Row(needs="read", asks="limit=1"),
    "stream_run_events": Row(needs="read", asks="limit=1"),
    # pools
    "list_pools": Row(needs="read", foreign=200),
    "create_pool": Row(needs="operate", bound=403, own=403, ok=409, foreign=403, body={"id": OWN}),
    "get_pool": Row(needs="read", own=404),
    "patch_pool": Row(needs="operate", bound=403, own=404, body={"max_engines": 100_000}),
    "delete_pool": Row(needs="operate", bound=403, own=404, ok=409),
    "get_or_spawn": Row(needs="operate", own=404),
    "command_pool": Row(needs="operate", own=404, body={"type": "resume"}),
    # the house
    "list_dead_letters": Row(needs="read", foreign=200),
    "redeliver": Row(needs="operate", own=404, ok=410),
    "discard": Row(needs="operate", own=404, ok=204),
    "list_kinds": Row(needs="read", foreign=200),
    "get_kind": Row(needs="read", foreign=200),
    "get_full_health": Row(needs="read", foreign=200),
    "list_audit": Row(needs="admin", foreign=403),
    # what works by itself; there is no webhook in this house, for none may be sent from a test
    "list_schedules": Row(needs="read", foreign=200),
    "create_schedule": Row(needs="operate", own=403, ok=201, foreign=404, body=SCHEDULE),
    "get_schedule": Row(needs="read", own=404),
    "patch_schedule": Row(needs="operate", own=404, body={"enabled": False}),
    "delete_schedule": Row(needs="operate", own=404, ok=204),
    "run_schedule": Row(needs="operate", own=404),
    "list_webhooks": Row(needs="read", foreign=200),
    "create_webhook": Row(needs="operate", own=403, also="read", ok=422, foreign=422, body={"url": "https://127.0.0.1/hook"}),
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
    "rotate_signing_key": Row(needs="admin", foreign=403, ends=True),
    "list_users": Row(needs="admin", foreign=403),
    "create_user": Row(needs="admin", ok=409, foreign=403, body=USER),
    "patch_user": Row(needs="admin", foreign=403, body={"rate_per_min": 700}),
    "remove_user": Row(needs="admin", ok=204, foreign=403),
    "create_ticket": Row(needs="read", foreign=200, body={"path": "/api/v1/events"}),
    "logout": Row(needs="anybody", ok=204, foreign=204, ends=True),
    # coming in; what is wrong with the body is said to everybody, and costs no password
    "login": Row(needs=None, ok=422, body={"username": "login"}),
    "refresh": Row(needs=None, ok=422, body={"refresh_token": 1}),
    "exchange_key": Row(needs=None, key=True),
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
    numbers: Iterator[int] = field(default_factory=count)
    lasting: dict[str, dict[str, str]] = field(default_factory=dict)

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
        await self.user("login", "read")
        self.there = {
            "user": "login",
            "engine": "matrix", "run": ended["id"], "request": request["id"], "command": run["command_id"],
            "slice": "progress", "stream": "stdout", "pool": OWN, "kind": "probe", "key": "key",
            "webhook": "nobody", "event": "nobody", "schedule": "matrix",
        }  # fmt: skip

    async def fresh(self, operation: str, *, refused: bool = False) -> dict[str, str]:
        """The parameters of one request that ends what it is about; `refused`: of one that is to end nothing."""
        if not refused:
            return await self._fresh(operation)
        if operation not in self.lasting:
            self.lasting[operation] = await self._fresh(operation)
        return self.lasting[operation]

    async def _fresh(self, operation: str) -> dict[str, str]:
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
        if operation == "remove_user":
            return {"user": await self.user(f"u{next(self.numbers)}", "read")}
        return {}

    async def user(self, name: str, *scopes: str, **more: Any) -> str:
        """A new user's name."""
        body = {"name": name, "password": PASSWORD, "scopes": list(scopes), "rate_per_min": 1_000_000, **more}
        made = await self.target.ask("POST", "/api/v1/auth/users", body)
        assert made.status == 201, made
        return name

    async def login(self, name: str, **more: Any) -> Answer:
        """With tokens in it."""
        body = {"username": name, "password": PASSWORD, **more}
        answer = await self.target.ask("POST", "/api/v1/auth/login", body, key=None)
        assert answer.status == 200, answer
        return answer

    async def engines_own(self, id: str) -> tuple[str, dict[str, str]]:
        """The token of a new engine in OWN, as its program has it, and what that engine has."""
        with TemporaryDirectory() as folder:
            await self.target.engine("shell", id=id, pool=OWN, config={"api": True, "cwd": folder})
            run = await self.target.run(id, 'printf %s "$ENGINEHOUSE_API_KEY" > token')
            token = (Path(folder) / "token").read_text()
        assert token.startswith("ehe~")
        return token, {"engine": id, "run": run["id"], "command": run["command_id"], "slice": "result"}

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
    return Credential(headers=(f"X-API-Key: {await world.target.key('read')}",), scopes=frozenset({"read"}), key=True)


async def master(world: World) -> Credential:
    return Credential(headers=bearer(world.target.admin), scopes=ALL, key=True)


def created(*scopes: str, pools: frozenset[str] | None = None) -> Callable[[World], Awaitable[Credential]]:
    async def make(world: World) -> Credential:
        more = {} if pools is None else {"pools": sorted(pools)}
        return Credential(
            headers=bearer(await world.target.key(*scopes, **more)), scopes=frozenset(scopes), pools=pools, key=True
        )

    return make


def logged_in(*scopes: str, pools: frozenset[str] | None = None) -> Callable[[World], Awaitable[Credential]]:
    """A user's access token."""

    async def make(world: World) -> Credential:
        more = {} if pools is None else {"pools": sorted(pools)}
        name = await world.user(f"u{next(world.numbers)}", *scopes, **more)
        token = (await world.login(name)).json["access_token"]
        return Credential(headers=bearer(token), scopes=frozenset(scopes), pools=pools)

    return make


async def a_refresh_token(world: World) -> Credential:
    return Credential(headers=bearer((await world.login("login")).json["refresh_token"]))


async def logged_out(world: World) -> Credential:
    token = (await world.login("login")).json["access_token"]
    assert (await world.target.ask("POST", "/api/v1/auth/logout", key=token)).status == 204
    return Credential(headers=bearer(token))


async def removed(world: World) -> Credential:
    name = await world.user(f"u{next(world.numbers)}", "admin")
    token = (await world.login(name)).json["access_token"]
    assert (await world.target.ask("DELETE", f"/api/v1/auth/users/{name}")).status == 204
    return Credential(headers=bearer(token))


async def exchanged(world: World) -> Credential:
    key = await world.target.key("operate")
    token = (await world.target.ask("POST", "/api/v1/auth/api-key", key=key)).json["access_token"]
    return Credential(headers=bearer(token), scopes=frozenset({"operate"}))


async def exchanged_and_revoked(world: World) -> Credential:
    key = await world.target.key("admin")
    token = (await world.target.ask("POST", "/api/v1/auth/api-key", key=key)).json["access_token"]
    await world.target.ask("DELETE", f"/api/v1/auth/keys/{key.split('_')[1]}")
    return Credential(headers=bearer(token))


async def session(world: World) -> Credential:
    """Believed for reading alone."""
    name = await world.user(f"u{next(world.numbers)}", "admin")
    cookie = ((await world.login(name, cookie=True)).header("set-cookie") or "").partition(";")[0]
    return Credential(headers=(f"Cookie: {cookie}",), scopes=ALL, methods=frozenset({"GET", "HEAD"}))


async def session_elsewhere(world: World) -> Credential:
    """As a bearer it is nothing."""
    cookie = ((await world.login("login", cookie=True)).header("set-cookie") or "").partition(";")[0]
    return Credential(headers=bearer(cookie.partition("=")[2]))


async def a_ticket(world: World) -> Credential:
    asked = await world.target.ask("POST", "/api/v1/auth/ticket", {"path": "/api/v1/events"})
    return Credential(headers=bearer(asked.json["ticket"]))


async def engines_own(world: World) -> Credential:
    token, there = await world.engines_own("own")
    return Credential(headers=bearer(token), scopes=frozenset({"read", "operate"}), engine=True, there=there)


async def other_engines(world: World) -> Credential:
    token, _ = await world.engines_own("other")
    return Credential(headers=bearer(token), scopes=frozenset({"read", "operate"}), engine=True)


async def ended_engines(world: World) -> Credential:
    token, _ = await world.engines_own("ended")
    await world.target.ask("DELETE", "/api/v1/engines/ended?force=true")
    return Credential(headers=bearer(token))


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
    "this pool's": created("read", "operate", "approve", pools=frozenset({OWN})),
    "another pool's": created("read", "operate", "approve", pools=frozenset({FOREIGN})),
    "both pools'": created("read", pools=frozenset({OWN, FOREIGN})),
    "who reads": logged_in("read"),
    "who operates": logged_in("operate"),
    "who approves": logged_in("approve"),
    "who administers": logged_in("admin"),
    "who reads another pool": logged_in("read", pools=frozenset({FOREIGN})),
    "a refresh token": a_refresh_token,
    "logged out": logged_out,
    "a removed user's": removed,
    "exchanged": exchanged,
    "exchanged and revoked": exchanged_and_revoked,
    "session": session,
    "session elsewhere": session_elsewhere,
    "a ticket as a key": a_ticket,
    "the engine's own": engines_own,
    "another engine's": other_engines,
    "an ended engine's": ended_engines,
}

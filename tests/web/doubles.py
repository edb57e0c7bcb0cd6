"""What the tests of routes stand on: a house that records what it is asked, and a client that speaks ASGI.

The house answers with what a test put in `gives` (an exception is raised), so a test of a route says which method it
ends in and what becomes of the answer, and nothing about how a house works.
"""

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import trio
from argon2 import PasswordHasher
from jsonschema import Draft202012Validator

from protocol.runs import Priority
from protocol.specs import OnInterrupt, OnStall, Restart
from protocol.wire import Accepted, CommandInfo, DrainInfo, EngineInfo, HealthInfo, MailboxInfo, Page, RunInfo
from supervisor.documents import Documents
from supervisor.house import Caller, Frame
from web.app import Api, create_app
from web.asgi import App, Message
from web.auth import Identity, SigningKeys
from web.auth.passwords import Passwords
from web.guard import Guard
from web.limits import Limits
from web.openapi import document
from web.routes import ROUTES

ADMIN = "an-admin-key-that-is-long-enough-for-everybody"
SPEC: dict[str, Any] = json.loads(json.dumps(document(ROUTES)))
NOW_S = 1_000_000.0
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
NOW = "2026-01-02T03:04:05.678Z"


class RecordingHouse:
    """`asked`: (method, arguments, keyword arguments), in order; `gives`: what each method returns or raises."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.gives: dict[str, Any] = {}
        self.subscriptions: list[Feed] = []
        self.backlog: list[Frame] = []

    def __getattr__(self, name: str) -> Any:
        async def method(*args: Any, **kwargs: Any) -> Any:
            self.asked.append((name, args, kwargs))
            given = self.gives[name]
            if isinstance(given, Exception):
                raise given
            return await given() if callable(given) else given

        return method

    def seen_by(self, authority: Any) -> "RecordingHouse":
        return self

    def events(self, filter: Any, *, after: str | None = None, snapshot: bool = False) -> "Feed":
        self.asked.append(("events", (filter,), {"after": after, "snapshot": snapshot}))
        feed = Feed(self.gives.get("events"), self.backlog)
        self.subscriptions.append(feed)
        return feed

    async def follow(self, run: str, *, after: int = 0) -> AsyncIterator[bytes]:
        for piece in self.gives["follow"]:
            await trio.lowlevel.checkpoint()
            yield piece


class Feed:
    """A subscription that a test feeds. `open`: entered and not left."""

    def __init__(self, error: Exception | None, backlog: list[Frame]) -> None:
        self.open = False
        self._error = error
        self._pending = list(backlog)
        self._lot = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> Self:
        if self._error is not None:
            raise self._error
        self.open = True
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.open = False

    def put(self, *frames: Frame) -> None:
        self._pending += frames
        self._lot.unpark_all()

    async def receive(self) -> list[Frame]:
        while not self._pending:
            await self._lot.park()
        frames, self._pending = self._pending, []
        return frames


class MemoryTable:
    """`Documents` without a disk. `writes`: how often something was put; `fails`: what is raised instead of writing."""

    def __init__(self) -> None:
        self.docs: dict[str, dict[str, Any]] = {}
        self.writes = 0
        self.fails: Exception | None = None

    async def load(self) -> dict[str, Any]:
        return dict(self.docs)

    async def put(self, id: str, doc: Any, caller: Caller | None = None) -> None:
        self._check()
        self.docs[id] = doc
        self.writes += 1
        await trio.lowlevel.checkpoint()

    async def remove(self, id: str, caller: Caller | None = None) -> None:
        self._check()
        del self.docs[id]
        await trio.lowlevel.checkpoint()

    def _check(self) -> None:
        if self.fails is not None:
            raise self.fails


class MemoryTables:
    """Tables without a disk: `tables.of["user"].docs`."""

    def __init__(self) -> None:
        self.of: dict[str, MemoryTable] = {}

    def __call__(self, name: str) -> MemoryTable:
        return self.of.setdefault(name, MemoryTable())


def identity(
    tables: Callable[[str], Documents] | None = None, *, wall: Callable[[], float] = lambda: NOW_S, **more: Any
) -> Identity:
    """Without threads, and with passwords that cost nothing."""
    made: dict[str, Any] = {
        "admin": ADMIN,
        "signing": SigningKeys.fresh(),
        "passwords": Passwords(CHEAP, threads=False),
    }
    return Identity(tables or MemoryTables(), wall=wall, threads=False, **(made | more))


def api(house: Any, *, enable_auth: bool = True, wall: float = NOW_S, **more: Any) -> Api:
    more.setdefault("identity", identity(wall=lambda: wall, enable_auth=enable_auth))
    return create_app(house, wall=lambda: wall, **more)


@dataclass(frozen=True)
class Got:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def slug(self) -> str:
        assert self.headers["content-type"] == "application/problem+json"
        return str(self.json["type"]).removeprefix("/problems/")


@dataclass
class Client:
    """`await client.post("/api/v1/engines", {...})` through the guard, unless `app` has one. `key` None sends none."""

    app: App
    key: str | None = ADMIN
    guard: type[Guard] | None = Guard
    sent: list[tuple[str, str, Got]] = field(default_factory=list)

    async def get(self, path: str, **headers: str) -> Got:
        return await self.ask("GET", path, None, headers)

    async def post(self, path: str, body: Any = None, **headers: str) -> Got:
        return await self.ask("POST", path, body, headers)

    async def put(self, path: str, body: Any = None, **headers: str) -> Got:
        return await self.ask("PUT", path, body, headers)

    async def patch(self, path: str, body: Any = None, **headers: str) -> Got:
        return await self.ask("PATCH", path, body, headers)

    async def delete(self, path: str, **headers: str) -> Got:
        return await self.ask("DELETE", path, None, headers)

    async def ask(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> Got:
        """`body`: bytes as they are, None for none, else a JSON value. Underscores in header names become dashes."""
        messages: list[Message] = []

        async def send(message: Message) -> None:
            await trio.lowlevel.checkpoint()
            messages.append(message)

        # An answer that never ends is a failure, not a test that hangs.
        with trio.fail_after(300):
            await self.run(method, path, body, headers, send)
        start = messages[0]
        got = Got(
            start["status"],
            {name.decode(): value.decode("latin-1") for name, value in start["headers"]},
            b"".join(message.get("body", b"") for message in messages[1:]),
        )
        self.sent.append((method, path, got))
        return got

    def check(self) -> None:
        """Every answer so far is one that the OpenAPI document promises for its route."""
        for method, path, got in self.sent:
            _check(method, path, got)

    async def run(self, method: str, path: str, body: Any, headers: Mapping[str, str], send: Any) -> None:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        fields = {"host": "localhost"} | {name.replace("_", "-").lower(): value for name, value in headers.items()}
        if self.key is not None:
            fields.setdefault("authorization", f"Bearer {self.key}")
        if raw:
            fields.setdefault("content-type", "application/json")
            fields["content-length"] = str(len(raw))
        target, _, query = path.partition("?")
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": target,
            "raw_path": target.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in fields.items()],
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
            "extensions": {},
        }
        inbox = [{"type": "http.request", "body": raw, "more_body": False}]

        async def receive() -> Message:
            await trio.lowlevel.checkpoint()
            if inbox:
                return inbox.pop()
            return await trio.sleep_forever()

        app = self.app if self.guard is None else self.guard(self.app)
        await app(scope, receive, send)


def _check(method: str, path: str, got: Got) -> None:
    target = path.partition("?")[0]
    template = next((p for p in SPEC["paths"] if re.fullmatch(re.sub(r"{\w+}", "[^/]+", p), target)), None)
    if template is None or method.lower() not in SPEC["paths"][template]:
        assert got.status in {404, 405}
        return
    responses = SPEC["paths"][template][method.lower()]["responses"]
    assert str(got.status) in responses, (method, path, got.status)
    if got.body:
        kind = got.headers["content-type"].partition(";")[0]
        schema = responses[str(got.status)]["content"][kind]["schema"]
        value = got.json if "json" in kind else got.body.decode()
        Draft202012Validator({**schema, "components": SPEC["components"]}).validate(value)


def client(house: Any, *, key: str | None = ADMIN, limits: Limits | None = None, **more: Any) -> Client:
    return Client(api(house, limits=limits, **more), key)


def engine(id: str = "a", **more: Any) -> EngineInfo:
    fields: dict[str, Any] = {
        "id": id, "uid": "eng_1", "pool": "default", "kind": "probe", "key": None, "config": {}, "labels": {},
        "restart": Restart(), "mailbox_size": 1000, "idle_s": None, "stall_s": 300.0, "on_stall": OnStall.REPORT,
        "pause_timeout_s": 30.0, "grace_s": 10.0, "boot_s": 30.0, "on_interrupt": OnInterrupt.FAIL, "max_attempts": 3,
        "state": "running", "aim": None, "busy": False, "stalled": False, "pause_slow": None, "draining": False,
        "waiting_for": None, "incarnation": 1, "holds": [],
        "mailbox": MailboxInfo(size=1000, queued=0, in_flight=0, oldest_age_s=None), "active_run": None, "restarts": 0,
        "last_exit": None, "created_at": NOW, "state_since": NOW, "engine_seq": 1, "seq": 1,
    }  # fmt: skip
    return EngineInfo(**(fields | more))


def run(id: str = "run_1", **more: Any) -> RunInfo:
    fields: dict[str, Any] = {
        "id": id, "engine_id": "a", "pool": "default", "status": "queued", "priority": Priority.NORMAL, "input": "hi",
        "result": None, "error": None, "labels": {}, "created_at": NOW, "started_at": None, "finished_at": None,
        "elapsed_s": None, "queue_position": 0, "estimated_completion_at": None, "attempts": 0, "usage": {},
        "digest": None, "retry_of": None, "cancelled_by": None, "reason": None, "command_id": "cmd_1",
        "output_bytes": 0, "seq": 2,
    }  # fmt: skip
    return RunInfo(**(fields | more))


def accepted(type: str = "pause", **more: Any) -> Accepted:
    fields: dict[str, Any] = {"command_id": "cmd_1", "engine_id": "a", "type": type, "state": "accepted", "seq": 2}
    return Accepted(**(fields | more))


def command(type: str = "pause", **more: Any) -> CommandInfo:
    fields: dict[str, Any] = {
        "id": "cmd_1", "engine_id": "a", "type": type, "state": "completed", "principal": "key:admin", "run_id": None,
        "created_at": NOW, "started_at": NOW, "finished_at": NOW, "changed": True, "result": None, "problem": None,
        "seq": 2,
    }  # fmt: skip
    return CommandInfo(**(fields | more))


def health(status: str = "healthy", draining: DrainInfo | None = None, **checks: Any) -> HealthInfo:
    return HealthInfo(status=status, uptime_s=1.5, version="0.1.0", checks=checks, draining=draining)


def page(*items: Any) -> Page[Any]:
    return Page(items=list(items))

"""What is attacked: a real daemon on the loopback, and what one may look at from outside while it is."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import trio

from tests.attack.wire import Answer, Line, check, request
from tests.e2e.daemons import PROGRAM, Daemon
from tests.logs import log_of, logged

ANSWER_S: Final = 60.0
"""How long any answer may take before it counts as none: this machine is shared."""

PROBES_ONLY: Final = (
    "import actors.kinds as kinds; kinds.GROUP = 'none'; kinds.BUILT_IN = {'probe': kinds.BUILT_IN['probe']}; "
    + PROGRAM
)
"""A daemon that can start no program, whatever a fuzzer comes up with: it knows the kind probe alone."""

ROOMY: Final = {
    "ENGINEHOUSE_LIMITS__FAILURES_PER_MIN": "1000000",
    "ENGINEHOUSE_LIMITS__ADDRESS_CONNECTIONS": "100000",
}
"""All attackers come from one address here, and what each of them is answered is to be seen; both limits have tests of
their own."""

NO_BUGS: Final = {"an engine was given up"}
"""What the house logs as an error although it is an engine's."""

BLOCKED_S: Final = 5.0
"""For how long a busy machine may keep the loop from running; the log calls it an error from one second on."""

_numbers = count(1)


class Target:
    """A daemon and its admin. `ask` is a well-behaved client on a new connection; every answer is checked."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon

    @property
    def port(self) -> int:
        return self.daemon.port

    @property
    def admin(self) -> str:
        return self.daemon.key

    @property
    def log(self) -> bytes:
        return log_of(self.daemon.state)

    async def ask(
        self,
        method: str,
        target: str,
        body: Any = None,
        *headers: str,
        key: str | None = "",
        host: str | None = "127.0.0.1",
    ) -> Answer:
        """`body`: bytes as they are, None for none, else JSON; `key`: the admin's when empty, none when None.

        What is not to be sent twice is left out where `headers` name it.
        """
        lines = list(headers)
        named = {line.partition(":")[0].lower() for line in lines}
        if key is not None and "authorization" not in named:
            lines.append(f"Authorization: Bearer {key or self.admin}")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None and "content-type" not in named:
            lines.append("Content-Type: application/json")
        return await self.exchange(request(method, target, *lines, body=body, host=host), method.encode())

    async def exchange(self, sent: bytes, method: bytes = b"GET") -> Answer:
        """One whole answer to these bytes."""
        line = await Line.open(self.port)
        try:
            with trio.fail_after(ANSWER_S):
                await line.send(sent)
                answer = await line.answer(method)
        finally:
            line.close()
        assert answer is not None, f"no answer to {sent[:400]!r}, but {line.received[:400]!r}"
        check(answer)
        return answer

    async def key(self, *scopes: str, **more: Any) -> str:
        """A new key, whose rate is out of the way."""
        body = {"name": "attack", "scopes": list(scopes), "rate_per_min": 1_000_000, **more}
        made = await self.ask("POST", "/api/v1/auth/keys", body)
        assert made.status == 201, made
        return str(made.json["key"])

    async def engine(self, kind: str = "probe", **more: Any) -> str:
        """A new engine's id."""
        body = {"kind": kind, "id": f"e{next(_numbers)}", **more}
        made = await self.ask("POST", "/api/v1/engines", body)
        assert made.status == 201, made
        return str(made.json["id"])

    async def run(self, engine: str, input: Any = "hello", *, wait_s: int = 30) -> dict[str, Any]:
        """A run as it is when it ended, or after `wait_s`; 0 does not wait."""
        prefer = [f"Prefer: wait={wait_s}"] if wait_s else []
        made = await self.ask("POST", f"/api/v1/engines/{engine}/runs", {"input": input}, *prefer)
        assert made.status in {200, 202}, made
        run: dict[str, Any] = made.json
        return run

    async def output(self, run: str) -> bytes:
        return (await self.ask("GET", f"/api/v1/runs/{run}/output")).body

    async def journal(self, **filters: str) -> list[dict[str, Any]]:
        """Every row that the admin may see."""
        rows: list[dict[str, Any]] = []
        after = "0"
        while True:
            query = "&".join(f"{name}={quote(value)}" for name, value in {**filters, "after": after}.items())
            page = (await self.ask("GET", f"/api/v1/events?limit=1000&{query}", None, "Accept: application/json")).json
            if not page["items"]:
                return rows
            rows += page["items"]
            after = page["next_after"]

    async def well(self) -> None:
        """It lives, does what it is there for, and wrote of no bug."""
        assert (await self.ask("GET", "/health/live", key=None)).status == 200
        run = await self.run(await self.engine(), "still there")
        assert run["status"] == "completed", run
        bugs = self.bugs()
        assert not bugs, json.dumps(bugs[0])[:4000]

    def bugs(self) -> list[dict[str, Any]]:
        """What the log calls a fault of ours."""
        return [
            line
            for line in logged(self.daemon.state)
            if line["level"] in {"error", "critical"}
            and line["event"] not in NO_BUGS
            and line.get("blocked_s", BLOCKED_S) >= BLOCKED_S
        ]

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.daemon.pid}/fd").iterdir()))

    def rss_bytes(self) -> int:
        pages = Path(f"/proc/{self.daemon.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def connections(self) -> int:
        """Sockets of the daemon; those of its store and its children are few and constant while nothing starts."""
        found = 0
        for entry in Path(f"/proc/{self.daemon.pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                found += str(entry.readlink()).startswith("socket:")
        return found

    async def settle(self, sockets: int, patience_s: float = 45.0) -> None:
        """Wait until the daemon holds no more sockets than that; the last words of a connection take their time."""
        with trio.move_on_after(patience_s):
            while self.connections() > sockets:  # noqa: ASYNC110 - the kernel tells nobody of another's descriptors
                await trio.sleep(0.1)
        assert self.connections() <= sockets, "sockets that nobody closes"


async def in_parallel(limit: int, work: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Do all of it, at most `limit` at once; the first failure ends the rest."""
    slots = trio.CapacityLimiter(limit)

    async def do(one: Callable[[], Awaitable[None]]) -> None:
        async with slots:
            await one()

    try:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            for one in work:
                nursery.start_soon(do, one)
    except BaseExceptionGroup as group:
        raise _first(group) from None


def _first(error: BaseException) -> BaseException:
    """One failure says more than a hundred that followed from it."""
    while isinstance(error, BaseExceptionGroup):
        error = next((e for e in error.exceptions if not isinstance(e, trio.Cancelled)), error.exceptions[0])
    return error


def started(state: Path, *, env: Mapping[str, str] | None = None, program: str = PROGRAM) -> Target:
    """A daemon for tests that share it; it is ended with `ended`. Its own short `trio.run`, so any fixture may."""
    daemon = Daemon(state, env={**ROOMY, **(env or {})}, program=program)
    trio.run(daemon.start)
    return Target(daemon)


def ended(target: Target) -> None:
    trio.run(target.daemon.end)

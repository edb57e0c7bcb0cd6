"""`RemoteHouse`: every method of `supervisor.house.House` as its request and its answer.

Each method says the path, the body and the shape, and nothing else: what is repeated, what an error is and how a stream
survives is decided once, in `connection` and `subscription`. The principal is the one of the key; a `Caller`'s
`principal` and `digest` are the house's own to make and are not sent.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import trio

from protocol import commands
from protocol.bodies import NewEngine, NewPool, NewRun, PatchPool, PoolCommand, ReplyBody
from protocol.edge import as_json
from protocol.errors import EnginehouseError, RangeNotSatisfiable
from protocol.specs import PauseMode
from protocol.view import Why
from protocol.wire import (
    Accepted,
    CommandInfo,
    DeadLetterInfo,
    Disposed,
    DrainInfo,
    EngineInfo,
    HealthInfo,
    KindInfo,
    LogPage,
    Page,
    PoolInfo,
    PoolResult,
    ProcessTree,
    RequestInfo,
    RunInfo,
    SliceInfo,
    StateInfo,
)
from supervisor.house import NOBODY, Caller, EventPage, Filter, Subscription
from web.client.connection import WAIT_S, Answer, Connection, Retry, opened, path, read
from web.client.errors import Unreachable
from web.client.following import Following
from web.client.subscription import RemoteSubscription

__all__ = ["RemoteHouse", "open_remote"]

T = TypeVar("T")

ALL: Final = Filter()
LONG_S: Final = 3600.0  # how long a dispose may take before the answer is given up
DISPOSERS: Final = 16
_RANGE: Final = re.compile(r"bytes (?:[0-9]+-[0-9]+|\*)/([0-9]+)")


@asynccontextmanager
async def open_remote(
    url: str,
    *,
    api_key: str | None = None,
    retry: Retry | None = None,
    give_up_s: float = 60.0,
    silence_s: float = 60.0,
    ca_file: Path | None = None,
) -> AsyncIterator[RemoteHouse]:
    """The house at `url` (`http://host:port`, `https://...`, `unix:/path`). Nothing is asked until a method is called.

    Args:
        url: its address.
        api_key: sent as a bearer token.
        retry: how often safe requests are repeated, and the delays of streams that reconnect.
        give_up_s: how long a stream looks for a house that went away.
        silence_s: how long a stream may be silent before it is thought broken; more than the house's heartbeat.
        ca_file: the certificates that are believed of an `https` address (PEM); None: the system's.

    Errors of the block leave it bare. Cancelled: connections and streams are closed; what was accepted stays accepted.

    """
    error: BaseException | None = None
    async with opened(url, api_key, retry or Retry(), ca_file) as connection:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            try:
                yield RemoteHouse(connection, nursery, give_up_s=give_up_s, silence_s=silence_s)
            except BaseException as raised:  # noqa: BLE001, ASYNC103 - raised below, not in a group
                error = raised
            finally:
                nursery.cancel_scope.cancel()
        if error is not None:
            raise error


class RemoteHouse:
    """See `supervisor.house.House`; made by `open_remote`. Every method may also raise Unreachable (an Unavailable)."""

    def __init__(
        self, connection: Connection, nursery: trio.Nursery, *, give_up_s: float = 60.0, silence_s: float = 60.0
    ) -> None:
        self._connection = connection
        self._nursery = nursery
        self._give_up_s = give_up_s
        self._silence_s = silence_s

    @property
    def url(self) -> str:
        return self._connection.url

    async def call(
        self,
        method: str,
        *where: str,
        body: object = None,
        key: str | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Any:
        """What this interface has no method for: the answer's JSON, None for an empty one.

        `where`: the parts of the path below `/api/v1`.
        """
        answer = await self._connection.call(
            method, path(*where), body=body, key=key, query=tuple((query or {}).items())
        )
        return answer.json if answer.body else None

    # engines
    async def spawn(self, new: NewEngine, caller: Caller = NOBODY) -> tuple[EngineInfo, Accepted]:
        answer = await self._connection.call("POST", path("engines"), body=new, key=caller.key)
        engine = read(EngineInfo, answer.json)
        accepted = Accepted(
            command_id=answer.json["command_id"], engine_id=engine.id, type="spawn", state="accepted",
            seq=engine.seq, replayed=answer.replayed,
        )  # fmt: skip
        return engine, accepted

    async def put(self, id: str, new: NewEngine, caller: Caller = NOBODY) -> tuple[EngineInfo, bool]:
        answer = await self._connection.call("PUT", path("engines", id), body=new)
        return read(EngineInfo, answer.json), answer.status == 201

    async def get(self, engine: str) -> EngineInfo:
        return await self._get(EngineInfo, "engines", engine)

    async def submit(
        self, engine: str, run: NewRun, caller: Caller = NOBODY, *, wait_s: float | None = None
    ) -> tuple[RunInfo, Accepted]:
        answer = await self._until(path("engines", engine, "runs"), run, caller, wait_s)
        return _submitted(answer)

    async def command(
        self, engine: str, body: Any, caller: Caller = NOBODY, *, wait_s: float | None = None
    ) -> tuple[Accepted, CommandInfo | None]:
        answer = await self._until(path("engines", engine, "commands"), body, caller, wait_s)
        shown = answer.json
        if wait_s is None:
            return replace(read(Accepted, shown), replayed=answer.replayed), None
        if "status" in shown:  # the run of a submit
            shown = (await self._connection.call("GET", path("commands", str(shown["command_id"])))).json
        info = read(CommandInfo, shown)
        accepted = Accepted(
            command_id=info.id, engine_id=info.engine_id, type=info.type, state=info.state, seq=info.seq,
            run_id=info.run_id, replayed=answer.replayed,
        )  # fmt: skip
        return accepted, info if answer.status == 200 else None

    async def start(self, engine: str, caller: Caller = NOBODY) -> Accepted:
        return (await self.command(engine, commands.Start(), caller))[0]

    async def stop(
        self, engine: str, caller: Caller = NOBODY, *, grace_s: float | None = None, reason: str = ""
    ) -> Accepted:
        return (await self.command(engine, commands.Stop(grace_s=grace_s, reason=reason), caller))[0]

    async def restart(self, engine: str, caller: Caller = NOBODY, *, reason: str = "") -> Accepted:
        return (await self.command(engine, commands.Restart(reason=reason), caller))[0]

    async def pause(
        self,
        engine: str,
        caller: Caller = NOBODY,
        *,
        mode: PauseMode | None = None,
        reason: str = "",
        holder: str | None = None,
        wait_s: float | None = None,
    ) -> Accepted:
        body = commands.Pause(mode=mode, reason=reason, holder=holder)
        return (await self.command(engine, body, caller, wait_s=wait_s))[0]

    async def resume(
        self, engine: str, caller: Caller = NOBODY, *, holder: str | None = None, wait_s: float | None = None
    ) -> Accepted:
        return (await self.command(engine, commands.Resume(holder=holder), caller, wait_s=wait_s))[0]

    async def dispose(
        self, engine: str, caller: Caller = NOBODY, *, force: bool = False, grace_s: float | None = None
    ) -> Disposed:
        query = [("force", force), ("grace_s", grace_s)]
        answer = await self._connection.call("DELETE", path("engines", engine), query=query, read_s=LONG_S)
        return read(Disposed, answer.json)

    async def dispose_many(
        self, engines: Sequence[str], caller: Caller = NOBODY, *, force: bool = False, grace_s: float | None = None
    ) -> list[PoolResult]:
        results: dict[str, PoolResult] = {}
        limit = trio.CapacityLimiter(DISPOSERS)

        async def one(engine: str) -> None:
            async with limit:
                try:
                    disposed = await self.dispose(engine, caller, force=force, grace_s=grace_s)
                    results[engine] = PoolResult(id=engine, ok=True, state=disposed.state)
                except EnginehouseError as error:
                    state = str(error.extra.get("state", ""))
                    results[engine] = PoolResult(id=engine, ok=False, state=state, problem=error.problem)

        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            for engine in dict.fromkeys(engines):
                nursery.start_soon(one, engine)
        return [results[engine] for engine in engines]

    # what an engine shows
    async def state(self, engine: str, *, at: int | None = None) -> StateInfo:
        return await self._get(StateInfo, "engines", engine, "state", query=[("at", at)])

    async def slice(self, engine: str, name: str, *, at: int | None = None) -> SliceInfo:
        return await self._get(SliceInfo, "engines", engine, "state", name, query=[("at", at)])

    async def stats(self, engine: str) -> dict[str, Any]:
        return await self._get(dict[str, Any], "engines", engine, "stats")

    async def history(self, engine: str, *, page: int = 1, page_size: int = 50) -> tuple[list[RunInfo], int]:
        query = [("page", page), ("page_size", page_size)]
        answer = await self._connection.call("GET", path("engines", engine, "history"), query=query)
        items: list[RunInfo] = read(Page[RunInfo], answer.json).items
        return items, int(answer.json["total"])

    async def processes(self, engine: str) -> ProcessTree:
        return await self._get(ProcessTree, "engines", engine, "processes")

    async def log(
        self, engine: str, stream: str = "stdout", *, after: str | None = None, limit: int = 1 << 16, wait_s: float = 0
    ) -> LogPage:
        query = [("after", after), ("limit", limit), ("wait_s", wait_s)]
        where = path("engines", engine, "logs", stream)
        answer = await self._connection.call("GET", where, query=query, read_s=wait_s + 30)
        return read(LogPage, answer.json)

    async def why(self, engine: str) -> dict[str, Why]:
        return await self._get(dict[str, Why], "engines", engine, "why")

    async def get_command(self, id: str, *, engine: str | None = None) -> CommandInfo:
        where = ("commands", id) if engine is None else ("engines", engine, "commands", id)
        return await self._get(CommandInfo, *where)

    # runs
    async def runs(
        self,
        *,
        engine: str | None = None,
        pool: str | None = None,
        status: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[RunInfo]:
        query = [("engine", engine), ("pool", pool), ("status", status), ("limit", limit), ("cursor", cursor)]
        return await self._get(Page[RunInfo], "runs", query=query)

    async def run(self, id: str) -> RunInfo:
        return await self._get(RunInfo, "runs", id)

    async def run_events(self, id: str) -> list[dict[str, Any]]:
        answer = await self._connection.call("GET", path("runs", id), query=[("events", True)])
        return read(list[dict[str, Any]], answer.json["events"])

    async def cancel(self, run: str, caller: Caller = NOBODY, *, reason: str = "") -> RunInfo:
        return read(RunInfo, await self._post(caller, {"reason": reason}, "runs", run, "cancel"))

    async def retry(self, run: str, caller: Caller = NOBODY) -> tuple[RunInfo, Accepted]:
        return _submitted(await self._connection.call("POST", path("runs", run, "retry"), key=caller.key))

    async def resume_run(self, run: str, caller: Caller = NOBODY) -> RunInfo:
        return read(RunInfo, await self._post(caller, None, "runs", run, "continue"))

    async def output(self, run: str, *, after: int = 0, limit: int = 1 << 20) -> tuple[bytes, int]:
        headers = {"range": f"bytes={after}-{after + max(limit, 1) - 1}", "accept": "text/plain"}
        try:
            answer = await self._connection.call("GET", path("runs", run, "output"), headers=headers)
        except RangeNotSatisfiable as error:
            if error.extra.get("size_bytes") == after:
                return b"", after
            raise
        if answer.status == 200:
            return answer.body[after : after + limit], len(answer.body)
        total = _RANGE.fullmatch(answer.headers.get("content-range", ""))
        if total is None:
            raise Unreachable("The answer has no readable Content-Range: check that nothing rewrites it on its way.")
        return answer.body[:limit], int(total[1])

    def follow(self, run: str, *, after: int = 0) -> Following:
        """See `House.follow`. Goes on at its offset when the connection or the house went away."""
        return Following(self._connection, run, after=after, give_up_s=self._give_up_s)

    # people
    async def requests(
        self,
        *,
        state: Literal["pending", "decided"] | None = "pending",
        kind: str | None = None,
        pool: str | None = None,
        engine: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[RequestInfo]:
        where = ("requests",) if engine is None else ("engines", engine, "requests")
        query = [("state", state), ("kind", kind), ("pool", pool), ("limit", limit), ("cursor", cursor)]
        return await self._get(Page[RequestInfo], *where, query=query)

    async def request(self, id: str) -> RequestInfo:
        return await self._get(RequestInfo, "requests", id)

    async def reply(self, id: str, reply: ReplyBody, caller: Caller = NOBODY) -> RequestInfo:
        return read(RequestInfo, await self._post(caller, reply, "requests", id, "reply"))

    # pools
    async def pools(self) -> list[PoolInfo]:
        return (await self._get(Page[PoolInfo], "pools")).items

    async def pool(self, id: str) -> PoolInfo:
        return await self._get(PoolInfo, "pools", id)

    async def create_pool(self, new: NewPool, caller: Caller = NOBODY) -> PoolInfo:
        return read(PoolInfo, await self._post(caller, new, "pools"))

    async def patch_pool(self, id: str, patch: PatchPool, members: frozenset[str], caller: Caller = NOBODY) -> PoolInfo:
        body = {name: value for name, value in as_json(patch).items() if name in members}
        return read(PoolInfo, (await self._connection.call("PATCH", path("pools", id), body=body)).json)

    async def delete_pool(self, id: str, caller: Caller = NOBODY, *, force: bool = False) -> None:
        await self._connection.call("DELETE", path("pools", id), query=[("force", force)], read_s=LONG_S)

    async def get_or_spawn(self, pool: str, key: str, caller: Caller = NOBODY) -> tuple[EngineInfo, bool]:
        answer = await self._connection.call("PUT", path("pools", pool, "engines", key))
        return read(EngineInfo, answer.json), answer.status == 201

    async def pool_command(self, id: str, command: PoolCommand, caller: Caller = NOBODY) -> list[PoolResult]:
        where = path("pools", id, "commands")
        answer = await self._connection.call("POST", where, body=command, key=caller.key, read_s=LONG_S)
        return read(list[PoolResult], answer.json["results"])

    # dead letters
    async def dead_letters(
        self, *, engine: str | None = None, pool: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[DeadLetterInfo]:
        query = [("engine", engine), ("pool", pool), ("limit", limit), ("cursor", cursor)]
        return await self._get(Page[DeadLetterInfo], "dead-letters", query=query)

    async def redeliver(self, id: str, caller: Caller = NOBODY) -> Accepted:
        answer = await self._connection.call("POST", path("dead-letters", id, "redeliver"), key=caller.key)
        return replace(read(Accepted, answer.json), replayed=answer.replayed)

    async def discard(self, id: str, caller: Caller = NOBODY) -> None:
        await self._connection.call("DELETE", path("dead-letters", id))

    # events
    def events(self, filter: Filter = ALL, *, after: str | None = None, snapshot: bool = False) -> Subscription:
        where, query = _stream(filter)
        return RemoteSubscription(
            self._connection, self._nursery, where, query, after=after, snapshot=snapshot, retry=self._connection.retry,
            give_up_s=self._give_up_s, silence_s=self._silence_s,
        )  # fmt: skip

    async def event_page(
        self,
        filter: Filter = ALL,
        *,
        after: str | None = None,
        limit: int = 100,
        wait_s: float = 0,
    ) -> EventPage:
        where, query = _stream(filter)
        query = [*query, ("after", after), ("limit", limit), ("wait_s", wait_s)]
        answer = await self._connection.call("GET", where, query=query, read_s=wait_s + 30)
        return read(EventPage, answer.json)

    # the house
    async def kinds(self) -> list[KindInfo]:
        return (await self._get(Page[KindInfo], "kinds")).items

    async def kind(self, name: str) -> KindInfo:
        return await self._get(KindInfo, "kinds", name)

    async def health(self) -> HealthInfo:
        return await self._get(HealthInfo, "health")

    async def drain(self, caller: Caller = NOBODY, *, cancel: bool = False) -> DrainInfo:
        answer = await self._connection.call("POST", path("admin", "drain"), body={"cancel": cancel}, key=caller.key)
        return read(DrainInfo, answer.json)

    async def list(
        self,
        *,
        pool: str | None = None,
        kind: str | None = None,
        state: str | None = None,
        labels: Mapping[str, str] = {},
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[EngineInfo]:
        query = [("pool", pool), ("kind", kind), ("state", state), ("limit", limit), ("cursor", cursor)]
        query += [("label", f"{name}:{value}") for name, value in labels.items()]
        return await self._get(Page[EngineInfo], "engines", query=query)

    # -- within ------------------------------------------------------------------------------------------------------
    async def _get(self, model: type[T], *where: str, query: Sequence[tuple[str, object]] = ()) -> T:
        return read(model, (await self._connection.call("GET", path(*where), query=query)).json)

    async def _post(self, caller: Caller, body: object, *where: str) -> Any:
        return (await self._connection.call("POST", path(*where), body=body, key=caller.key)).json

    async def _until(self, where: str, body: object, caller: Caller, wait_s: float | None) -> Answer:
        """POST; where the house grants no wait as long as `wait_s`, the same under the same key, which waits on."""
        if wait_s is None:
            return await self._connection.call("POST", where, body=body, key=caller.key)
        key = caller.key or self._connection.new_key()
        until = trio.current_time() + wait_s
        while True:
            left_s = max(0.0, until - trio.current_time())
            wait = min(math.ceil(min(left_s, WAIT_S)), WAIT_S)
            answer = await self._connection.call("POST", where, body=body, key=key, wait_s=wait)
            if answer.status != 202 or trio.current_time() >= until or left_s <= WAIT_S:
                return answer


def _submitted(answer: Answer) -> tuple[RunInfo, Accepted]:
    run = read(RunInfo, answer.json)
    accepted = Accepted(
        command_id=run.command_id or "", engine_id=run.engine_id, type="submit", state="accepted", seq=run.seq,
        run_id=run.id, replayed=answer.replayed,
    )  # fmt: skip
    return run, accepted


def _stream(filter: Filter) -> tuple[str, list[tuple[str, object]]]:
    """Where the events of a filter are, and the query that says the rest of it."""
    query: list[tuple[str, object]] = [("types", name) for name in filter.types]
    query += [("slices", name) for name in filter.slices]
    if filter.run is not None:
        return path("runs", filter.run, "events"), query
    if filter.engine is not None:
        return path("engines", filter.engine, "events"), query
    query += [("pool", name) for name in filter.pools] + [("kind", name) for name in filter.kinds]
    return path("events"), query

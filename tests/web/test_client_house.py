"""The client against the real thing: the app on the embedded house, over a socket."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
import trio

from protocol import commands
from protocol.bodies import NewEngine, NewPool, NewRun, PatchPool, PoolCommand, ReplyBody
from protocol.errors import (
    AlreadyDecided,
    EngineDisposed,
    EngineExists,
    IdempotencyMismatch,
    InvalidState,
    NotFound,
    PoolBusy,
    Unauthenticated,
    UnknownSlice,
    ValidationFailed,
)
from protocol.specs import Template
from supervisor import open_supervisor
from supervisor.house import Caller, Filter
from tests.web.doubles import ADMIN, identity
from web.app import create_app
from web.client import RemoteHouse, open_remote
from web.guard import Guard
from web.server import serve
from web.sockets import bind_tcp


@asynccontextmanager
async def remote(tmp_path: Path, *, key: str | None = ADMIN) -> AsyncIterator[RemoteHouse]:
    async with open_supervisor(directory=tmp_path, grace_s=1) as house, trio.open_nursery() as nursery:
        api = create_app(house, identity=identity(), heartbeat_s=1)
        sockets = bind_tcp("127.0.0.1", 0)
        address = sockets[0].getsockname()
        stop = trio.Event()

        async def run() -> None:
            await serve(Guard(api), sockets, shutdown=stop.wait, closing=api.close_streams, grace_s=1)

        nursery.start_soon(run)
        async with open_remote(f"http://127.0.0.1:{address[1]}", api_key=key) as far:
            yield far
        stop.set()


async def test_an_engine_lives_its_life(tmp_path: Path) -> None:
    async with remote(tmp_path) as house:
        engine, accepted = await house.spawn(NewEngine(kind="probe", id="a", labels={"team": "x"}))
        assert (engine.id, accepted.type, accepted.replayed) == ("a", "spawn", False)
        with pytest.raises(EngineExists):
            await house.spawn(NewEngine(kind="probe", id="a"))
        assert (await house.put("a", NewEngine(kind="probe", id="a", labels={"team": "x"})))[1] is False
        done, given = await house.submit("a", NewRun(input="hello"), wait_s=10)
        assert (done.status, done.result["text"], given.run_id) == ("completed", "hello", done.id)
        assert [info.id for info in (await house.list(labels={"team": "x"})).items] == ["a"]
        assert (await house.list(kind="shell")).items == []

        held, record = await house.command("a", commands.Pause(reason="lunch"), wait_s=10)
        assert record is not None
        assert (held.type, record.changed) == ("pause", True)
        assert (await house.get("a")).state == "paused"
        assert (await house.why("a"))["pause"].reason == "lunch"
        await house.resume("a", wait_s=10)
        assert (await house.get_command(held.command_id, engine="a")).id == held.command_id

        assert (await house.slice("a", "progress")).value["step"] >= 1
        assert "progress" in (await house.state("a")).slices
        with pytest.raises(UnknownSlice):
            await house.slice("a", "nothing")
        assert isinstance(await house.stats("a"), dict)
        history, total = await house.history("a")
        assert ([run.id for run in history], total) == ([done.id], 1)
        assert (await house.runs(engine="a", status="completed")).items[0].id == done.id
        assert {event["type"] for event in await house.run_events(done.id)} >= {"run.queued", "run.completed"}

        assert (await house.dispose("a")).state == "disposed"
        assert (await house.dispose("a")).state == "disposed"
        with pytest.raises(EngineDisposed):
            await house.get("a")


async def test_keys_make_one_effect_and_input_is_checked_far_away(tmp_path: Path) -> None:
    async with remote(tmp_path) as house:
        await house.spawn(NewEngine(kind="probe", id="a"))
        first, _ = await house.submit("a", NewRun(input="x"), Caller(key="k"))
        second, accepted = await house.submit("a", NewRun(input="x"), Caller(key="k"))
        assert (second.id, accepted.replayed) == (first.id, True)
        with pytest.raises(IdempotencyMismatch):
            await house.submit("a", NewRun(input="y"), Caller(key="k"))
        with pytest.raises(ValidationFailed) as caught:
            await house.submit("a", NewRun(input={"steps": "many"}))
        assert caught.value.extra["errors"]


async def test_a_wait_that_was_too_short_goes_on_under_its_key(tmp_path: Path) -> None:
    async with remote(tmp_path) as house:
        await house.spawn(NewEngine(kind="probe", id="a"))
        work, caller = NewRun(input={"steps": 15, "step_s": 0.1}), Caller(key="k")
        first, _ = await house.submit("a", work, caller, wait_s=0.5)
        assert first.status == "running"
        again, accepted = await house.submit("a", work, caller, wait_s=20)
        assert (again.id, again.status, accepted.replayed) == (first.id, "completed", True)


async def test_without_its_key_nothing_is_told(tmp_path: Path) -> None:
    async with remote(tmp_path, key="another-key-that-is-long-enough-too") as house:
        with pytest.raises(Unauthenticated):
            await house.health()
        with pytest.raises(Unauthenticated):
            async with house.events():
                pytest.fail("entered")


async def test_output_is_read_in_pieces_and_followed(tmp_path: Path) -> None:
    async with remote(tmp_path) as house:
        await house.spawn(NewEngine(kind="probe", id="a"))
        run, _ = await house.submit("a", NewRun(input={"steps": 5, "step_s": 0.05, "output_bytes": 1000}))
        async with aclosing(house.follow(run.id)) as pieces:
            text = b"".join([piece async for piece in pieces])
        assert len(text) == (await house.run(run.id)).output_bytes
        assert await house.output(run.id, after=10, limit=20) == (text[10:30], len(text))
        assert await house.output(run.id, after=len(text)) == (b"", len(text))
        silent, _ = await house.submit("a", NewRun(input="quiet"), wait_s=10)
        assert await house.output(silent.id) == (b"", 0)


async def test_a_stream_shows_what_happens_and_ends_with_its_run(tmp_path: Path) -> None:
    async with remote(tmp_path) as house:
        await house.spawn(NewEngine(kind="probe", id="a"))
        async with house.events(Filter(engine="a", types=("run",))) as stream:
            run, _ = await house.submit("a", NewRun(input={"steps": 2, "output_bytes": 10}))
            types: list[str] = []
            while "run.completed" not in types:
                types += [frame.event for frame in await stream.receive()]
        durable = [name for name in types if name not in {"run.output", "run.progress"}]
        assert (durable[:2], durable[-1]) == (["run.queued", "run.started"], "run.completed")
        async with house.events(Filter(run=run.id), after="0") as stream:
            frames = await stream.receive()
            with pytest.raises(trio.EndOfChannel):
                while True:
                    frames += await stream.receive()
        assert frames[-1].event == "end"
        async with house.events(Filter(run=run.id), after=frames[-1].id) as stream:
            with pytest.raises(trio.EndOfChannel):
                while True:
                    assert [frame.event for frame in await stream.receive()] == ["end"]
        async with house.events(snapshot=True) as stream:
            (snapshot,) = await stream.receive()
            assert (snapshot.event, b'"a"' in snapshot.data) == ("snapshot", True)


async def test_pages_of_the_journal_say_where_to_go_on(tmp_path: Path) -> None:
    async with remote(tmp_path) as house:
        await house.spawn(NewEngine(kind="probe", id="a"))
        await house.submit("a", NewRun(input="x"), wait_s=10)
        whole = await house.event_page(after="0", limit=1000, wait_s=1)
        first = await house.event_page(after="0", limit=2, wait_s=1)
        rest = await house.event_page(after=first.next_after, limit=1000, wait_s=1)
        assert first.items + rest.items == whole.items
        assert len(first.items) == 2


async def test_a_person_is_asked_and_decides_once(tmp_path: Path) -> None:
    options = [{"id": "go", "kind": "allow_once", "label": "Go"}, {"id": "no", "kind": "reject_once", "label": "No"}]
    ask = {"kind": "approval", "title": "Deploy?", "options": options}
    async with remote(tmp_path) as house:
        await house.spawn(NewEngine(kind="probe", id="a"))
        async with house.events(Filter(types=("request",))) as stream:
            run, _ = await house.submit("a", NewRun(input={"steps": 1, "ask_at": 1, "ask": ask}))
            assert (await stream.receive())[0].event == "request.opened"
        (request,) = (await house.requests()).items
        assert (request.title, request.run_id) == ("Deploy?", run.id)
        decided = await house.reply(request.id, ReplyBody(option="go"))
        assert decided.state == "answered"
        with pytest.raises(AlreadyDecided):
            await house.reply(request.id, ReplyBody(option="no"))
        assert [one.id for one in (await house.requests(state="decided", engine="a")).items] == [request.id]
        assert (await house.request(request.id)).decision is not None


async def test_runs_are_cancelled_and_given_again(tmp_path: Path) -> None:
    async with remote(tmp_path) as house:
        await house.spawn(NewEngine(kind="probe", id="a"))
        run, _ = await house.submit("a", NewRun(input={"steps": 1000, "step_s": 0.05}))
        await house.cancel(run.id, reason="enough")
        async with house.events(Filter(run=run.id), after="0") as stream:
            with pytest.raises(trio.EndOfChannel):
                while True:
                    await stream.receive()
        ended = await house.run(run.id)
        assert (ended.status, ended.reason) == ("cancelled", "enough")
        again, accepted = await house.retry(run.id)
        assert (again.retry_of, accepted.run_id) == (run.id, again.id)
        with pytest.raises(InvalidState):
            await house.resume_run(run.id)


async def test_pools_have_templates_and_are_commanded_as_one(tmp_path: Path) -> None:
    async with remote(tmp_path) as house:
        await house.create_pool(NewPool(id="p", template=Template(kind="probe")))
        engine, created = await house.get_or_spawn("p", "issue 7")
        assert (created, (await house.get_or_spawn("p", "issue 7"))[0].id) == (True, engine.id)
        assert (await house.patch_pool("p", PatchPool(max_engines=5), frozenset({"max_engines"}))).max_engines == 5
        assert (await house.pool("p")).template == Template(kind="probe")
        results = await house.pool_command("p", PoolCommand(type="pause", reason="night"))
        assert [(result.id, result.ok) for result in results] == [(engine.id, True)]
        with pytest.raises(PoolBusy):
            await house.delete_pool("p")
        await house.delete_pool("p", force=True)
        assert [pool.id for pool in await house.pools()] == ["default"]


async def test_kinds_health_and_what_is_not_there(tmp_path: Path) -> None:
    async with remote(tmp_path) as house:
        assert "probe" in [kind.kind for kind in await house.kinds()]
        assert (await house.kind("probe")).default_pause_mode == "soft"
        assert (await house.health()).status == "healthy"
        assert (await house.dead_letters()).items == []
        assert (await house.call("GET", "auth", "whoami"))["principal"] == "key:admin"
        for nothing in (
            house.get("x"),
            house.run("run_x"),
            house.request("req_x"),
            house.kind("x"),
            house.redeliver("x"),
        ):
            with pytest.raises(NotFound):
                await nothing

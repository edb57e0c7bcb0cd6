"""Pools are tenants: what lies in a pool that somebody does not see is not there, whatever they ask and however."""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from protocol.authority import Authority, Scope
from protocol.bodies import PatchPool, PoolCommand, ReplyBody
from protocol.commands import Pause, Signal, Start
from protocol.errors import EngineExists, EnginehouseError, InsufficientScope, NotFound, Unauthenticated
from protocol.specs import PauseMode
from supervisor import Caller, EmbeddedHouse, NewEngine, NewPool, NewRun
from supervisor.house import Filter, House
from supervisor.store.memory import Journal
from tests.supervisor.houses import KINDS, a_house, journaled, run_until, spawn, submit, until

ALL = frozenset({Scope.READ, Scope.OPERATE, Scope.APPROVE})
OURS = Authority(scopes=ALL, pools=frozenset({"ours"}))
ASKS = {"ask_at": 1, "ask": {"kind": "approval", "title": "may I?"}}


def caller(authority: Authority, **members: Any) -> Caller:
    return Caller(principal="user:eve", standing=lambda: authority, **members)


class World:
    """A house with an engine in each of two pools; in `theirs` a run that asks, a run that ended and a dead letter."""

    def __init__(self, house: EmbeddedHouse) -> None:
        self.house = house
        self.run = self.request = self.letter = self.command = ""

    async def fill(self) -> None:
        house = self.house
        for pool in ("ours", "theirs"):
            await house.create_pool(NewPool(id=pool))
        await spawn(house, "mine", "probe", pool="ours")
        await spawn(house, "yours", "probe", pool="theirs")
        await spawn(house, "gone", "probe", pool="theirs")
        signal, _ = await house.command("gone", Pause())
        await house.command("gone", Signal(name="hello"))
        await house.dispose("gone", force=True)
        self.run = await submit(house, "yours", ASKS)
        self.command = signal.command_id
        await run_until(house, self.run, "waiting")
        self.request = (await house.requests()).items[0].id
        self.letter = (await house.dead_letters()).items[0].id


@pytest.fixture
async def world(autojump_clock: MockClock, nursery: trio.Nursery) -> AsyncIterator[World]:
    async with a_house(kinds=KINDS, threads=False) as house:
        world = World(house)
        await world.fill()
        yield world


async def drained(subscription: Any) -> None:
    async with subscription:
        await subscription.receive()


async def followed(pieces: Any) -> None:
    async with aclosing(pieces):
        async for _ in pieces:
            return


Ask = Callable[[World, House, Caller], Awaitable[Any]]

# Every method of a house that names something of somebody else's.
NOT_THERE: dict[str, Ask] = {
    "spawn": lambda w, h, c: h.spawn(NewEngine(kind="probe", pool="theirs"), c),
    "get": lambda w, h, c: h.get("yours"),
    "get a disposed one": lambda w, h, c: h.get("gone"),
    "submit": lambda w, h, c: h.submit("yours", NewRun(input="x"), c),
    "command": lambda w, h, c: h.command("yours", Start(), c),
    "command a disposed one": lambda w, h, c: h.command("gone", Start(), c),
    "start": lambda w, h, c: h.start("yours", c),
    "stop": lambda w, h, c: h.stop("yours", c),
    "restart": lambda w, h, c: h.restart("yours", c),
    "pause": lambda w, h, c: h.pause("yours", c),
    "resume": lambda w, h, c: h.resume("yours", c),
    "dispose": lambda w, h, c: h.dispose("yours", c, force=True),
    "dispose again": lambda w, h, c: h.dispose("gone", c),
    "state": lambda w, h, c: h.state("yours"),
    "slice": lambda w, h, c: h.slice("yours", "progress"),
    "stats": lambda w, h, c: h.stats("yours"),
    "processes": lambda w, h, c: h.processes("yours"),
    "log": lambda w, h, c: h.log("yours"),
    "why": lambda w, h, c: h.why("yours"),
    "history": lambda w, h, c: h.history("yours"),
    "get_command": lambda w, h, c: h.get_command(w.command),
    "run": lambda w, h, c: h.run(w.run),
    "run_events": lambda w, h, c: h.run_events(w.run),
    "cancel": lambda w, h, c: h.cancel(w.run, c),
    "retry": lambda w, h, c: h.retry(w.run, c),
    "resume_run": lambda w, h, c: h.resume_run(w.run, c),
    "output": lambda w, h, c: h.output(w.run),
    "follow": lambda w, h, c: followed(h.follow(w.run)),
    "runs of an engine": lambda w, h, c: h.runs(engine="yours"),
    "request": lambda w, h, c: h.request(w.request),
    "reply": lambda w, h, c: h.reply(w.request, ReplyBody(option="approve"), c),
    "requests of an engine": lambda w, h, c: h.requests(engine="yours"),
    "redeliver": lambda w, h, c: h.redeliver(w.letter, c),
    "discard": lambda w, h, c: h.discard(w.letter, c),
    "dead_letters of an engine": lambda w, h, c: h.dead_letters(engine="yours"),
    "pool": lambda w, h, c: h.pool("theirs"),
    "patch_pool": lambda w, h, c: h.patch_pool("theirs", PatchPool(), frozenset(), c),
    "delete_pool": lambda w, h, c: h.delete_pool("theirs", c, force=True),
    "get_or_spawn": lambda w, h, c: h.get_or_spawn("theirs", "k", c),
    "pool_command": lambda w, h, c: h.pool_command("theirs", PoolCommand(type="pause"), c),
    "events of an engine": lambda w, h, c: drained(h.events(Filter(engine="yours"))),
    "events of a run": lambda w, h, c: drained(h.events(Filter(run=w.run))),
    "event_page of an engine": lambda w, h, c: h.event_page(Filter(engine="yours"), after="0"),
    "event_page of a run": lambda w, h, c: h.event_page(Filter(run=w.run), after="0"),
}
# What concerns no engine of somebody else's, or is looked at by a test of its own below.
ELSEWHERE = {"put", "list", "runs", "requests", "dead_letters", "pools", "create_pool", "dispose_many", "events",
             "event_page", "kinds", "kind", "health", "drain"}  # fmt: skip


def test_every_method_of_a_house_is_looked_at() -> None:
    methods = {name for name, _ in inspect.getmembers(House, inspect.isfunction) if not name.startswith("_")}
    assert methods == {ask.partition(" ")[0] for ask in NOT_THERE} | ELSEWHERE


@pytest.mark.parametrize("ask", NOT_THERE)
async def test_what_lies_in_another_pool_is_not_there(world: World, autojump_clock: MockClock, ask: str) -> None:
    before = await journaled(world.house.supervisor.store)
    with pytest.raises(NotFound):
        await NOT_THERE[ask](world, world.house.seen_by(OURS), caller(OURS))
    assert len(await journaled(world.house.supervisor.store)) == len(before)


@pytest.mark.parametrize("ask", NOT_THERE)
async def test_it_is_there_for_those_who_see_the_pool(world: World, autojump_clock: MockClock, ask: str) -> None:
    theirs = Authority(scopes=ALL, pools=frozenset({"theirs"}))
    with trio.move_on_after(60):
        try:
            await NOT_THERE[ask](world, world.house.seen_by(theirs), caller(theirs))
        except EnginehouseError as error:
            there = "slice" in error.slug or "keep no log" in str(error)
            assert not isinstance(error, NotFound) or there  # noqa: PT017 - most succeed


async def test_lists_hold_what_is_seen_alone(world: World, autojump_clock: MockClock) -> None:
    for authority, engines, runs in (
        (OURS, ["mine"], 0),
        (Authority(scopes=ALL, pools=frozenset({"theirs"})), ["yours"], 1),
        (Authority(scopes=ALL, pools=frozenset()), [], 0),
        (Authority(scopes=ALL), ["mine", "yours"], 1),
    ):
        house = world.house.seen_by(authority)
        assert [e.id for e in (await house.list()).items] == engines
        assert [e.id for e in (await house.list(pool="theirs")).items] == [e for e in engines if e == "yours"]
        found = ((await house.runs()).items, (await house.requests()).items, (await house.dead_letters()).items)
        assert [len(items) for items in found] == [runs, runs, runs]
        assert len((await house.runs(pool="theirs")).items) == runs
        pools = {"ours", "theirs", "default"} if authority.pools is None else authority.pools
        assert {pool.id for pool in await house.pools()} == pools
        assert (await house.health()).checks["engines"].get("running", 0) == len(engines)


async def test_streams_and_replays_hold_what_is_seen_alone(world: World, autojump_clock: MockClock) -> None:
    house = world.house.seen_by(OURS)
    await world.house.note("webhook.disabled", {"webhook": "whk_yours"})  # of the whole house
    page = await house.event_page(after="0", limit=1000)
    assert {item.get("engine_id") for item in page.items} == {"mine"}
    async with house.events(after="0") as backlog:
        frames = await backlog.receive()
        assert b"yours" not in b"".join(frame.data for frame in frames)
    async with house.events(snapshot=True) as live:
        (snapshot,) = await live.receive()
        assert b"yours" not in snapshot.data
        assert b"mine" in snapshot.data
        await world.house.pause("yours")
        await world.house.pause("mine")
        assert b"yours" not in b"".join(frame.data for frame in await live.receive())


async def test_an_id_that_somebody_else_has_is_taken_and_no_more_is_said(
    world: World, autojump_clock: MockClock
) -> None:
    house = world.house.seen_by(OURS)
    with pytest.raises(EngineExists):
        await house.put("yours", NewEngine(kind="probe", pool="ours"), caller(OURS))
    with pytest.raises(EngineExists):
        await house.spawn(NewEngine(kind="probe", id="yours", pool="ours"), caller(OURS))


async def test_a_pool_that_is_not_seen_is_told_from_none_by_nobody(world: World, autojump_clock: MockClock) -> None:
    house = world.house.seen_by(OURS)
    said = []
    for pool in ("theirs", "nowhere"):
        asked: list[Callable[[str], Awaitable[Any]]] = [
            lambda pool: house.spawn(NewEngine(kind="probe", pool=pool), caller(OURS)),
            lambda pool: house.put("new", NewEngine(kind="probe", pool=pool), caller(OURS)),
            lambda pool: house.get_or_spawn(pool, "k", caller(OURS)),
            house.pool,
        ]
        for ask in asked:
            with pytest.raises(NotFound) as error:
                await ask(pool)
            said.append(error.value.detail.replace(pool, "it"))
    assert len(set(said)) == 1


async def test_what_concerns_the_whole_house_is_not_for_tenants(world: World, autojump_clock: MockClock) -> None:
    house = world.house.seen_by(OURS)
    for ask in (
        lambda: house.create_pool(NewPool(id="new"), caller(OURS)),
        lambda: house.patch_pool("ours", PatchPool(max_engines=10_000), frozenset({"max_engines"}), caller(OURS)),
        lambda: house.delete_pool("ours", caller(OURS), force=True),
        lambda: house.drain(caller(OURS)),
        lambda: house.drain(caller(replace(OURS, scopes=frozenset({Scope.ADMIN})))),
    ):
        with pytest.raises(InsufficientScope):
            await ask()


async def test_an_engines_own_token_sees_and_operates_its_engine_alone(world: World, autojump_clock: MockClock) -> None:
    uid = (await world.house.get("yours")).uid
    own = Authority(scopes=ALL | {Scope.ADMIN}, pools=frozenset({"theirs"}), engine=uid)
    house, eve = world.house.seen_by(own), caller(own)
    assert [e.id for e in (await house.list()).items] == ["yours"]
    assert [r.id for r in (await house.runs()).items] == [world.run]
    await house.command("yours", Signal(name="hello"), eve)
    with pytest.raises(InsufficientScope):
        await house.reply(world.request, ReplyBody(option="approve"), eve)
    for ask in (
        lambda: house.get("mine"),
        lambda: house.start("mine", eve),
        lambda: house.spawn(NewEngine(kind="probe", pool="theirs"), eve),
        lambda: house.pool_command("theirs", PoolCommand(type="pause"), eve),
    ):
        with pytest.raises(NotFound):
            await ask()


async def test_an_engines_own_token_does_not_lift_what_people_hold(world: World, autojump_clock: MockClock) -> None:
    uid = (await world.house.get("mine")).uid
    own = Authority(scopes=ALL, pools=frozenset({"ours"}), engine=uid)
    house, itself = world.house.seen_by(own), Caller(principal=f"engine:{uid}", standing=lambda: own)
    await house.pause("mine", itself)
    await house.resume("mine", itself)
    await world.house.pause("mine", caller(OURS))
    touching: list[Callable[[], Awaitable[Any]]] = [
        lambda: house.resume("mine", itself, holder="*"),
        lambda: house.resume("mine", itself, holder="user:eve"),
        lambda: house.pause("mine", itself, holder="user:eve", mode=PauseMode.INTERRUPT),
    ]
    for ask in touching:
        with pytest.raises(InsufficientScope):
            await ask()
    await house.resume("mine", itself)
    assert [hold.holder for hold in (await world.house.get("mine")).holds] == ["user:eve"]


async def test_authority_is_asked_when_the_command_is_journaled(autojump_clock: MockClock) -> None:
    """A key that was good when the request came in, and is revoked before its command is journaled, does nothing."""

    def revoked() -> Authority:
        raise Unauthenticated("Use another key: this one was revoked.")

    journal = Journal()
    async with a_house(journal, kinds=KINDS) as house:
        await spawn(house, "a")
        rows = len(await journaled(house.supervisor.store))
        late = Caller(principal="key:1", standing=revoked)
        for ask in (
            lambda: house.submit("a", NewRun(input=1), late),
            lambda: house.pause("a", late),
            lambda: house.spawn(NewEngine(kind="sleeper"), late),
            lambda: house.create_pool(NewPool(id="p"), late),
            lambda: house.put_document("t", "d", {}, late),
            lambda: house.dispose("a", late),
        ):
            with pytest.raises(Unauthenticated):
                await ask()
        assert len(await journaled(house.supervisor.store)) == rows
        await until(house, "a", "running")


async def test_the_parsed_command_says_which_scope_it_needs(world: World, autojump_clock: MockClock) -> None:
    reads, operates = (Authority(scopes=frozenset({scope})) for scope in (Scope.READ, Scope.OPERATE))
    with pytest.raises(InsufficientScope):
        await world.house.pause("yours", caller(reads))
    with pytest.raises(InsufficientScope):
        await world.house.reply(world.request, ReplyBody(option="approve"), caller(operates))
    approves = Authority(scopes=frozenset({Scope.APPROVE}))
    with pytest.raises(InsufficientScope):
        await world.house.pause("yours", caller(approves))
    assert (await world.house.reply(world.request, ReplyBody(option="approve"), caller(approves))).decision is not None

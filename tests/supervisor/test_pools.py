"""Pools: what engines that belong together share, and what is done to them as one."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors.engine import Engine, RunInput
from protocol.bodies import NewPool, PatchPool, PoolCommand
from protocol.edge import dump
from protocol.errors import Draining, EngineExists, NotFound, PoolBusy, QuotaExceeded, ValidationFailed
from protocol.events import Row
from protocol.specs import Backoff, Quotas, Restart, Strategy, Template
from protocol.writes import Write
from supervisor import Caller, EmbeddedHouse, NewEngine, NewRun
from supervisor.store.memory import Journal, MemoryStore
from tests.supervisor.houses import ALICE, KINDS, a_house, journaled, run_until, spawn, submit, until

SOON = Restart(backoff=Backoff(min_s=1, max_s=1, jitter=0))


class Recording(MemoryStore):
    """Remembers the writes as they were submitted."""

    def __init__(self, journal: Journal | None = None) -> None:
        super().__init__(journal)
        self.writes: list[Write] = []

    def submit(self, write: Write) -> None:
        self.writes.append(write)
        super().submit(write)


async def a_pool(house: EmbeddedHouse, *engines: str, kind: str = "probe", **pool: Any) -> None:
    """Pool `p` with these engines, up."""
    await house.create_pool(NewPool(id="p", **pool))
    for engine in engines:
        await spawn(house, engine, kind, pool="p", restart=SOON, max_attempts=1)


async def crash(house: EmbeddedHouse, engine: str) -> None:
    await house.submit(engine, NewRun(input={"crash_at": 0}))


async def incarnations(house: EmbeddedHouse) -> dict[str, tuple[str, int]]:
    return {i.id: (i.state, i.incarnation) for i in (await house.list(pool="p")).items}


async def engine_rows(house: EmbeddedHouse, after: int) -> list[tuple[str, str]]:
    rows = await house.supervisor.store.read(after=after)
    return [(row.engine_id, row.type.partition(".")[2]) for row in rows if row.type.startswith("engine.")]


# -- strategies --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "strategy, again",
    [
        (Strategy.ONE_FOR_ONE, {"b"}),
        (Strategy.ONE_FOR_ALL, {"a", "b", "c"}),
        (Strategy.REST_FOR_ONE, {"b", "c"}),
    ],
)
async def test_who_restarts_when_one_crashes(autojump_clock: MockClock, strategy: Strategy, again: set[str]) -> None:
    async with a_house() as house:
        await a_pool(house, "a", "b", "c", strategy=strategy)
        await spawn(house, "elsewhere", "probe")
        await crash(house, "b")
        await until(house, "b", "backing_off")
        await trio.sleep(5)
        assert await incarnations(house) == {e: ("running", 2 if e in again else 1) for e in ("a", "b", "c")}
        assert (await house.get("elsewhere")).incarnation == 1
        assert (await house.get("b")).restarts == 1
        assert (await house.get("a")).restarts == 0  # counted once, for the one that crashed


async def test_a_restart_of_a_group_is_one_write(autojump_clock: MockClock) -> None:
    store = Recording()
    async with a_house(store=store) as house:
        await a_pool(house, "a", "b", "c", strategy=Strategy.ONE_FOR_ALL)
        await crash(house, "b")
        await until(house, "b", "backing_off")
        (write,) = [w for w in store.writes if any(row.type == "engine.crashed" for row in w.rows)]
        assert [(r.engine_id, r.type) for r in write.rows if r.type.startswith("engine.")] == [
            ("b", "engine.crashed"), ("c", "engine.stopping"), ("a", "engine.stopping"),
        ]  # fmt: skip
        assert [row.seq for row in write.rows] == list(range(write.rows[0].seq, write.rows[0].seq + len(write.rows)))
        await trio.sleep(5)
        assert {i: s for i, (s, _) in (await incarnations(house)).items()} == dict.fromkeys("abc", "running")
        for engine in "abc":  # the rows of the others were theirs: barriers and back-pressure still count right
            cell = house.supervisor.cell(engine)
            assert (cell.rows_ahead, cell.bytes_ahead) == (0, 0)
            run, _ = await house.submit(engine, NewRun(input={}), wait_s=5)
            assert run.status == "completed"


async def test_a_held_engine_of_the_group_stays_held(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await a_pool(house, "a", "b", strategy=Strategy.ONE_FOR_ALL)
        await house.pause("a", ALICE, wait_s=5)
        await crash(house, "b")
        await trio.sleep(5)
        assert await incarnations(house) == {"a": ("paused", 1), "b": ("running", 2)}
        await house.resume("a", ALICE)
        await until(house, "a", "running")
        assert (await house.get("a")).incarnation == 2


@pytest.mark.parametrize("strategy", list(Strategy))
async def test_past_the_pools_intensity_the_engine_fails_and_its_group_stops(
    autojump_clock: MockClock, strategy: Strategy
) -> None:
    async with a_house() as house:
        await a_pool(house, "a", "b", "c", strategy=strategy, max_restarts=2, window_s=100.0)
        await spawn(house, "elsewhere", "probe")
        for _ in range(2):
            await crash(house, "b")
            await until(house, "b", "backing_off")
            await trio.sleep(5)
        await crash(house, "b")
        await until(house, "b", "failed")
        await trio.sleep(5)
        group = {Strategy.ONE_FOR_ONE: set(), Strategy.ONE_FOR_ALL: {"a", "c"}, Strategy.REST_FOR_ONE: {"c"}}[strategy]
        states = {i: s for i, (s, _) in (await incarnations(house)).items()}
        assert states == {"b": "failed"} | {e: "stopped" if e in group else "running" for e in "ac"}
        for engine in group:
            assert "intensity of pool p" in ((await house.why(engine))["stop"].reason or "")
        assert (await house.get("elsewhere")).state == "running"


async def test_the_pools_window_slides(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await a_pool(house, "a", "b", max_restarts=1, window_s=10.0)
        await crash(house, "a")
        await trio.sleep(11)
        await crash(house, "b")
        await trio.sleep(5)
        assert await incarnations(house) == {"a": ("running", 2), "b": ("running", 2)}
        await crash(house, "a")
        await until(house, "a", "failed")


async def test_a_group_that_backs_off_is_stopped_too(autojump_clock: MockClock) -> None:
    slow = Restart(backoff=Backoff(min_s=30, max_s=30, jitter=0))
    async with a_house() as house:
        await house.create_pool(NewPool(id="p", strategy=Strategy.ONE_FOR_ALL, max_restarts=1, window_s=100.0))
        for engine in ("a", "b"):
            await spawn(house, engine, "probe", pool="p", restart=slow, max_attempts=1)
        await crash(house, "a")
        await until(house, "a", "backing_off")
        await until(house, "b", "running")
        await crash(house, "b")
        await until(house, "b", "failed")
        await trio.sleep(100)
        assert await incarnations(house) == {"a": ("stopped", 1), "b": ("failed", 2)}


# -- places ------------------------------------------------------------------------------------------------------------
async def test_places_are_given_in_the_order_of_acceptance(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await a_pool(house, "a", max_running=1)
        for engine in ("b", "c", "d"):
            await spawn(house, engine, "probe", pool="p", start=False)
        accepted = {}
        for engine in ("d", "b", "c"):
            accepted[engine] = await house.start(engine)
            info = await house.get(engine)
            assert (info.state, info.waiting_for) == ("stopped", "place")
            assert (await house.get_command(accepted[engine].command_id)).state == "accepted"
        assert (await house.pool("p")).running == 1
        order = ["a"]
        for _ in range(3):
            await house.stop(order[-1])
            await trio.sleep(1)
            (up,) = (await house.list(pool="p", state="running")).items
            order.append(up.id)
            assert up.waiting_for is None
            assert (await house.get_command(accepted[up.id].command_id)).state == "completed"
        assert order == ["a", "d", "b", "c"]


async def test_a_backoff_and_a_wake_wait_for_a_place_and_keep_their_state(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await a_pool(house, "a", "b", max_running=2)
        await spawn(house, "sleepy", "probe", pool="p", start=False)
        await crash(house, "a")
        await until(house, "a", "backing_off")
        await house.start("sleepy")  # takes the place that the crash left
        await trio.sleep(5)
        info = await house.get("a")
        assert (info.state, info.waiting_for) == ("backing_off", "place")
        await house.stop("b")
        await until(house, "a", "running")
        assert (await house.get("a")).waiting_for is None


async def test_raising_max_running_gives_places(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await a_pool(house, "a", max_running=1)
        for engine in ("b", "c"):
            await house.spawn(NewEngine(kind="probe", id=engine, pool="p"))
        assert (await house.get("b")).waiting_for == "place"
        await house.patch_pool("p", PatchPool(max_running=None), frozenset({"max_running"}))
        await until(house, "b", "running")
        await until(house, "c", "running")


async def test_an_engine_that_waits_for_a_place_can_be_disposed(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await a_pool(house, "a", max_running=1)
        for engine in ("b", "c"):
            await house.spawn(NewEngine(kind="probe", id=engine, pool="p"))
        await house.dispose("b")
        await house.stop("a")
        await until(house, "c", "running")
        assert all(not view.owed for view in house.supervisor.views.values())


# -- idleness ----------------------------------------------------------------------------------------------------------
async def test_idle_engines_of_a_pool_go_dormant(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await a_pool(house, "a", idle_s=10.0)
        await spawn(house, "own", "probe", pool="p", idle_s=50.0)
        await trio.sleep(9)
        await submit(house, "a", {})
        await trio.sleep(9)
        assert (await house.get("a")).state == "running"
        await trio.sleep(2)
        assert (await house.get("a")).state == "dormant"
        assert (await house.get("own")).state == "running"
        await trio.sleep(40)
        assert (await house.get("own")).state == "dormant"


async def test_engines_idle_past_expire_s_are_disposed(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await a_pool(house, "idle", "worker", "held", expire_s=100.0)
        await spawn(house, "elsewhere", "probe")
        await house.pause("held", ALICE)
        run = await submit(house, "worker", {"step_s": 300})
        await trio.sleep(99)
        assert (await house.get("idle")).state == "running"
        await trio.sleep(2)
        assert [i.id for i in (await house.list()).items] == ["worker", "held", "elsewhere"]
        await run_until(house, run, "ended")
        await trio.sleep(99)
        assert (await house.get("worker")).state == "running"
        await until(house, "worker", "disposed")
        assert (await house.why("held")).keys() == {"pause"}


async def test_expire_s_set_later_counts_from_then_on(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await a_pool(house, "a")
        await trio.sleep(1000)
        await house.patch_pool("p", PatchPool(expire_s=50.0), frozenset({"expire_s"}))
        await trio.sleep(49)
        assert (await house.get("a")).state == "running"
        await until(house, "a", "disposed")


# -- as one ------------------------------------------------------------------------------------------------------------
async def test_a_pool_pauses_and_resumes_as_one(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await a_pool(house, "a", "b")
        await spawn(house, "off", "probe", pool="p", start=False)
        await house.pause("a", ALICE)
        results = await house.pool_command("p", PoolCommand(type="pause", reason="night"), ALICE)
        assert [(r.id, r.ok) for r in results] == [("a", True), ("b", True), ("off", True)]
        await until(house, "b", "paused")
        assert {h.holder for h in (await house.get("a")).holds} == {"pool", "user:alice"}
        await house.pool_command("p", PoolCommand(type="resume"), ALICE)
        await until(house, "b", "running")
        assert (await house.get("a")).state == "paused"


async def test_a_pool_command_reports_each_outcome(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await a_pool(house, "a", "b")
        await submit(house, "a", {"step_s": 60})
        results = await house.pool_command("p", PoolCommand(type="dispose"))
        assert [(r.id, r.ok) for r in results] == [("a", False), ("b", True)]
        assert (results[0].problem or {})["slug"] == "engine-busy"
        await house.pool_command("p", PoolCommand(type="stop", grace_s=0.0))
        await until(house, "a", "stopped")
        await house.pool_command("p", PoolCommand(type="start"))
        await until(house, "a", "running")


async def test_a_draining_pool_finishes_and_stops(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await a_pool(house, "busy", "idle", template=Template(kind="probe"))
        await spawn(house, "held", "probe", pool="p")
        runs = [await submit(house, "busy", {"step_s": 5}) for _ in range(2)]
        await house.pause("held", ALICE, wait_s=5)
        kept = await submit(house, "held", {})
        await house.pool_command("p", PoolCommand(type="drain"))
        assert (await house.get("busy")).draining
        with pytest.raises(Draining):
            await submit(house, "busy", {})
        with pytest.raises(Draining):
            await house.spawn(NewEngine(kind="probe", pool="p"))
        await until(house, "idle", "stopped")
        await until(house, "busy", "stopped")
        assert [(await house.run(run)).status for run in runs] == ["completed", "completed"]
        assert (await house.get("held")).state == "paused"
        await house.resume("held", ALICE)
        await until(house, "held", "stopped")
        assert (await house.run(kept)).status == "completed"
        await house.pool_command("p", PoolCommand(type="start"))
        await until(house, "busy", "running")
        assert not (await house.pool("p")).draining
        await submit(house, "busy", {})


# -- quotas ------------------------------------------------------------------------------------------------------------
async def test_runs_per_minute(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await a_pool(house, "a", "b", quotas=Quotas(runs_per_minute=3))
        key = Caller(principal="user:alice", key="k")
        await house.submit("a", NewRun(input={}), key)
        await house.submit("a", NewRun(input={}), key)  # a repeat takes no place
        await trio.sleep(20)
        await submit(house, "b", {})
        await submit(house, "b", {})
        with pytest.raises(QuotaExceeded) as full:
            await submit(house, "a", {})
        assert full.value.extra["retry_after_s"] == 40
        await house.submit("a", NewRun(input={}), key)
        assert (await house.pool("p")).budget["runs_last_minute"] == 3
        await trio.sleep(41)
        await submit(house, "a", {})


async def test_budgets_of_tokens_and_cost(autojump_clock: MockClock) -> None:
    class Spender(Engine):
        kind = "spender"

        async def on_run(self, ctx: Any, run: RunInput) -> Any:
            ctx.usage(**run.input)

    async with a_house(kinds=[Spender]) as house:
        await a_pool(house, "a", kind="spender", quotas=Quotas(tokens=100, cost_usd=1.0))
        run, _ = await house.submit("a", NewRun(input={"tokens": 60}), wait_s=5)
        assert run.usage == {"tokens": 60}
        await house.submit("a", NewRun(input={"tokens": 60}), wait_s=5)
        with pytest.raises(QuotaExceeded, match="tokens"):
            await submit(house, "a", {})
        await house.patch_pool("p", PatchPool(quotas=Quotas(tokens=1000, cost_usd=1.0)), frozenset({"quotas"}))
        await house.submit("a", NewRun(input={"cost_usd": 1.5}), wait_s=5)
        with pytest.raises(QuotaExceeded, match="cost_usd"):
            await submit(house, "a", {})
        assert (await house.pool("p")).budget["cost_usd"] == 1.5
        assert (await house.stats("a"))["usage"] == {"tokens": 120, "cost_usd": 1.5}


# -- the pool itself ---------------------------------------------------------------------------------------------------
async def test_a_changed_template_touches_new_engines_only(autojump_clock: MockClock) -> None:
    async with a_house(kinds=KINDS) as house:
        await house.create_pool(NewPool(id="p", template=Template(kind="probe")))
        first, _ = await house.get_or_spawn("p", "1")
        template = Template(kind="sleeper", labels={"new": "yes"})
        await house.patch_pool("p", PatchPool(template=template), frozenset({"template"}))
        second, _ = await house.get_or_spawn("p", "2")
        again, created = await house.get_or_spawn("p", "1")
        assert (again.uid, created, again.kind) == (first.uid, False, "probe")
        assert (second.kind, second.labels) == ("sleeper", {"new": "yes"})


async def test_the_environment_in_a_template_is_shown_to_nobody(autojump_clock: MockClock) -> None:
    async with a_house(threads=False) as house:
        template = Template(kind="shell", config={"cwd": "/tmp", "env": {"PASSWORD": "canary"}})
        made = await house.create_pool(NewPool(id="p", template=template))
        patched = await house.patch_pool("p", PatchPool(max_engines=3), frozenset({"max_engines"}))
        for shown in (made, patched, await house.pool("p"), *(await house.pools())):
            assert b"canary" not in dump(shown)
        assert made.template is not None
        assert made.template.config["env"].keys() == {"PASSWORD"}
        (kept,) = await house.supervisor.store.documents("pool")
        assert kept.body["template"]["config"]["env"] == {"PASSWORD": "canary"}  # type: ignore[index]  # JSON


async def test_only_the_members_that_were_sent_change(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await house.create_pool(NewPool(id="p", max_engines=5, idle_s=10.0))
        changed = await house.patch_pool("p", PatchPool(max_running=3), frozenset({"max_running"}))
        assert (changed.max_engines, changed.max_running, changed.idle_s) == (5, 3, 10.0)
        changed = await house.patch_pool("p", PatchPool(idle_s=None), frozenset({"idle_s"}))
        assert (changed.max_running, changed.idle_s) == (3, None)
        with pytest.raises(ValidationFailed):
            await house.patch_pool("p", PatchPool(max_engines=None), frozenset({"max_engines"}))
        with pytest.raises(NotFound):
            await house.patch_pool("nowhere", PatchPool(), frozenset())
        with pytest.raises(EngineExists):
            await house.create_pool(NewPool(id="p"))


async def test_a_pool_is_deleted_empty_or_by_force(autojump_clock: MockClock) -> None:
    journal = Journal()
    async with a_house(journal) as house:
        await a_pool(house, "a", "b")
        with pytest.raises(PoolBusy):
            await house.delete_pool("p")
        await house.delete_pool("p", force=True)
        with pytest.raises(NotFound):
            await house.pool("p")
        with pytest.raises(PoolBusy):
            await house.delete_pool("default")
        assert [pool.id for pool in await house.pools()] == ["default"]
    async with a_house(journal) as house:
        assert [pool.id for pool in await house.pools()] == ["default"]


async def test_pools_survive_a_restart_with_their_engines_and_keys(autojump_clock: MockClock) -> None:
    journal = Journal()
    async with a_house(journal) as house:
        await house.create_pool(NewPool(id="p", template=Template(kind="probe"), max_engines=7))
        first, _ = await house.get_or_spawn("p", "k")
    async with a_house(journal) as house:
        assert (await house.pool("p")).max_engines == 7
        again, created = await house.get_or_spawn("p", "k")
        assert (again.uid, created) == (first.uid, False)


async def test_rows_of_a_group_belong_to_their_engines(autojump_clock: MockClock) -> None:
    async with a_house() as house:
        await a_pool(house, "a", "b", strategy=Strategy.ONE_FOR_ALL)
        await crash(house, "a")
        await trio.sleep(5)
        for engine in ("a", "b"):
            uid = (await house.get(engine)).uid

            def own(row: Row, uid: str = uid) -> bool:
                return row.uid == uid

            rows = await journaled(house.supervisor.store, own)
            assert [row.engine_seq for row in rows] == list(range(1, len(rows) + 1))

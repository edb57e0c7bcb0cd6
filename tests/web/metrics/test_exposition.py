"""`/metrics` over a real house: every name, known numbers, both formats, and each key its own pools."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio
from prometheus_client.core import GaugeMetricFamily, Metric

from actors import Engine, RunContext, RunInput
from protocol.authority import Authority, Scope
from protocol.specs import OnInterrupt
from supervisor import EmbeddedHouse, MemoryStore, NewEngine, NewPool, NewRun, open_supervisor
from supervisor.schedules import open_schedules
from supervisor.store.memory import Journal
from tests.web.doubles import Client, Got, identity
from tests.web.reading import Reading, read
from tests.web.webhooks.test_delivery import Receiver, hooks_of
from web.app import create_app
from web.auth import Keys
from web.auth.keys import NewKey
from web.guard import Guard
from web.metrics import EngineCounts, HouseFigures, LoopLag, Metrics, Requests
from web.observed import Observed
from web.observer import HouseObserver
from web.traces import Traces

OPENMETRICS = "application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5"
DOCUMENTED = re.compile(r"^\| `((?:enginehouse|process)_[a-z_]+)` ", re.MULTILINE)


class Worker(Engine):
    """Fails when it is told to, and asks when it is told to."""

    kind = "worker"

    async def on_run(self, ctx: RunContext, run: RunInput) -> None:
        if run.input == "crash":
            raise ValueError("as told")
        if run.input == "ask":
            await ctx.ask_human("May I?")


@dataclass
class Measured:
    house: EmbeddedHouse
    metrics: Metrics
    admin: Client
    keys: Keys

    async def key(self, *scopes: Scope) -> Client:
        made = await self.keys.create(NewKey(name="k", scopes=list(scopes)))
        return Client(self.admin.app, made.key, guard=None)


@asynccontextmanager
async def measured(*, public: bool = False, journal: Journal | None = None) -> AsyncIterator[Measured]:
    """A house that is observed as the daemon's is."""
    requests, counts, lag, traces = Requests(), EngineCounts(), LoopLag(), Traces()
    observer = HouseObserver(counts, traces)
    async with (
        open_supervisor(
            store=MemoryStore(journal), kinds=[Worker], observer=observer, threads=False, grace_s=1
        ) as house,
        open_schedules(house) as schedules,
        hooks_of(house, Receiver()) as webhooks,
    ):
        metrics = Metrics(requests.collect, lag.collect, HouseFigures(house.summary, counts).collect, public=public)
        known = identity(wall=lambda: 0.0)
        api = create_app(house, identity=known, metrics=metrics, schedules=schedules, webhooks=webhooks)
        lag.beat(0.002)
        app = Observed(Guard(api), requests, traces, access=False)
        yield Measured(house, metrics, Client(app, guard=None), known.keys)


async def metrics_of(asker: Client, **headers: str) -> Reading:
    got = await asker.get("/metrics", **headers)
    assert got.status == 200, got
    return read(got.body)


async def test_a_known_life_gives_known_numbers() -> None:
    async with measured() as one:
        house = one.house
        await house.create_pool(NewPool(id="web", max_engines=5))
        for name in ("a", "b"):
            await house.spawn(NewEngine(kind="worker", id=name, pool="web", on_interrupt=OnInterrupt.FAIL))
        for _ in range(3):
            await house.submit("a", NewRun(input="work"), wait_s=30)
        await house.submit("a", NewRun(input="ask"))
        await house.submit("a", NewRun(input="later"))
        await house.submit("b", NewRun(input="crash"), wait_s=30)
        await house.dispose("b", force=True)
        view = house.supervisor.view("a")
        with trio.fail_after(60):
            await house.supervisor.watch(view.spec.uid, lambda view: bool(view.requests) or None)
        found = await metrics_of(one.admin)
    pool = {"pool": "web"}
    accepted = found.value("enginehouse_mailbox_accepted_total", **pool)
    ended = {how: found.value("enginehouse_mailbox_ended_total", how=how, **pool)
             for how in ("handled", "dead_lettered", "withdrawn")}  # fmt: skip
    queued, in_hand = (found.value(f"enginehouse_mailbox_{name}", **pool) for name in ("queued", "in_hand"))
    assert (accepted, ended["handled"], queued, in_hand) == (6, 4, 1, 1)
    assert accepted == sum(ended.values()) + queued + in_hand
    assert found.value("enginehouse_mailbox_unbalanced", **pool) == 0
    assert found.value("enginehouse_mailbox_oldest_age_seconds", **pool) >= 0
    assert found.value("enginehouse_engines", kind="worker", state="running", **pool) == 1
    assert found.value("enginehouse_runs", status="waiting", **pool) == 1
    assert found.value("enginehouse_runs", status="queued", **pool) == 1
    assert found.value("enginehouse_runs_ended_total", outcome="completed", **pool) == 3
    assert found.value("enginehouse_runs_ended_total", outcome="failed", **pool) == 1
    assert found.value("enginehouse_run_duration_seconds_count", **pool) == 3
    assert found.value("enginehouse_requests_pending", **pool) == 1
    assert found.value("enginehouse_engine_crashes_total", **pool) == 1
    assert found.value("enginehouse_engine_failures_total", **pool) == 0
    assert found.value("enginehouse_journal_position") == found.value("enginehouse_journal_rows_total")
    assert found.value("process_resident_memory_bytes") > 1 << 20
    assert found.value("enginehouse_event_loop_lag_seconds_count") == 1


async def test_counters_do_not_fall_when_an_engine_is_disposed_or_its_pool_goes() -> None:
    async with measured() as one:
        await one.house.spawn(NewEngine(kind="worker", id="a"))
        await one.house.submit("a", NewRun(input="work"), wait_s=30)
        before = await metrics_of(one.admin)
        await one.house.dispose("a")
        after = await metrics_of(one.admin)
        name = "enginehouse_mailbox_accepted_total"
        assert before.value(name, pool="default") == after.value(name, pool="default") == 1
        await one.house.create_pool(NewPool(id="brief"))
        await one.house.spawn(NewEngine(kind="worker", id="a", pool="brief"))
        await one.house.submit("a", NewRun(input="work"), wait_s=30)
        assert (await metrics_of(one.admin)).value("enginehouse_runs_ended_total", pool="brief", outcome="completed")
        await one.house.delete_pool("brief", force=True)
        assert "brief" not in {labels.get("pool") for labels in (await metrics_of(one.admin)).labels(name)}


async def test_both_formats_hold_the_same_and_say_what_they_are() -> None:
    async with measured() as one:
        await one.house.spawn(NewEngine(kind="worker", id="a"))
        text = await one.admin.get("/metrics")
        assert text.headers["content-type"].startswith("text/plain; version=0.0.4")
        other = await one.admin.get("/metrics", accept=OPENMETRICS)
        assert other.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert other.body.endswith(b"# EOF\n")
        assert read(other.body).names >= read(text.body).names
        refusing = await one.admin.get("/metrics", accept="application/openmetrics-text;q=0, */*")
        assert refusing.headers["content-type"] == text.headers["content-type"]
        for hostile in ("application/openmetrics-text; version=a.b", "application/openmetrics-text;;;=", ",;,", "\xff"):
            assert (await one.admin.get("/metrics", accept=hostile)).status == 200
        one.admin.check()


async def test_head_is_answered_and_nothing_else_but_get() -> None:
    async with measured() as one:
        got: Got = await one.admin.ask("HEAD", "/metrics", None, {})
        assert (got.status, got.headers["content-type"].partition(";")[0]) == (200, "text/plain")
        assert (await one.admin.post("/metrics")).slug == "method-not-allowed"


async def test_they_need_the_scope_read_unless_they_are_public() -> None:
    async with measured() as one:
        assert (await Client(one.admin.app, None, guard=None).get("/metrics")).slug == "unauthenticated"
        assert (await (await one.key(Scope.OPERATE)).get("/metrics")).slug == "insufficient-scope"
        assert (await (await one.key(Scope.READ)).get("/metrics")).status == 200
    async with measured(public=True) as one:
        nobody = Client(one.admin.app, None, guard=None)
        assert "process_open_fds" in (await metrics_of(nobody)).names
        assert (await nobody.get("/api/v1/engines")).slug == "unauthenticated"


async def test_who_is_bound_to_pools_sees_their_series_and_none_of_the_house() -> None:
    async with measured() as one:
        for pool in ("mine", "theirs"):
            await one.house.create_pool(NewPool(id=pool))
            await one.house.spawn(NewEngine(kind="worker", id=pool, pool=pool))
            await one.house.submit(pool, NewRun(input="work"), wait_s=30)
        bound = Authority(scopes=frozenset({Scope.READ}), pools=frozenset({"mine"}))
        found = read((await one.metrics.text(bound, ""))[0])
        assert {sample.labels.get("pool") for sample in found.samples} == {"mine"}
        assert found.value("enginehouse_runs_ended_total", pool="mine", outcome="completed") == 1
        engine = Authority(scopes=frozenset({Scope.READ}), engine="eng_1")
        assert read((await one.metrics.text(engine, ""))[0]).samples == ()


async def test_every_metric_is_in_the_documentation_and_every_documented_one_is_there() -> None:
    async with measured() as one:
        await one.house.spawn(NewEngine(kind="worker", id="a"))
        await one.house.submit("a", NewRun(input="work"), wait_s=30)
        await one.admin.get("/nowhere")
        found = await metrics_of(one.admin)
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in found.names}
    page = (Path(__file__).parents[3] / "docs/observability.md").read_text()
    assert shown == set(DOCUMENTED.findall(page))
    for name in shown:
        assert re.fullmatch(r"(enginehouse|process)_[a-z_]+", name)


async def test_a_source_can_be_added() -> None:
    whole = Authority(scopes=frozenset({Scope.READ}))
    metrics = Metrics()

    async def more(authority: Authority) -> AsyncIterator[Metric]:
        yield GaugeMetricFamily("enginehouse_more", "More.", 7)

    metrics.include(more)
    assert read((await metrics.text(whole, ""))[0]).value("enginehouse_more") == 7

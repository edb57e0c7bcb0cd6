from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from actors import Context, Engine, RunContext, RunInput
from actors.slices import Slices
from protocol.fold import fold
from protocol.patch import size_bytes
from protocol.view import SliceValue, View
from tests.actors.stage import OpenStage

values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=10,
)


def sliced() -> tuple[Slices, list[dict[str, Any]]]:
    written: list[dict[str, Any]] = []
    return Slices(lambda data, run_id: written.append({**data, "run_id": run_id})), written


def test_updates_before_a_flush_become_one_patch() -> None:
    slices, written = sliced()
    for n in range(5):
        slices.set("n", n, None)
    assert (slices.value("n"), slices.dirty, written) == (4, True, [])
    slices.flush()
    assert [(row["version"], row["patch"]) for row in written] == [(1, [{"op": "replace", "path": "", "value": 4}])]
    assert not slices.dirty


def test_a_value_that_did_not_change_writes_nothing() -> None:
    slices, written = sliced()
    for _ in range(3):
        slices.set("n", {"a": [1]}, None)
        slices.flush()
    assert len(written) == 1


def test_slices_are_written_in_the_order_of_their_last_update() -> None:
    slices, written = sliced()
    for name in ("a", "b", "a"):
        slices.set(name, len(written), None)
    slices.flush()
    assert [row["slice"] for row in written] == ["b", "a"]


def test_a_patch_carries_the_run_that_said_it_last() -> None:
    slices, written = sliced()
    slices.set("a", 1, "run_1")
    slices.set("a", 2, "run_2")
    slices.flush()
    assert [row["run_id"] for row in written] == ["run_2"]


def test_what_was_restored_goes_on_with_its_version() -> None:
    slices, written = sliced()
    slices.restore({"a": SliceValue(version=7, value={"long": "x" * 100, "n": 1})})
    slices.set("a", {"long": "x" * 100, "n": 2}, None)
    slices.flush()
    assert [(row["version"], row["patch"]) for row in written] == [(8, [{"op": "replace", "path": "/n", "value": 2}])]


@given(st.lists(values, min_size=1, max_size=12))
def test_replaying_a_slice_reads_at_most_twice_its_largest_size(story: list[Any]) -> None:
    slices, written = sliced()
    for value in story:
        slices.set("s", value, None)
        slices.flush()
    since = 0
    for row in written:
        keyframe = row["patch"][0]["path"] == "" and len(row["patch"]) == 1
        since = 0 if keyframe else since + size_bytes(row["patch"])
        assert since <= max(len(json.dumps(value, separators=(",", ":"))) for value in story) + 64


class Painter(Engine):
    kind = "painter"

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        for n in range(3):
            ctx.update("canvas", {"n": n})
        await ctx.emit("painter.said")
        ctx.update("canvas", {"n": 3})
        return ctx.slice("canvas")


async def test_an_update_is_written_before_what_is_emitted_after_it(
    stage: OpenStage, autojump_clock: MockClock
) -> None:
    async with stage(Painter) as on:
        on.store.delay_s = 0.1
        await on.spawn(Painter)
        run = await on.run()
        assert run.result == {"n": 3}
        assert await on.words("state", "painter", "run") == [
            "queued", "started", "patched", "patched", "said", "patched", "completed",
        ]  # fmt: skip
        assert (await on.house.slice("e", "canvas")).version == 3


async def test_updates_while_a_write_is_in_flight_are_one_patch(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Busy(Engine):
        kind = "busy"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            for n in range(100):
                ctx.update("n", n)
                await ctx.sleep(0.01)

    async with stage(Busy) as on:
        on.store.delay_s = 0.25
        await on.spawn(Busy)
        await on.run()
        patches = await on.rows("state.patched")
        assert 3 <= len(patches) <= 7
        assert (await on.house.slice("e", "n")).value == 99


async def test_a_slice_outlives_its_incarnation_and_the_house(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Counter(Engine):
        kind = "counter"

        async def on_start(self, ctx: Context) -> None:
            ctx.update("boots", (ctx.slice("boots") or 0) + 1)

    async with stage(Counter) as on:
        await on.spawn(Counter)
        await on.house.restart("e")
        await on.until(1)
        journal = on.store.journal
    async with stage(Counter, journal=journal) as on:
        await on.until(2)
        assert (await on.house.slice("e", "boots")).value == 3


async def test_a_value_changed_after_it_was_given_changes_nothing(stage: OpenStage, autojump_clock: MockClock) -> None:
    class Careless(Engine):
        kind = "careless"

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            value = {"list": [1]}
            ctx.update("s", value)
            value["list"].append(2)
            await ctx.flush()
            ctx.update("s", value)

    async with stage(Careless) as on:
        await on.spawn(Careless)
        await on.run()
        assert [row["patch"] for row in await on.data("state.patched")] == [
            [{"op": "replace", "path": "", "value": {"list": [1]}}],
            [{"op": "replace", "path": "", "value": {"list": [1, 2]}}],
        ]


async def test_the_live_value_is_the_fold_of_the_patches(stage: OpenStage, autojump_clock: MockClock) -> None:
    async with stage(Painter) as on:
        await on.spawn(Painter)
        await on.run()
        await on.run()
        uid = (await on.house.get("e")).uid
        view: View | None = None
        for row in await on.store.read(after=0, uid=uid):
            view = fold(view, row)
        assert view is not None
        assert view.slices == on.house.supervisor.views[uid].slices

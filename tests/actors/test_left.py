"""What becomes of a process tree that its engine could not take over."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from actors import CannotAdopt, CannotStart, Context, Engine
from actors.children import ChildPolicy
from actors.processes import Leak, Tree
from protocol.bodies import NewEngine, NewPool
from protocol.commands import Start, Stop
from protocol.specs import Policy, Restart
from protocol.states import State
from supervisor import open_supervisor
from supervisor.store.memory import Journal
from tests.actors.stage import ANN, OpenStage

TRAP = "trap 'echo >ended; exit' TERM; echo up; while :; do sleep 0.01; done"


async def test_a_tree_that_does_not_last_is_ended_in_order_whatever_its_engine_says(tmp_path: Path) -> None:
    class Mistaken(Engine):
        kind = "mistaken"

        async def on_start(self, ctx: Context) -> None:
            process = await ctx.spawn_process(["sh", "-c", TRAP], cwd=str(tmp_path))
            await process.stdout.receive_some()
            raise CannotAdopt("It cannot be reached.")

    async with open_supervisor(kinds=[Mistaken], directory=tmp_path / "house") as house:
        info, _ = await house.spawn(NewEngine(kind="mistaken"))
        with trio.fail_after(20):
            await house.supervisor.watch(info.uid, lambda view: view.state is State.FAILED)
        assert (tmp_path / "ended").exists()


async def test_a_stop_that_ends_a_left_tree_takes_back_the_wish_for_a_place(
    stage: OpenStage, autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Lasting(Engine):
        kind = "lasting"
        mended = False

        async def on_start(self, ctx: Context) -> None:
            if ctx.engine_id == "e" and not self.mended:
                raise CannotStart("Not yet.")

    async def end(tree: Tree, term_s: float) -> list[Leak]:
        await trio.sleep(2)
        return []

    async with stage(Lasting, children=ChildPolicy(lasting=str(tmp_path / "lasting"))) as on:
        await on.house.create_pool(NewPool(id="p", max_running=2))
        await on.spawn(Lasting, pool="p")
        assert await on.state() == "failed"
        others = [await on.spawn(Lasting, id=f"other-{n}", pool="p") for n in range(2)]
        Lasting.mended = True
        on.house.supervisor.cell("e").home.path.mkdir(parents=True)  # as if it had been left
        monkeypatch.setattr(Tree, "end", end)
        await on.house.command("e", Start(), ANN)
        await on.house.command("e", Stop(), ANN)
        await on.until(1)
        assert await on.state() == "stopping"
        for other in others:
            await on.house.stop(other, ANN)
        await on.until(10)
        assert await on.state() == "stopped"


@pytest.mark.parametrize("error", [CannotAdopt("Not now."), RuntimeError("no")], ids=["spared", "crashed"])
async def test_the_next_house_spares_the_tree_of_an_engine_that_could_not_get_at_it_alone(
    stage: OpenStage, autojump_clock: MockClock, tmp_path: Path, error: Exception
) -> None:
    class Lasting(Engine):
        kind = "lasting"

        async def on_start(self, ctx: Context) -> None:
            raise error

    journal, policy = Journal(), ChildPolicy(lasting=str(tmp_path / "lasting"))
    async with stage(Lasting, journal=journal, children=policy) as on:
        await on.spawn(Lasting, restart=Restart(policy=Policy.TEMPORARY))
        assert await on.state() == "failed"
        home = on.house.supervisor.cell("e").home
        home.path.mkdir(parents=True)  # of the other, what could not be ended
    async with stage(Lasting, journal=journal, children=policy) as on:
        assert await on.state() == "failed"
        assert home.occupied is isinstance(error, CannotAdopt)

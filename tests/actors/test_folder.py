"""What an engine keeps beside the journal, the hold it places on itself, and the secrets that it uses itself."""

import os
from pathlib import Path
from typing import Any

import pytest

from actors import Context, Engine, RunContext, RunInput
from actors.children import ChildPolicy
from actors.secrets import FromFile, Sources
from protocol.commands import Resume
from supervisor.store.memory import Journal
from tests.actors.stage import OpenStage


class Keeper(Engine):
    """Counts its runs in a file."""

    kind = "keeper"

    async def on_run(self, ctx: RunContext, run: RunInput) -> int:
        file = await ctx.folder() / "count"
        count = int(file.read_text()) + 1 if file.exists() else 1
        await ctx.blocking(lambda: file.write_text(str(count)))
        return count


async def test_a_folder_lives_as_long_as_its_engine(stage: OpenStage, tmp_path: Path, autojump_clock: Any) -> None:
    journal = Journal()
    async with stage(Keeper, journal=journal, threads=False) as s:
        await s.spawn(Keeper)
        await s.spawn(Keeper, "other")
        assert [(await s.run()).result for _ in range(2)] == [1, 2]
        assert (await s.run(engine="other")).result == 1
        folders = list((tmp_path / "engines").iterdir())
        assert len(folders) == 2
        assert all(folder.stat().st_mode & 0o777 == 0o700 for folder in folders)
    async with stage(Keeper, journal=journal, threads=False) as s:
        assert (await s.run()).result == 3
        await s.house.dispose("e")
        await s.until(100)
        assert [folder.name for folder in (tmp_path / "engines").iterdir()] == [(await s.house.get("other")).uid]
        await s.spawn(Keeper)
        assert (await s.run()).result == 1


async def test_folders_of_nobody_are_swept_at_the_start(stage: OpenStage, tmp_path: Path, autojump_clock: Any) -> None:
    (tmp_path / "engines" / "eng_gone" / "deep").mkdir(parents=True)
    async with stage(Keeper, threads=False) as s:
        await s.until(1)
        assert list((tmp_path / "engines").iterdir()) == []


class Digger(Engine):
    kind = "digger"

    async def on_run(self, ctx: RunContext, run: RunInput) -> None:
        fd = os.open(await ctx.folder(), os.O_RDONLY)
        for _ in range(1500):
            os.mkdir("deeper", dir_fd=fd)
            above, fd = fd, os.open("deeper", os.O_RDONLY, dir_fd=fd)
            os.close(above)
        os.close(fd)


async def test_no_folder_is_too_deep_to_be_removed(stage: OpenStage, tmp_path: Path, autojump_clock: Any) -> None:
    async with stage(Digger, threads=False) as s:
        await s.spawn(Digger)
        assert (await s.run()).status == "completed"
        await s.house.dispose("e")
        await s.until(100)
        assert list((tmp_path / "engines").iterdir()) == []
        assert (await s.house.list()).items == []


class Spender(Engine):
    kind = "spender"

    async def on_run(self, ctx: RunContext, run: RunInput) -> str:
        ctx.hold("budget", "all is spent")
        await ctx.pause_point()
        return "went on"


async def test_an_engine_holds_itself_until_somebody_lifts_it(stage: OpenStage, autojump_clock: Any) -> None:
    async with stage(Spender) as s:
        await s.spawn(Spender)
        run = await s.submit()
        await s.until(10)
        engine = await s.house.get("e")
        assert engine.state == "paused"
        assert [(h.holder, h.reason, h.mode, h.by) for h in engine.holds] == [("budget", "all is spent", "soft", None)]
        await s.house.command("e", Resume(holder="budget"))
        await s.until(20)
        assert (await s.house.run(run)).result == "went on"


class Caller(Engine):
    kind = "caller"
    key = ""

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        key = await ctx.secret(FromFile(file=run.input))
        return [key, ctx.masked({"sent": f"key {key}!"}), len(key)]


async def test_a_secret_of_the_engine_itself_is_hidden(stage: OpenStage, tmp_path: Path, autojump_clock: Any) -> None:
    file = tmp_path / "key"
    file.touch(mode=0o600)
    file.write_text("correct horse battery\n")
    policy = ChildPolicy(secrets=Sources(directories=(str(tmp_path),)))
    async with stage(Caller, children=policy, threads=False) as s:
        await s.spawn(Caller)
        assert (await s.run(str(file))).result == ["***", {"sent": "key ***!"}, 21]


@pytest.mark.parametrize("threads", [True, False])
async def test_blocking_work_answers_and_raises(stage: OpenStage, threads: bool) -> None:
    class Worker(Engine):
        kind = "worker"

        async def on_start(self, ctx: Context) -> None:
            self.two = await ctx.blocking(lambda: 1 + 1)

        async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
            with pytest.raises(ZeroDivisionError):
                await ctx.blocking(lambda: 1 // 0)
            return self.two

    async with stage(Worker, threads=threads) as s:
        await s.spawn(Worker)
        assert (await s.run()).result == 2

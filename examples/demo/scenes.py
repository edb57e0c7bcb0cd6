"""What is shown, scene by scene."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import trio

from examples.demo.daemon import Daemon
from examples.demo.processes import descendants, gone, marked, running
from examples.demo.saying import check, say, title
from examples.demo.watcher import Watcher
from protocol.commands import Signal
from protocol.events import RUN_ENDS
from protocol.requests import APPROVE, REJECT
from protocol.wire import RunInfo
from supervisor import House, NewEngine, NewRun, ReplyBody

__all__ = ["FILES", "SCENES", "Stage", "the_end"]

PACK = 'for file in *.txt; do echo "packing $file"; gzip --keep "$file"; sleep 0.25; done; ls *.gz | wc -l'
FILES = 12
STUBBORN = (
    """trap '' TERM; (setsid sh -c 'trap "" TERM; echo ready; sleep 1000; sleep 1000' &); sleep 1000; sleep 1000"""
)


@dataclass
class Stage:
    """What every scene needs. `mark`: stands in the environment of everything that the shell engine starts."""

    house: House
    daemon: Daemon
    watcher: Watcher
    folder: Path
    mark: str

    async def ended(self, run: str) -> RunInfo:
        await self.watcher.until(
            lambda: any(e.get("run_id") == run and e["type"] in RUN_ENDS for e in self.watcher.events)
        )
        return await self.house.run(run)

    async def step(self) -> int:
        """Where the probe is."""
        return int((await self.house.slice("counter", "progress")).value["step"])

    def packed(self) -> int:
        return len(list(self.folder.glob("*.gz")))


async def several_engines(stage: Stage) -> None:
    title("Several engines at once, live output over server-sent events, pause in the middle")
    house, watcher = stage.house, stage.watcher
    config = {"cwd": str(stage.folder), "env": {"DEMO_MARK": stage.mark}}
    await house.spawn(NewEngine(kind="shell", id="workshop", config=config))
    await house.spawn(NewEngine(kind="probe", id="counter"))
    say(f"spawned a shell in a folder of {FILES} files, and a probe that counts")

    watcher.shown = "workshop"
    packing, _ = await house.submit("workshop", NewRun(input=PACK))
    counting, _ = await house.submit("counter", NewRun(input={"steps": 30, "step_s": 0.1}))
    await watcher.until(lambda: stage.packed() >= 3 and len(watcher.steps(counting.id)) > 5)

    await house.pause("workshop", reason="a look inside", wait_s=10)
    await house.pause("counter", reason="a look inside", wait_s=10)
    files, step = stage.packed(), await stage.step()
    check(files < FILES and step < 30, f"both paused in the middle: {files} files packed, step {step}")
    frozen = await house.processes("workshop")
    say("the shell's processes, stopped: " + ", ".join(f"{p.name} ({p.pid})" for p in frozen))
    await trio.sleep(1.5)
    check((stage.packed(), await stage.step()) == (files, step), "a second and a half later nothing has moved")

    await house.resume("workshop")
    await house.resume("counter")
    packed, counted = await stage.ended(packing.id), await stage.ended(counting.id)
    lines = watcher.output[packing.id].split()
    check(packed.status == "completed" and stage.packed() == FILES, f"resumed: all {FILES} files are packed")
    check(lines.count("packing") == FILES and lines[-1] == str(FILES), "and each was packed once, by the same command")
    check(
        counted.attempts == 1 and watcher.steps(counting.id) == list(range(31)),
        "the probe went on at the same step: 0 to 30, each once, one attempt",
    )


async def an_approval(stage: Stage) -> None:
    title("An engine asks, a person decides")
    house, watcher = stage.house, stage.watcher
    options = [{"id": o.id, "kind": o.kind.value, "label": o.label} for o in (APPROVE, REJECT)]
    ask = {"kind": "approval", "title": "Shall the counter go past five?", "options": options}
    run, _ = await house.submit("counter", NewRun(input={"steps": 6, "ask_at": 5, "ask": ask}))
    opened = await watcher.saw("request.opened", run_id=run.id)
    waiting = (await house.requests(engine="counter")).items
    check(len(waiting) == 1, f"it waits for a decision: {waiting[0].title!r}")
    await house.reply(opened["data"]["request_id"], ReplyBody(option="approve", comment="as you like"))
    done = await stage.ended(run.id)
    check(done.status == "completed" and done.result["answers"] == ["approve"], "approved, and the run is completed")


async def a_crash(stage: Stage) -> None:
    title("An engine crashes, and is started again")
    house, watcher = stage.house, stage.watcher
    await house.command("counter", Signal(name="crash"))
    crashed = await watcher.saw("engine.crashed", engine_id="counter")
    say(f"it crashed: {crashed['data']['exit']['error']}; again in {crashed['data']['delay_s']:.2f} s")
    await watcher.saw("engine.started", engine_id="counter", incarnation=2)
    others = await house.get("workshop")
    check(others.state == "running" and others.incarnation == 1, "the other engine did not notice")
    run, _ = await house.submit("counter", NewRun(input="hello again"), wait_s=10)
    check(run.status == "completed", f"incarnation 2 works: {run.result}")


async def kill_9(stage: Stage) -> None:
    title("kill -9 of the daemon, in the middle of everything")
    house, watcher, daemon = stage.house, stage.watcher, stage.daemon
    watcher.shown = ""
    in_hand, _ = await house.submit("counter", NewRun(input={"steps": 30, "step_s": 0.1}))
    queued, _ = await house.submit("counter", NewRun(input="I was queued"))
    await house.submit("workshop", NewRun(input="sleep 1000 & setsid sleep 1000 & wait"))
    await house.pause("workshop", reason="over the weekend", wait_s=10)
    await watcher.until(lambda: len(watcher.steps(in_hand.id)) > 8)
    family = descendants(daemon.pid)
    seen = watcher.events[-1]["seq"]
    await daemon.kill()
    say(f"killed pid {daemon.pid}; the last event that was seen is number {seen}")
    await gone(family)
    check(True, f"its {len(family)} processes are gone, also the one in a session of its own")

    took_s = await daemon.start()
    say(f"started again in {took_s:.2f} s, on the same journal; the stream comes back by itself, with Last-Event-ID")
    again = await stage.ended(in_hand.id)
    after = await stage.ended(queued.id)
    check(again.status == "completed" and again.attempts == 2, "the run that was in hand was tried again, and is done")
    check(after.status == "completed" and after.attempts == 1, "the run that was queued was done after it")
    back = await house.get("workshop")
    hold = back.holds[0].reason if back.holds else None
    check(back.state == "paused" and hold == "over the weekend", "the shell is still held, and did not boot")
    seqs = [event["seq"] for event in watcher.events]
    own: dict[
        str, list[int]
    ] = {}  # rows of the audit trail take numbers of the journal too, and are in no engine's own
    for event in watcher.events:
        own.setdefault(event["engine_id"], []).append(event["engine_seq"])
    dense = all(numbers == list(range(1, len(numbers) + 1)) for numbers in own.values())
    check(seqs == sorted(set(seqs)) and dense, f"the reader saw each of {len(seqs)} events exactly once, in order")


async def nothing_left(stage: Stage) -> None:
    title("Dispose: nothing is left behind")
    house = stage.house
    await house.resume("workshop", holder="*", wait_s=10)
    run, _ = await house.submit("workshop", NewRun(input=STUBBORN))
    await stage.watcher.until(lambda: "ready" in stage.watcher.output.get(run.id, ""))
    tree = [process.pid for process in await house.processes("workshop")]
    say(f"a stubborn tree: {len(tree)} processes that ignore TERM, one in a session of its own")
    before = time.monotonic()
    results = await house.dispose_many(["workshop", "counter"], force=True, grace_s=1)
    took_s = time.monotonic() - before
    check(all(result.ok for result in results), f"both engines are disposed, in {took_s:.1f} s")
    workshop = await house.dispose("workshop")
    check(workshop.leaks == [], "and report no leaks")
    check(
        not any(running(pid) for pid in tree) and not marked(stage.mark),
        "no process of theirs is on this machine any more",
    )


async def the_end(daemon: Daemon) -> None:
    title("SIGTERM")
    family = descendants(daemon.pid)
    before = time.monotonic()
    code = await daemon.stop()
    check(code == 0, f"the daemon ended in order, in {time.monotonic() - before:.1f} s, exit code 0")
    await gone(family)
    check(not (daemon.state / "daemon.json").exists(), "and nothing of it runs")


SCENES = (several_engines, an_approval, a_crash, kill_9, nothing_left)

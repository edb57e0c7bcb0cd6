"""`make demo`: a house shown in about a minute, without anybody at the keyboard.

    .venv/bin/python -m examples.demo

It starts a real daemon of its own (a temporary state directory, a free port), puts several engines to work, pauses
them in the middle, answers a question, crashes an engine, kills the daemon with -9 and starts it again, and disposes of
everything. Each thing it says is checked first; the exit code is 0 only when all of it really happened.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

import trio

from protocol.commands import Signal
from protocol.requests import APPROVE, REJECT
from protocol.wire import RunInfo
from supervisor import Filter, House, NewEngine, NewRun, ReplyBody, Subscription
from web.client import open_remote

SERVE = [str(Path(sys.executable).with_name("enginehouse")), "serve"]
LIMIT_S = 90
STARTED = time.monotonic()

PACK = 'for file in *.txt; do echo "packing $file"; gzip --keep "$file"; sleep 0.25; done; ls *.gz | wc -l'
FILES = 12
STUBBORN = (
    """trap '' TERM; (setsid sh -c 'trap "" TERM; echo ready; sleep 1000; sleep 1000' &); sleep 1000; sleep 1000"""
)

Event = dict[str, Any]


class DemoFailed(Exception):
    """Something that the demo was about to say is not so."""


def say(text: str) -> None:
    print(f"[{time.monotonic() - STARTED:5.1f} s] {text}", flush=True)


def title(text: str) -> None:
    print(f"\n--- {text}", flush=True)


def check(fact: object, text: str) -> None:
    """Say it if it is so."""
    if not fact:
        raise DemoFailed(text)
    say(f"ok: {text}")


# -- the daemon -------------------------------------------------------------------------------------------------------
@dataclass
class Daemon:
    """`port` 0 until the first start has found a free one; every later start uses the same."""

    state: Path
    port: int = 0
    process: trio.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def key(self) -> str:
        return (self.state / "admin.key").read_text().strip()

    async def start(self) -> float:
        """Start it and wait until it says that it serves; the seconds that this took."""
        before = time.monotonic()
        environ = {name: value for name, value in os.environ.items() if not name.startswith("ENGINEHOUSE_")}
        environ |= {
            "ENGINEHOUSE_STATE_DIR": str(self.state),
            "ENGINEHOUSE_PORT": str(self.port),
            "XDG_CONFIG_HOME": str(self.state),  # nobody's own settings
        }
        self.process = await trio.lowlevel.open_process(SERVE, env=environ, stdout=PIPE, stderr=STDOUT)
        assert self.process.stdout is not None
        said = b""
        while b" is at http" not in said:
            piece = await self.process.stdout.receive_some()
            if not piece:
                raise DemoFailed(f"the daemon did not start: exit code {await self.process.wait()}, {said.decode()}")
            said += piece
        self.port = int(json.loads((self.state / "daemon.json").read_bytes())["url"].rpartition(":")[2])
        return time.monotonic() - before

    async def kill(self) -> None:
        """What `kill -9` does."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM, and its exit code."""
        assert self.process is not None
        self.process.terminate()
        return await self.process.wait()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid


@asynccontextmanager
async def daemon_in(state: Path) -> AsyncIterator[Daemon]:
    """A daemon that does not outlive the block."""
    daemon = Daemon(state)
    try:
        yield daemon
    finally:
        if daemon.process is not None and daemon.process.returncode is None:
            daemon.process.kill()
            with trio.CancelScope(shield=True):
                await daemon.process.wait()
        elif daemon.process is not None and daemon.process.returncode and daemon.process.stdout is not None:
            said = b"".join([piece async for piece in daemon.process.stdout])
            print(f"the daemon ended by itself:\n{said.decode()}", file=sys.stderr)


# -- what happened ----------------------------------------------------------------------------------------------------
@dataclass
class Watcher:
    """Everything that one stream of all events has brought, in order; it survives the daemon."""

    events: list[Event] = field(default_factory=list)
    output: dict[str, str] = field(default_factory=dict)
    shown: str = ""
    news: trio.Event = field(default_factory=trio.Event)

    async def watch(self, stream: Subscription) -> None:
        while True:
            for frame in await stream.receive():
                if frame.event == "server.closing":
                    continue
                event = json.loads(frame.data)
                if frame.id is not None:
                    self.events.append(event)
                elif frame.event == "run.output":
                    self._print(event)
            self.news.set()
            self.news = trio.Event()

    def _print(self, event: Event) -> None:
        run, text = event["run_id"], event["data"]["text"]
        self.output[run] = self.output.get(run, "") + text
        if event["engine_id"] == self.shown:
            for line in text.splitlines():
                say(f"  {self.shown} | {line}")

    async def until(self, wanted: Callable[[], Any]) -> Any:
        """What `wanted` gives as soon as it gives something; it is asked whenever something has happened."""
        while not (found := wanted()):
            await self.news.wait()
        return found

    async def saw(self, type: str, **members: Any) -> Event:
        """The first event of this type whose envelope or data has these members."""

        def matching() -> Event | None:
            for event in self.events:
                if event["type"] == type and members.items() <= {**event["data"], **event}.items():
                    return event
            return None

        found: Event = await self.until(matching)
        return found

    def steps(self, run: str) -> list[int]:
        """The steps of a probe's run, as its slice `progress` showed them."""
        found = []
        for event in self.events:
            if event["type"] == "state.patched" and event.get("run_id") == run:
                for change in event["data"]["patch"]:
                    value = change.get("value")
                    found += [value["step"]] if change["path"] == "" else [value] if change["path"] == "/step" else []
        return found


@dataclass
class Stage:
    """What every scene needs. `mark`: stands in the environment of everything that the shell engine starts."""

    house: House
    daemon: Daemon
    watcher: Watcher
    folder: Path
    mark: str

    async def ended(self, run: str) -> RunInfo:
        await self.watcher.until(lambda: any(e.get("run_id") == run and e["type"] in ENDS for e in self.watcher.events))
        return await self.house.run(run)

    def packed(self) -> int:
        return len(list(self.folder.glob("*.gz")))


ENDS = ("run.completed", "run.failed", "run.cancelled", "run.timed_out")


# -- the scenes -------------------------------------------------------------------------------------------------------
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
    files, steps = stage.packed(), watcher.steps(counting.id)
    check(files < FILES and steps[-1] < 30, f"both paused in the middle: {files} files packed, step {steps[-1]}")
    frozen = await house.processes("workshop")
    say("the shell's processes, stopped: " + ", ".join(f"{p.name} ({p.pid})" for p in frozen))
    await trio.sleep(1.5)
    still = stage.packed() == files and watcher.steps(counting.id) == steps
    check(still, "a second and a half later nothing has moved")

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
    in_hand, _ = await house.submit("counter", NewRun(input={"steps": 20, "step_s": 0.1}))
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
    check(seqs == list(range(1, len(seqs) + 1)), f"the reader saw each of {len(seqs)} events exactly once, in order")


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


# -- processes, as /proc shows them -----------------------------------------------------------------------------------
def marked(mark: str) -> list[int]:
    """Every process that carries the mark in its environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes() and int(folder.name) != os.getpid():
                found.append(int(folder.name))
        except OSError:
            continue  # it ended, or is somebody else's
    return found


def running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def descendants(pid: int) -> list[int]:
    """A pidfd of every process below this one: readable when that very process has ended (pidfd_open(2))."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    below = [pid]
    for parent in below:
        below += [child for child, of in parents.items() if of == parent]
    found = []
    for child in below[1:]:
        with contextlib.suppress(ProcessLookupError):
            found.append(os.pidfd_open(child))
    return found


async def gone(processes: list[int], within_s: float = 5.0) -> None:
    """Wait until all of them have ended, and close their pidfds."""
    with trio.move_on_after(within_s) as scope:
        for process in processes:
            await trio.lowlevel.wait_readable(process)
            os.close(process)
    if scope.cancelled_caught:
        raise DemoFailed(f"a process is still there after {within_s} s")


# -- the whole --------------------------------------------------------------------------------------------------------
async def main(temporary: Path) -> None:
    """The scenes in order. Raises DemoFailed for the first thing that is not as it should be."""
    folder = temporary / "project"
    folder.mkdir()
    for number in range(FILES):
        (folder / f"file-{number:02}.txt").write_text("all work and no play\n" * 1000)
    async with daemon_in(temporary / "state") as daemon:
        title("A daemon of our own")
        took_s = await daemon.start()
        say(f"it serves {daemon.url} after {took_s:.2f} s; its admin key is in a file that only we may read")
        async with (
            open_remote(daemon.url, api_key=daemon.key) as house,
            house.events(Filter(), after="0") as stream,
            trio.open_nursery() as nursery,
        ):
            stage = Stage(house, daemon, Watcher(), folder, f"demo-{secrets.token_hex(8)}")
            nursery.start_soon(stage.watcher.watch, stream)
            for scene in (several_engines, an_approval, a_crash, kill_9, nothing_left):
                await scene(stage)
            nursery.cancel_scope.cancel()
        await the_end(daemon)


def run() -> int:
    wrong: list[BaseException] = []
    try:
        with tempfile.TemporaryDirectory(prefix="enginehouse-demo-") as temporary:
            trio.run(limited, Path(temporary))
    except* DemoFailed as failed:
        wrong = leaves(failed)
    if wrong:
        print(f"\nFAILED: {wrong[0]}", file=sys.stderr)
        return 1
    print(f"\nAll of it happened, in {time.monotonic() - STARTED:.0f} s.")
    return 0


def leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]


async def limited(temporary: Path) -> None:
    """The demo ends when its time is over, or when somebody ends it, and leaves nothing running either way."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(interrupted, signals)
            with trio.move_on_after(LIMIT_S) as scope:
                await main(temporary)
            nursery.cancel_scope.cancel()
    if scope.cancelled_caught:
        raise DemoFailed(f"it took longer than {LIMIT_S} s")


async def interrupted(signals: AsyncIterator[int]) -> None:
    async for number in signals:
        raise DemoFailed(f"ended by {signal.Signals(number).name}")


if __name__ == "__main__":
    sys.exit(run())

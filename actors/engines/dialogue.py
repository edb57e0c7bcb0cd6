"""The talk with a program that speaks JSON lines: what it announced, its run in hand, its pauses, its signs of life.

A program that declares `pause` is asked to stand still as soon as the engine is held, and its run goes to rest at the
boundary where it says `paused`. The run's own task then waits at the gate like any other, so what follows is the
house's: `paused`, `pause_slow`, the release. A frozen program is asked nothing: it could not answer.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import trio

from actors.context import Context, RunContext
from actors.engine import ANEW, RunFailed, RunInput
from actors.engines import jsonl
from actors.engines.program import Program
from protocol.edge import as_json
from protocol.specs import PauseMode

__all__ = ["SNAPSHOT", "Dialogue"]

CANCEL_S = 5.0
"""How long a program may go on with a run that was cancelled before it is killed and started anew."""

MESSAGES_AHEAD = 64
"""How many messages of a run may wait for the run's task; then the program is not read any further."""

PATIENCE = 2
"""Silence for so many times as long as it promised is a crash: a busy machine is no dead program."""

SNAPSHOT = "snapshot"
"""The slice that holds the last snapshot: journaled, masked and restored like any other."""


class Dialogue:
    """See the module. `program` is set once it has been started.

    Args:
        ctx: The engine's.
        kind: The first word of its events.
    """

    program: Program

    def __init__(self, ctx: Context, kind: str) -> None:
        self._ctx, self._kind = ctx, kind
        self._hello: jsonl.Hello | None = None
        self._greeted, self._ready = trio.Event(), trio.Event()
        self._run_id = ""  # the latest run, and whether the program has said how it ended
        self._over = trio.Event()
        self._over.set()
        self._to_run, _ = trio.open_memory_channel[jsonl.Message](0)
        self._number = 0  # of the latest pause that it was asked for
        self._still: trio.Event | None = None  # it stands still; None: it was not asked to
        self._heard_at = 0.0
        self._hearing = False

    @property
    def greeted(self) -> bool:
        return self._greeted.is_set()

    @property
    def ready(self) -> bool:
        """Whether it said that it can work."""
        return self._ready.is_set()

    @property
    def running(self) -> bool:
        """Whether the program has a run that it has not said the end of."""
        return not self._over.is_set()

    def say(self, type: str, **members: Any) -> None:
        """Raises ProgramFailed when the program does not read."""
        self.program.say(jsonl.say(type, **members))

    async def begin(self) -> None:
        """Greet it, and wait until it can work. It speaks another version: it is given up, for good."""
        ctx = self._ctx
        kept = ctx.slice(SNAPSHOT)
        more = {} if kept is None else {"snapshot": kept}
        self.say("hello", protocol=jsonl.PROTOCOL, engine_id=ctx.engine_id, incarnation=ctx.incarnation, **more)
        await self._greeted.wait()
        assert self._hello is not None
        ctx.nursery.start_soon(self._heed)
        if self._hello.heartbeat_s is not None:
            ctx.nursery.start_soon(self._listen, self._hello.heartbeat_s)
        await self._ready.wait()

    async def hear(self, line: bytes) -> None:
        """A line of the program's. For what is none of the language's it is given up."""
        try:
            message = jsonl.parse_line(line, shown=lambda line: self._ctx.masking().feed(line))
        except jsonl.Broken as error:
            self.program.give_up(f"does not speak the protocol: {error}")
            return
        self._hearing = True  # while this waits nothing else is heard, which is not the program's silence
        try:
            await self._take(message)
        finally:
            self._hearing = False
            self._heard_at = trio.current_time()

    async def _take(self, message: jsonl.Message) -> None:
        match message:
            case jsonl.Hello():
                self._greet(message)
            case jsonl.Ready():
                self._ready.set()
            case jsonl.Paused():
                if self._stands_still(message.number) and self.running:
                    await self._pass_on(message)
            case jsonl.Heartbeat():
                pass
            case _ if message.id is None:
                await self._do(self._ctx, message)
            case _ if message.id == self._run_id:
                if isinstance(message, jsonl.Result | jsonl.Failure):
                    self._over.set()
                await self._pass_on(message)

    def _greet(self, hello: jsonl.Hello) -> None:
        if hello.protocol != jsonl.PROTOCOL:
            spoken = f"speaks version {hello.protocol} of the protocol; this house speaks {jsonl.PROTOCOL}"
            self.program.give_up(spoken, for_good=True)
            return
        if self._hello is None:  # what it announces is for its whole life
            self._hello = hello
        if self._hello.ready:
            self._ready.set()
        self._greeted.set()

    async def _pass_on(self, message: jsonl.Message) -> None:
        with suppress(trio.BrokenResourceError):  # a run that was cancelled listens no more
            await self._to_run.send(message)

    # -- a run -------------------------------------------------------------------------------------------------------
    async def run(self, ctx: RunContext, run: RunInput) -> Any:
        """Hand the run over, and do what the program says about it until it says how it ended."""
        more: dict[str, Any] = {"trace": as_json(ctx.trace)} if ctx.trace is not None else {}
        if run.resumed:
            assert self._hello is not None
            if not self._hello.resume:
                why = "It was interrupted, and the program does not say that it can resume."
                raise RunFailed("interrupted", f"{why} {ANEW}")
            more |= {"resumed": True, "snapshot": ctx.slice(SNAPSHOT)}
        if self.running:
            await self._let_go()
        self._to_run, said = trio.open_memory_channel[jsonl.Message](MESSAGES_AHEAD)
        self._run_id, self._over = run.id, trio.Event()
        self.say("run", id=run.id, input=run.input, attempt=run.attempt, **more)
        try:
            with said:
                return await self._follow(ctx, said)
        finally:
            if self.running and not self.program.ended.is_set():
                with trio.CancelScope(shield=True):
                    await self._cancel()

    async def _follow(self, ctx: RunContext, said: trio.MemoryReceiveChannel[jsonl.Message]) -> Any:
        while True:
            message = None
            with suppress(trio.EndOfChannel):
                async with ctx.process_wait():
                    message = await said.receive()
            match message:
                case None:  # it was stopped, and so is the engine: this ends the run as what it is
                    await ctx.pause_point()
                case jsonl.Result():
                    return message.result
                case jsonl.Failure():
                    raise RunFailed(message.slug, message.detail, message.result)
                case jsonl.Paused():
                    if self._stands_still(message.number):
                        await ctx.pause_point()
                case jsonl.Ask():
                    await self._ask(ctx, message)
                case jsonl.Output():
                    await ctx.output(message.text)
                case jsonl.Progress():
                    ctx.progress(message.data)
                case jsonl.Usage():
                    ctx.usage(**message.amounts)
                case _:
                    await self._do(ctx, message)

    async def _ask(self, ctx: RunContext, ask: jsonl.Ask) -> None:
        decided = await ctx.ask_human(
            ask.title, kind=ask.kind, detail=ask.detail, options=ask.options, schema=ask.schema_,
            deadline_s=ask.deadline_s, default=ask.default, action=ask.action, valid_s=ask.valid_s,
            escalate_s=ask.escalate_s,
        )  # fmt: skip
        answer = {"option": decided.option, "answer": decided.answer, "comment": decided.comment}
        self.say("answer", id=ask.id, ask=ask.ask, **answer)

    async def _cancel(self) -> None:
        """The run is not wanted any more. A program that is held may be frozen: the next run waits for it then."""
        self.say("cancel", id=self._run_id)
        if self._ctx.held is not PauseMode.FREEZE:
            await self._let_go()

    async def _let_go(self) -> None:
        with trio.move_on_after(CANCEL_S):
            await self._over.wait()
        if self.running:
            self.program.give_up(f"did not end a cancelled run within {CANCEL_S:g} s")

    async def _do(self, ctx: Context, message: jsonl.Message) -> None:
        """What a program may say at any time."""
        match message:
            case jsonl.Event():
                await ctx.emit(f"{self._kind}.{message.name}", message.data)
            case jsonl.Update():
                ctx.update(message.slice, message.value)
            case jsonl.Snapshot():
                ctx.update(SNAPSHOT, message.value)
            case jsonl.Log():
                ctx.log(message.text, level=message.level)
            case jsonl.Unknown():
                ctx.log(f"The program said something that this house does not know: {message.type}", level="warning")

    # -- held --------------------------------------------------------------------------------------------------------
    async def _heed(self) -> None:
        """Tell the program when it is to stand still, and when it may go on."""
        ctx = self._ctx
        while True:
            if await ctx.until_held(*PauseMode) is not PauseMode.FREEZE:
                self._ask_to_pause()
                await ctx.until_held(None, PauseMode.FREEZE)
                self._let_go_on()
            await ctx.until_held(None)
            self._heard_at = trio.current_time()

    async def quiesced(self) -> None:
        """No run is in hand, and the engine is held: wait until the program stands still, or need not any more."""
        if self._ctx.held not in (None, PauseMode.FREEZE):
            self._ask_to_pause()
            if self._still is not None:
                await self._still.wait()

    def _ask_to_pause(self) -> None:
        if self._still is None and self._hello is not None and self._hello.pause:
            self._still = trio.Event()
            self._number += 1
            self.say("pause", number=self._number)

    def _let_go_on(self) -> None:
        if self._still is not None:
            self._still.set()
            self._still = None
            if not self._ctx.stopping:
                self.say("resume", number=self._number)

    def _stands_still(self, number: int) -> bool:
        """Whether this answers the present pause. One that is over may be answered late."""
        if self._still is None or number != self._number:
            return False
        self._still.set()
        return True

    async def _listen(self, every_s: float) -> None:
        """A program that promised a sign of life every so often is lost when none comes. Held, it owes none."""
        ctx = self._ctx
        while not ctx.stopping:
            if ctx.held is not None or self._hearing:
                await ctx.until_held(None)
                self._heard_at = trio.current_time()
            until = self._heard_at + PATIENCE * every_s
            if trio.current_time() >= until:
                silent = f"said nothing for {PATIENCE * every_s:g} s"
                self.program.give_up(f"{silent}, though it had promised a sign of life every {every_s:g} s")
                return
            await trio.sleep_until(until)

    # -- the end -----------------------------------------------------------------------------------------------------
    def forget(self) -> None:
        """The engine ends: nobody waits any more for the end of a run that was cancelled."""
        self._over.set()

    def close(self) -> None:
        """The program has ended: its run hears nothing more."""
        self._to_run.close()

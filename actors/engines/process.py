"""The process kind: a program in any language as an engine.

Protocol `none`: the program itself is the work. It takes no runs; what it says is logged; when it ends well the engine
is finished, else it has crashed and its restart policy answers. Protocol `jsonl`: runs are sent to it as lines of JSON
and it answers in kind (`docs/engine-protocol.md`); whatever it sends that breaks the protocol is a crash with a
sentence, and so is silence at boot.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Annotated, Any, ClassVar, Literal, Self

import trio
from pydantic import Field, field_validator, model_validator

from actors.children import ChildPolicy
from actors.context import Context, RunContext
from actors.engine import CannotStart, Config, Engine, Finished, RunFailed, RunInput
from actors.engines import jsonl
from actors.engines.program import LOG_LINE_BYTES, Program, ProgramFailed
from actors.engines.programs import ProgramConfig, Text, cannot_start, exceeded, refuse
from actors.lines import Lines
from actors.processes import SpawnFailed
from protocol.edge import as_json
from protocol.specs import OnInterrupt, PauseMode

__all__ = ["ProcessConfig", "ProcessEngine", "Ready"]

CANCEL_S = 5.0
"""How long a program may go on with a run that was cancelled before it is killed and started anew."""

MESSAGES_AHEAD = 64
"""How many messages of a run may wait for the run's task; then the program is not read any further."""

LOOK_S = 0.05
"""How often a port is tried."""


class Ready(Config):
    """When the program counts as running: exactly one of the three.

    `line`: when a line it writes holds this text, or matches it as a regular expression; `port`: when it accepts TCP
    connections on this port of the loopback; `delay_s`: when it has run for so long.
    """

    line: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    delay_s: Annotated[float, Field(ge=0, le=86_400)] | None = None

    @field_validator("line")
    @classmethod
    def _compiles(cls, line: str | None) -> str | None:
        try:
            re.compile(line or "")
        except re.error as error:
            raise ValueError(f"this is no regular expression: {error}") from None
        return line

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.line, self.port, self.delay_s)) != 1:
            raise ValueError("give one of line, port and delay_s")
        return self

    def shown_by(self, line: str) -> bool:
        return self.line is not None and (self.line in line or re.search(self.line, line) is not None)


class ProcessConfig(ProgramConfig):
    """`argv`: the program and its arguments; no shell reads them. `stop_signal`: how it is asked to end; a `jsonl`
    program is told so first.
    """

    argv: Annotated[tuple[Text, ...], Field(min_length=1, max_length=4096)]
    protocol: Literal["jsonl", "none"] = "jsonl"
    ready: Ready | None = None
    stop_signal: Literal["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "KILL"] = "TERM"

    @model_validator(mode="after")
    def _can_be_seen_ready(self) -> Self:
        if self.ready is not None and self.ready.port is not None and self.sandbox and not self.sandbox.network:
            raise ValueError("a port is ready only where the sandbox opens the network")
        return self

    @field_validator("stop_signal", mode="before")
    @classmethod
    def _short(cls, name: object) -> object:
        return name.removeprefix("SIG") if isinstance(name, str) else name


class ProcessEngine(Engine):
    """See the module."""

    kind = "process"
    description = "A program in any language: as it is, or speaking JSON lines."
    Config = ProcessConfig
    Input: ClassVar[Any] = Any
    pause_modes = (PauseMode.FREEZE, PauseMode.SOFT, PauseMode.INTERRUPT)
    pause_mode = PauseMode.FREEZE
    on_interrupt = OnInterrupt.FAIL
    refuses = True
    config: ProcessConfig

    def __init__(self, config: ProcessConfig) -> None:
        super().__init__(config)
        self._program: Program
        self._held = False
        self._shown = trio.Event()  # the line that says it is ready
        self._greeted = trio.Event()
        self._run_id = ""  # the latest run, and whether the program has said how it ended
        self._over = trio.Event()
        self._over.set()
        self._to_run, _ = trio.open_memory_channel[jsonl.Message](0)

    @classmethod
    def accepts_runs(cls, config: ProcessConfig) -> bool:
        return config.protocol == "jsonl"

    @classmethod
    def modes(cls, config: ProcessConfig) -> tuple[PauseMode, ...]:
        """A program that is itself the work has no boundary to pause at: only frozen does it stand still."""
        return cls.pause_modes if config.protocol == "jsonl" else (PauseMode.FREEZE,)

    @classmethod
    def refuse(cls, config: ProcessConfig, children: ChildPolicy) -> None:
        refuse(config, children)

    async def on_start(self, ctx: Context) -> None:
        """CannotStart: there is no such program, directory or secret, or it speaks another version of the protocol."""
        config = self.config
        boot_s = trio.current_effective_deadline() - trio.current_time()
        try:
            env = await ctx.environment(config.env, api=config.api)
            process = await ctx.spawn_process(config.argv, env=env, **config.bounds)
        except SpawnFailed as error:
            raise cannot_start(error) from error
        speaks = config.protocol == "jsonl"
        self._program = Program(
            repr(config.argv[0]),
            process,
            lines=Lines(jsonl.LINE_BYTES) if speaks else Lines(LOG_LINE_BYTES, cut=True),
            heard=self._heard(ctx) if speaks else self._printed(ctx),
            noticed=lambda text: self._noticed(ctx, text),
            masked=not speaks,
        )
        ctx.nursery.start_soon(self._attend, ctx)
        if speaks:
            self._say("hello", protocol=jsonl.PROTOCOL, engine_id=ctx.engine_id, incarnation=ctx.incarnation)
        # A moment before the runtime's own limit, which knows nothing of last words.
        with trio.move_on_at(trio.current_effective_deadline() - 0.05 * boot_s) as limit:
            if speaks:
                await self._greeted.wait()
            await self._ready(ctx)
        if limit.cancelled_caught:
            missed = "said no hello" if speaks and not self._greeted.is_set() else "was not ready"
            raise ProgramFailed(self._program.sentence(f"{missed} within {round(boot_s, 1):g} s"))

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        """Hand the run over, and do what the program says about it until it says how it ended."""
        if not self._over.is_set():
            await self._let_go()
        self._to_run, said = trio.open_memory_channel[jsonl.Message](MESSAGES_AHEAD)
        self._run_id, self._over = run.id, trio.Event()
        trace = {"trace": as_json(ctx.trace)} if ctx.trace is not None else {}
        self._say("run", id=run.id, input=run.input, attempt=run.attempt, **trace)
        try:
            with said:
                return await self._follow(ctx, said)
        finally:
            if not self._over.is_set() and not self._program.ended.is_set():
                with trio.CancelScope(shield=True):
                    await self._cancel()

    async def on_signal(self, ctx: Context, name: str, payload: Any) -> None:
        """Passed on to a program that speaks."""
        if self.config.protocol == "jsonl":
            self._say("signal", name=name, payload=payload)

    async def on_pause(self, ctx: Context) -> None:
        self._held = True

    async def on_resume(self, ctx: Context) -> None:
        self._held = False

    async def on_stop(self, ctx: Context) -> None:
        """Told to stop, and after half of the grace signalled; at once when it does not speak, or may be frozen."""
        program = self._program
        self._over.set()  # nobody waits any more for the end of a run that was cancelled
        if self.config.protocol == "jsonl" and not self._held:
            left_s = trio.current_effective_deadline() - trio.current_time()
            self._say("stop")
            with trio.move_on_after(left_s / 2):
                await program.ended.wait()
        program.process.signal(signal.Signals[f"SIG{self.config.stop_signal}"])
        if not self._held:
            await program.ended.wait()

    # -- boot and end ------------------------------------------------------------------------------------------------
    async def _ready(self, ctx: Context) -> None:
        ready = self.config.ready
        if ready is None:
            return
        if ready.line is not None:
            await self._shown.wait()
        elif ready.delay_s is not None:
            await ctx.sleep(ready.delay_s)
        elif ready.port is not None:
            await _accepts(ready.port)

    async def _attend(self, ctx: Context) -> None:
        """The program's life; how it ends is how the incarnation ends, unless it was asked to."""
        program = self._program
        code = await program.attend(ctx)
        if ctx.stopping:
            self._to_run.close()
            return
        if program.blame:
            raise ProgramFailed(program.sentence(program.blame))
        why = exceeded(-code, starved=ctx.starved)
        how = f"exit status {code}" if code >= 0 else f"signal {-code} ({signal.strsignal(-code)}{why})"
        where = " in the middle of a line" if program.half else "" if self._over.is_set() else " in the middle of a run"
        early = self.config.protocol == "jsonl" and not self._greeted.is_set()
        if code == 0 and not where and not early:
            raise Finished
        raise ProgramFailed(program.sentence(f"ended with {how}{where}{' before it said hello' if early else ''}"))

    # -- the program speaks ------------------------------------------------------------------------------------------
    def _say(self, type: str, **members: Any) -> None:
        self._program.say(jsonl.say(type, **members))

    def _noticed(self, ctx: Context, text: str) -> None:
        ctx.log(text, level="error", stream="stderr")
        self._look(text)

    def _look(self, text: str) -> None:
        if self.config.ready is not None and self.config.ready.shown_by(text):
            self._shown.set()

    def _printed(self, ctx: Context) -> Callable[[bytes], Awaitable[None]]:
        async def printed(line: bytes) -> None:
            text = line.decode(errors="replace")
            ctx.log(text, stream="stdout")
            self._look(text)
            await trio.lowlevel.checkpoint()

        return printed

    def _heard(self, ctx: Context) -> Callable[[bytes], Awaitable[None]]:
        async def heard(line: bytes) -> None:
            try:
                message = jsonl.parse_line(line, shown=lambda line: ctx.masking().feed(line))
            except jsonl.Broken as error:
                raise ProgramFailed(self._program.sentence(f"does not speak the protocol: {error}")) from None
            if isinstance(message, jsonl.Hello):
                self._greet(message)
            elif message.id is None:
                await _do(ctx, message)
            elif message.id == self._run_id:
                if isinstance(message, jsonl.Result | jsonl.Failure):
                    self._over.set()
                with suppress(trio.BrokenResourceError):  # a run that was cancelled listens no more
                    await self._to_run.send(message)

        return heard

    def _greet(self, hello: jsonl.Hello) -> None:
        if hello.protocol != jsonl.PROTOCOL:
            spoken = f"speaks version {hello.protocol} of the protocol; this house speaks {jsonl.PROTOCOL}"
            raise CannotStart(self._program.sentence(spoken))
        self._greeted.set()

    # -- a run -------------------------------------------------------------------------------------------------------
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
                case jsonl.Ask():
                    await self._ask(ctx, message)
                case jsonl.Output():
                    await ctx.output(message.text)
                case jsonl.Progress():
                    ctx.progress(message.data)
                case _:
                    await _do(ctx, message)

    async def _ask(self, ctx: RunContext, ask: jsonl.Ask) -> None:
        decided = await ctx.ask_human(
            ask.title, kind=ask.kind, detail=ask.detail, options=ask.options, schema=ask.schema_,
            deadline_s=ask.deadline_s, default=ask.default, action=ask.action, valid_s=ask.valid_s,
            escalate_s=ask.escalate_s,
        )  # fmt: skip
        answer = {"option": decided.option, "answer": decided.answer, "comment": decided.comment}
        self._say("answer", id=ask.id, ask=ask.ask, **answer)

    async def _cancel(self) -> None:
        """The run is not wanted any more. A program that is held may be frozen: the next run waits for it then."""
        self._say("cancel", id=self._run_id)
        if not self._held:
            await self._let_go()

    async def _let_go(self) -> None:
        with trio.move_on_after(CANCEL_S):
            await self._over.wait()
        if not self._over.is_set():
            self._program.give_up(f"did not end a cancelled run within {CANCEL_S:g} s")


async def _do(ctx: Context, message: jsonl.Message) -> None:
    """What a program may say at any time."""
    match message:
        case jsonl.Event():
            await ctx.emit(f"{ProcessEngine.kind}.{message.name}", message.data)
        case jsonl.Update():
            ctx.update(message.slice, message.value)
        case jsonl.Log():
            ctx.log(message.text, level=message.level)
        case jsonl.Unknown():
            ctx.log(f"The program said something that this house does not know: {message.type}", level="warning")


async def _accepts(port: int) -> None:
    """Wait until something accepts TCP connections on this port of the loopback, in either family."""
    while True:
        for host in ("127.0.0.1", "::1"):
            with suppress(OSError):
                stream = await trio.open_tcp_stream(host, port)
                await stream.aclose()
                return
        await trio.sleep(LOOK_S)

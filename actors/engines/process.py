"""The process kind: a program in any language as an engine.

Protocol `none`: the program itself is the work. It takes no runs; what it says is logged; when it ends well the engine
is finished, else it has crashed and its restart policy answers. Protocol `jsonl`: runs are sent to it as lines of JSON
and it answers in kind (`docs/engine-protocol.md`); whatever it sends that breaks the protocol is a crash with a
sentence, and so is silence at boot.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import trio
from pydantic import Field, field_validator, model_validator
from pydantic_core import SchemaError, SchemaValidator, core_schema

from actors.children import ChildPolicy, Outside
from actors.context import Context, RunContext
from actors.engine import Config, Engine, Finished, RunInput
from actors.engines import jsonl
from actors.engines.dialogue import Dialogue
from actors.engines.logfile import LogFile, Rotating
from actors.engines.program import LOG_LINE_BYTES, Program, ProgramFailed
from actors.engines.programs import ProgramConfig, Text, cannot_start, command_line, ended, not_allowed, refuse
from actors.lines import Lines
from actors.processes import SpawnFailed
from protocol.errors import NotFound
from protocol.specs import OnInterrupt, PauseMode
from protocol.wire import LogPage

__all__ = ["ProcessConfig", "ProcessEngine", "Ready"]

LOOK_S = 0.05
"""How often a port is tried."""

LOOK_CHARS = 1000
"""How much of a line is looked at for what says that the program is ready."""


class Ready(Config):
    """When the program counts as running: exactly one of the three.

    `line`: when a line it writes holds this text, or matches it as a regular expression, in its first 1,000 characters
    (RE2's syntax: without look-around and back references, so that no line takes for ever); `port`: when it accepts TCP
    connections on this port of the loopback; `delay_s`: when it has run for so long.
    """

    line: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    delay_s: Annotated[float, Field(ge=0, le=86_400)] | None = None

    @field_validator("line")
    @classmethod
    def _compiles(cls, line: str | None) -> str | None:
        try:
            _expression(line or "")
        except SchemaError as error:
            raise ValueError(f"this is no regular expression: {str(error).rpartition('error: ')[2]}") from None
        return line

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in (self.line, self.port, self.delay_s)) != 1:
            raise ValueError("give one of line, port and delay_s")
        return self

    def shown_by(self, line: str) -> bool:
        line = line[:LOOK_CHARS]
        return self.line is not None and (self.line in line or _expression(self.line).isinstance_python(line))


@lru_cache(256)
def _expression(pattern: str) -> SchemaValidator:
    """What takes texts that hold a match. Python's own expressions can take for ever, and hold every thread of the
    house meanwhile; these take linear time.
    """
    return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))


class ProcessConfig(ProgramConfig):
    """`argv`: the program and its arguments; no shell reads them. `stop_signal`: how it is asked to end; a `jsonl`
    program is told so first. `exit_codes`: with which of them it has ended well. `redirect_stderr`: its standard error
    goes where its output goes; not where that is the protocol. `stdout_log`, `stderr_log`: the files in which what it
    writes is kept, all of it; none, when null. The output of `jsonl` is the protocol, and is not kept.
    """

    argv: Annotated[tuple[Text, ...], Field(min_length=1, max_length=4096)]
    protocol: Literal["jsonl", "none"] = "jsonl"
    ready: Ready | None = None
    stop_signal: Literal["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "KILL"] = "TERM"
    exit_codes: Annotated[tuple[Annotated[int, Field(ge=0, le=255)], ...], Field(max_length=256)] = (0,)
    redirect_stderr: bool = False
    stdout_log: LogFile | None = LogFile()
    stderr_log: LogFile | None = LogFile()

    @model_validator(mode="after")
    def _can_be_seen_ready(self) -> Self:
        if self.ready is not None and self.ready.port is not None and self.sandbox and not self.sandbox.network:
            raise ValueError("a port is ready only where the sandbox opens the network")
        return self

    @model_validator(mode="after")
    def _speaks_alone(self) -> Self:
        if self.redirect_stderr and self.protocol == "jsonl":
            raise ValueError("redirect_stderr is for protocol none: the output of jsonl is the protocol's")
        return self

    @property
    def logs(self) -> dict[str, LogFile]:
        """The files that are written, by the stream that goes there."""
        streams = {"stdout": self.stdout_log, "stderr": self.stderr_log}
        if self.protocol == "jsonl":
            del streams["stdout"]
        if self.redirect_stderr:
            del streams["stderr"]
        return {stream: log for stream, log in streams.items() if log is not None}

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
    interrupted = "Its program was ended."
    checkpoints = True
    refuses = True
    config: ProcessConfig

    def __init__(self, config: ProcessConfig) -> None:
        super().__init__(config)
        self._program: Program
        self._dialogue: Dialogue | None = None
        self._logs: dict[str, Rotating] = {}
        self._held = self._up = False
        self._shown = trio.Event()  # the line that says it is ready

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
        for stream, log in config.logs.items():
            try:
                log.check(children)
            except Outside as error:
                raise not_allowed(f"{stream}_log", str(error)) from None

    @classmethod
    def read_log(
        cls, config: ProcessConfig, directory: Path, children: ChildPolicy, stream: str, after: str | None, limit: int
    ) -> LogPage:
        if stream not in config.logs:
            raise NotFound(f"This engine keeps no log of {stream}; it keeps {', '.join(config.logs) or 'none'}.")
        return config.logs[stream].read(directory, stream, children, after, limit)

    async def on_start(self, ctx: Context) -> None:
        """CannotStart: there is no such program, directory or secret, or it speaks another version of the protocol."""
        config = self.config
        boot_s = trio.current_effective_deadline() - trio.current_time()
        try:
            env = await ctx.environment(config.env, api=config.api)
            process = await ctx.spawn_process(
                config.argv, env=env, merge_stderr=config.redirect_stderr, **config.bounds
            )
        except SpawnFailed as error:
            raise cannot_start(error) from error
        kept = await self._open_logs(ctx)
        dialogue = self._dialogue = Dialogue(ctx, self.kind) if config.protocol == "jsonl" else None
        self._program = Program(
            command_line(ctx, config.argv),
            process,
            lines=Lines(jsonl.LINE_BYTES) if dialogue else Lines(LOG_LINE_BYTES, cut=True),
            heard=dialogue.hear if dialogue else partial(self._printed, ctx),
            noticed=partial(self._noticed, ctx),
            masked=dialogue is None,
            kept=kept.get("stdout"),
            kept_error=kept.get("stderr"),
        )
        if dialogue is not None:
            dialogue.program = self._program
        ctx.nursery.start_soon(self._attend, ctx)
        # A moment before the runtime's own limit, which knows nothing of last words.
        with trio.move_on_at(trio.current_effective_deadline() - 0.05 * boot_s) as limit:
            if dialogue is not None:
                await dialogue.begin()
            await self._ready(ctx)
        if limit.cancelled_caught:
            mute = dialogue is not None and not dialogue.greeted
            missed = "said no hello" if mute else "was not ready"
            awaited = "" if mute else f": {self._awaited()}"
            raise ProgramFailed(self._program.sentence(f"{missed} within {round(boot_s, 1):g} s{awaited}"))
        self._up = True

    async def on_run(self, ctx: RunContext, run: RunInput) -> Any:
        """What the program makes of it."""
        assert self._dialogue is not None
        return await self._dialogue.run(ctx, run)

    async def on_signal(self, ctx: Context, name: str, payload: Any) -> None:
        """Passed on to a program that speaks."""
        if self._dialogue is not None:
            self._dialogue.say("signal", name=name, payload=payload)

    async def on_pause(self, ctx: Context) -> None:
        self._held = True
        if self._dialogue is not None:
            await self._dialogue.quiesced()

    async def on_resume(self, ctx: Context) -> None:
        self._held = False

    async def on_stop(self, ctx: Context) -> None:
        """Told to stop, and after half of the grace signalled; at once when it does not speak, or may be frozen."""
        program = self._program
        if self._dialogue is not None:
            self._dialogue.forget()
            if not self._held:
                left_s = trio.current_effective_deadline() - trio.current_time()
                self._dialogue.say("stop")
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

    def _awaited(self) -> str:
        """What has not come of what it was to be ready by."""
        ready = self.config.ready
        if ready is None or (self._dialogue is not None and not self._dialogue.ready):
            return "it did not say `ready`"
        if ready.line is not None:
            return f"no line matched {ready.line!r}"
        if ready.port is not None:
            return f"port {ready.port} accepted no connection"
        return f"it was to run for {ready.delay_s:g} s first"

    async def _attend(self, ctx: Context) -> None:
        """The program's life; how it ends is how the incarnation ends, unless it was asked to."""
        program = self._program
        try:
            code = await program.attend(ctx)
        finally:
            for log in self._logs.values():
                log.close()
        if self._dialogue is not None:
            self._dialogue.close()
        elif program.half:
            await self._printed(ctx, program.half)
        if ctx.stopping:
            return
        if program.blame:
            raise program.verdict()
        how = ended(code, starved=ctx.starved)
        if where := self._unfinished():
            raise ProgramFailed(program.sentence(f"{how} {where}"))
        if code not in self.config.exit_codes:
            raise ProgramFailed(program.sentence(how))
        raise Finished

    def _unfinished(self) -> str:
        """What it left unfinished, as the end of a sentence: then no exit status is a good end."""
        dialogue, where = self._dialogue, []
        if dialogue is not None and self._program.half:
            where.append("in the middle of a line")
        elif dialogue is not None and dialogue.running:
            where.append("in the middle of a run")
        if dialogue is not None and not dialogue.greeted:
            where.append("before it said hello")
        elif (dialogue is not None and not dialogue.ready) or (self.config.ready is not None and not self._up):
            where.append("before it was ready")
        return " ".join(where)

    async def _open_logs(self, ctx: Context) -> dict[str, Callable[[bytes], None]]:
        """Where the bytes of each stream that is kept go."""
        for stream, log in self.config.logs.items():
            self._logs[stream] = log.opened(await ctx.folder(), stream, ctx.children, partial(ctx.log, level="warning"))
        return {stream: log.write for stream, log in self._logs.items()}

    # -- what it prints ----------------------------------------------------------------------------------------------
    async def _printed(self, ctx: Context, line: bytes) -> None:
        text = line.decode(errors="replace")
        if self._tells(self.config.stdout_log):
            ctx.log(text, stream="stdout")
        self._look(text)
        await trio.lowlevel.checkpoint()

    def _noticed(self, ctx: Context, text: str) -> None:
        if self._tells(self.config.stderr_log):
            ctx.log(text, level="error", stream="stderr")
        self._look(text)

    @staticmethod
    def _tells(log: LogFile | None) -> bool:
        """Lines that are kept nowhere else are events in any case."""
        return log is None or log.events

    def _look(self, text: str) -> None:
        ready = self.config.ready
        if ready is not None and not self._shown.is_set() and ready.shown_by(text):
            self._shown.set()


async def _accepts(port: int) -> None:
    """Wait until something accepts TCP connections on this port of the loopback, in either family."""
    while True:
        for host in ("127.0.0.1", "::1"):
            with suppress(OSError):
                stream = await trio.open_tcp_stream(host, port)
                await stream.aclose()
                return
        await trio.sleep(LOOK_S)

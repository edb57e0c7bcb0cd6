"""The acp kind: an agent that speaks the Agent Client Protocol, as an engine; each run is a turn of its session.

The agent's program lives as long as the incarnation. Its session outlives both where the agent can resume or load one.
Whatever it says that breaks the protocol is a crash with a sentence, and so are its end and its silence at boot.
"""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import trio

from actors.children import ChildPolicy, Place
from actors.context import Context, RunContext
from actors.engine import ANEW, CannotStart, Engine, RunFailed, RunInput
from actors.engines.acp.asking import Asking
from actors.engines.acp.calls import text_of
from actors.engines.acp.client import Client
from actors.engines.acp.config import AcpConfig, Input, McpServer, McpStdio
from actors.engines.acp.connection import Connection, Heard
from actors.engines.acp.facts import Facts
from actors.engines.acp.files import Files
from actors.engines.acp.presets import Preset
from actors.engines.acp.rpc import (
    AUTH_REQUIRED,
    INVALID_PARAMS,
    LINE_BYTES,
    Answer,
    Broken,
    Refused,
    Request,
)
from actors.engines.acp.serving import Serving
from actors.engines.acp.session import Session
from actors.engines.acp.story import Story, unknown
from actors.engines.acp.telling import tell
from actors.engines.acp.terminals import Terminals
from actors.engines.acp.turn import Turn
from actors.engines.conversing import brief, shortened
from actors.engines.permitting import Permissions
from actors.engines.program import Program, ProgramFailed
from actors.engines.programs import Environment, cannot_start, command_line, ended, refuse
from actors.lines import Lines
from actors.processes import SpawnFailed
from protocol.specs import OnInterrupt, PauseMode

__all__ = ["Acp"]

CANCEL_S = 5.0
"""How long an agent may go on with a turn that was cancelled before it is killed and started anew."""

LAST_WORDS_S = 1.0
"""How much of the time to boot is kept for saying what was missed."""

SIGNAL_S = 30.0
"""How long it may take to answer what a signal has it do."""

REASON_BYTES = 200
NOTIFICATION_BYTES = 8 << 10
GO_ON = "You were interrupted in the middle of your turn. Go on where you stopped, without doing anything twice."
"""The prompt of a run that is resumed in the session in which it was interrupted."""

NEEDS = {"image": "image", "audio": "audio", "resource": "embeddedContext"}
"""What an agent has to be able to take for a block of this type."""


class Acp(Engine):
    """See the module."""

    kind = "acp"
    description = "A coding agent that speaks the Agent Client Protocol; a run is a turn of its session."
    Config = AcpConfig
    Input: ClassVar[Any] = Input
    emits = tuple(
        f"acp.{name}"
        for name in (
            "message", "thought", "tool", "plan", "usage", "session", "mode", "model", "options", "commands",
            "permission", "file", "terminal", "update", "notification",
        )
    )  # fmt: skip
    pause_modes = (PauseMode.SOFT, PauseMode.INTERRUPT, PauseMode.FREEZE)
    pause_mode = PauseMode.SOFT
    freezes = True
    on_interrupt = OnInterrupt.RESUME
    interrupted = "Its agent was ended; the slices `conversation` and `tools` tell what it did."
    checkpoints = True
    refuses = True
    config: AcpConfig

    def __init__(self, config: AcpConfig) -> None:
        super().__init__(config)
        self._program: Program
        self._connection: Connection
        self._session: Session
        self._client: Client
        self._terminals: Terminals
        self._facts: Facts
        self._permissions: Permissions
        self._story: Story
        self._turn: Turn | None = None
        self._outside: Serving  # what it asks when there is no turn
        self._up = False
        self._held = False
        self._lost: str | None = None  # the run that the session was doing which could not be found again

    @classmethod
    def refuse(cls, config: AcpConfig, children: ChildPolicy) -> None:
        refuse(config, children)

    # -- boot and end ------------------------------------------------------------------------------------------------
    async def on_start(self, ctx: Context) -> None:
        """CannotStart: there is no such program, directory or secret, the agent speaks another version of the protocol,
        wants somebody to be authenticated, or does not take what the config says.
        """
        preset = self.config.preset
        boot_s = trio.current_effective_deadline() - trio.current_time()
        environment = {**preset.env, **self.config.env}
        try:
            env = await ctx.environment(environment, api=self.config.api)
            servers = [await _server(ctx, server) for server in self.config.mcp_servers]
            if preset.script:
                await self._look_for_script(ctx, preset)
            process = await ctx.spawn_process(preset.argv, env=env, **self.config.bounds)
        except SpawnFailed as error:
            raise cannot_start(error, preset.remedy) from error
        named = repr(preset.name) if self.config.agent else command_line(ctx, preset.argv)
        self._program = Program(
            named, process, lines=Lines(LINE_BYTES), heard=self._read,
            noticed=lambda text: ctx.log(text, stream="stderr"),
        )  # fmt: skip
        self._settle(ctx, servers, environment)
        ctx.nursery.start_soon(self._attend, ctx)
        # A moment before the runtime's own limit, which knows nothing of last words.
        with trio.move_on_at(trio.current_effective_deadline() - min(0.2 * boot_s, LAST_WORDS_S)) as limit:
            try:
                await self._session.greet()
                await self._session.authenticate(preset.auth)
                self._lost = await self._session.open()
            except Refused as refused:
                raise ProgramFailed(
                    self._program.sentence(f"answered {self._session.step} with an error: {refused}")
                ) from None
            await self._session.set_up()
        if limit.cancelled_caught:
            late = f"did not answer {self._session.step} within {round(boot_s, 1):g} s"
            raise ProgramFailed(self._program.sentence(late))
        self._up = True

    def _place(self, ctx: Context) -> Place:
        config = self.config
        return ctx.children.place(config.cwd) if config.workspace is None else ctx.children.workspace(config.workspace)

    async def _look_for_script(self, ctx: Context, preset: Preset) -> None:
        """What is missing there no interpreter says as well. A directory that is not there is told by the spawn."""
        place = Path(self._place(ctx).path)
        if not await ctx.blocking(lambda: not place.is_dir() or (place / preset.argv[1]).is_file()):
            raise CannotStart(f"there is no file {preset.argv[1]!r} in {str(place)!r}. {preset.remedy}")

    def _settle(self, ctx: Context, servers: list[dict[str, Any]], env: Environment) -> None:
        """Everything that there is for as long as the incarnation."""
        config = self.config
        place = self._place(ctx)
        self._facts = Facts(ctx.slice("session"))
        self._story = Story({name: ctx.slice(name) for name in ("conversation", "tools", "usage") if ctx.slice(name)})
        self._connection = Connection(
            say=self._program.say, heard=partial(self._heard, ctx), shown=lambda line: ctx.masking().feed(line)
        )
        self._session = Session(
            self._connection, self._facts, config, cwd=place.path, servers=servers,
            tell=partial(tell, ctx), sentence=self._program.sentence,
        )  # fmt: skip
        files = Files(place.path)
        self._permissions = permissions = Permissions(ctx, config.permissions, root=place.path)
        self._terminals = Terminals(ctx, files, env=env, bounds=config.bounds)
        self._client = Client(
            config, facts=self._facts, story=self._story, files=files, terminals=self._terminals,
            asking=Asking(permissions, cwd=place.path, timeout_s=config.ask_timeout_s),
        )  # fmt: skip

        self._outside = Serving(ctx, self._connection, self._client)

    async def on_pause(self, ctx: Context) -> None:
        self._held = True

    async def on_resume(self, ctx: Context) -> None:
        self._held = False

    async def on_stop(self, ctx: Context) -> None:
        """A turn is cancelled, and may use half of the grace for its end; then the agent is signalled."""
        program, turn = self._program, self._turn
        if turn is not None and not turn.over.is_set() and not self._held:
            left_s = trio.current_effective_deadline() - trio.current_time()
            turn.stop()
            with trio.move_on_after(left_s / 2):
                await turn.over.wait()
        program.process.signal(signal.SIGTERM)
        if not self._held:
            await program.ended.wait()

    async def _attend(self, ctx: Context) -> None:
        """The agent's life; how it ends is how the incarnation ends, unless it was asked to."""
        program = self._program
        code = await program.attend(ctx)
        if ctx.stopping:
            return
        if program.blame:
            raise program.verdict()
        turning = self._turn is not None and not self._turn.over.is_set()
        where = " in the middle of a line" if program.half else " in the middle of a turn" if turning else ""
        early = "" if self._up else f" before it answered {self._session.step or 'initialize'}"
        raise ProgramFailed(program.sentence(f"{ended(code, starved=ctx.starved)}{where}{early}"))

    # -- the agent speaks --------------------------------------------------------------------------------------------
    async def _read(self, line: bytes) -> None:
        try:
            await self._connection.hear(line)
        except Broken as broken:
            self._program.give_up(f"does not speak the protocol: {broken}")

    async def _heard(self, ctx: Context, item: Heard) -> None:
        if isinstance(item, Answer):
            if self._turn is not None:
                await self._turn.hear(item)
            return
        if self._turn is not None and await self._turn.hear(item):
            return
        if isinstance(item, Request):
            self._outside.begin(ctx.nursery, item)
        else:
            await self._taken(ctx, item)

    async def _taken(self, ctx: Context, item: Heard) -> None:
        """A notification: an update of our session, or something that we do not know."""
        assert not isinstance(item, Request | Answer)
        if item.method == "$/cancel_request":
            name = item.params.get("requestId")
            if self._turn is None or not self._turn.drop(name):
                self._outside.drop(name)
            return
        update = item.params.get("update")
        if item.method != "session/update" or not isinstance(update, dict):
            data = {"method": shortened(item.method, 200), "params": brief(item.params, NOTIFICATION_BYTES)}
            await ctx.emit("acp.notification", data)
            return
        foreign = item.params.get("sessionId") != self._facts.session_id and not self._session.opening
        if foreign:
            await tell(ctx, [unknown(update, session=str(item.params.get("sessionId")))])
            return
        said = self._facts.take(update)
        if said is None and self._session.replayed is not None:
            self._session.replayed += 1
        else:
            await tell(ctx, self._story.take(update) if said is None else said)

    # -- a run -------------------------------------------------------------------------------------------------------
    async def on_run(self, ctx: RunContext, run: RunInput) -> dict[str, Any]:
        """Prompt the agent; the run ends as its turn does."""
        if self._turn is not None and not self._turn.over.is_set():
            await self._let_go(self._turn)
        prompt = self._prompt(run)
        turn = self._turn = Turn(
            ctx, self._connection, self._client, session_id=self._facts.session_id, taken=self._taken
        )
        self._client.run_id = run.id
        self._facts.prompt(run.id)
        await tell(ctx, [self._facts.slice, *self._story.begin(run.id, "\n".join(map(text_of, prompt)))])
        await ctx.flush()
        try:
            answer = await turn.take(prompt)
            usage, said = self._story.spent(answer.result.get("usage") if isinstance(answer.result, dict) else None)
            await tell(ctx, said)
        finally:
            with trio.CancelScope(shield=True):
                await self._end(ctx, turn, run.id)
        if ctx.stopping:
            await ctx.pause_point()  # this ends the run as what it is
        spent = {"tokens": usage.get("total_tokens", 0), "cost_usd": usage.get("cost_usd", 0)}
        ctx.usage(**{name: amount for name, amount in spent.items() if amount})
        return self._result(answer, usage)

    def _prompt(self, run: RunInput) -> list[dict[str, Any]]:
        """The content blocks to send. Raises RunFailed for what cannot be sent, or cannot go on."""
        if run.resumed and run.id == self._lost:
            lost = f"It was interrupted, and the agent's session could not be found again: {self._session.lost}."
            raise RunFailed("session-lost", f"{lost} {self._story.told(run.id)} {ANEW}")
        if run.resumed and run.id == self._facts.prompted:
            return [{"type": "text", "text": GO_ON}]
        blocks = [{"type": "text", "text": run.input}] if isinstance(run.input, str) else run.input
        for block in blocks:
            needed = NEEDS.get(block["type"])
            if needed is not None and not self._facts.can("promptCapabilities", needed):
                raise RunFailed("unsupported-content", f"The agent takes no {block['type']} in a prompt.")
        return blocks

    async def _end(self, ctx: RunContext, turn: Turn, run_id: str) -> None:
        """The turn is over, or made to be; a frozen agent hears of it later, and the next run waits for that."""
        if not turn.over.is_set() and not self._program.ended.is_set():
            self._terminals.end_of(run_id)
            over = await turn.cancel(0 if self._held else CANCEL_S)
            if not over and not self._held:
                self._give_up()
        await turn.close()
        self._client.run_id = ""
        await tell(ctx, self._story.end())

    async def _let_go(self, turn: Turn) -> None:
        with trio.move_on_after(CANCEL_S):
            await turn.over.wait()
        if not turn.over.is_set():
            self._give_up()

    def _give_up(self) -> None:
        self._program.give_up(f"did not end a cancelled turn within {CANCEL_S:g} s")

    def _result(self, answer: Answer, usage: dict[str, Any]) -> dict[str, Any]:
        refused = answer.refused
        found = answer.result.get("stopReason") if isinstance(answer.result, dict) else None
        reason = shortened(found, REASON_BYTES) if isinstance(found, str) else None
        result = {"text": self._story.text, "stop_reason": reason, "usage": usage}
        if refused is not None:
            slug = "auth-required" if refused.code == AUTH_REQUIRED else "agent-error"
            raise RunFailed(slug, f"The agent answered with an error ({refused.code}): {refused}", result)
        match reason:
            case "refusal":
                raise RunFailed("refused", "The agent refuses to go on with this.", result)
            case "cancelled":
                raise RunFailed("agent-cancelled", "The agent ended the turn as cancelled, though nobody did.", result)
            case str():
                return result
        raise RunFailed("agent-error", "The agent ended the turn without a stop reason.", result)

    # -- signals -----------------------------------------------------------------------------------------------------
    async def on_signal(self, ctx: Context, name: str, payload: Any) -> dict[str, Any]:
        """`set_mode`, `set_model` (an id), `set_option` ({id, value}), `list_sessions`, `forget` (a rule), and
        between turns `new_session`, `load_session` (an id). The answer is `{ok, error?, sessions?, forgotten?}`.
        """
        try:
            with trio.move_on_after(SIGNAL_S) as limit:
                async with ctx.process_wait():
                    return {"ok": True, **await self._do(name, payload)}
        except Refused as refused:
            return {"ok": False, "error": str(refused)}
        assert limit.cancelled_caught
        return {"ok": False, "error": f"the agent did not answer within {SIGNAL_S:g} s"}

    async def _do(self, name: str, payload: Any) -> dict[str, Any]:
        session, turning = self._session, self._turn is not None and not self._turn.over.is_set()
        match name, payload:
            case "set_mode" | "set_model", str(value):
                await session.set(name.removeprefix("set_"), value)
            case "set_option", {"id": str(option), "value": str() | bool() as value}:
                await session.set_option(option, value)
            case "forget", _:
                try:
                    return {"forgotten": self._permissions.forget(payload)}
                except ValueError as error:
                    raise Refused(INVALID_PARAMS, str(error)) from None
            case "list_sessions", _:
                return {"sessions": brief(await session.list(), 1 << 16)}
            case "new_session" | "load_session", _ if turning:
                raise Refused(INVALID_PARAMS, "a turn is going on; cancel it first")
            case "new_session", _:
                await session.new()
                self._story.fresh()
            case "load_session", str(session_id):
                await session.load(session_id)
            case _:
                raise Refused(INVALID_PARAMS, f"there is no signal {name!r} with such a payload")
        return {}


async def _server(ctx: Context, server: McpServer) -> dict[str, Any]:
    """An MCP server in the protocol's words, its secrets among them."""
    if isinstance(server, McpStdio):
        env = await _pairs(ctx, server.env)
        return {"name": server.name, "command": server.command, "args": list(server.args), "env": env}
    headers = await _pairs(ctx, server.headers)
    return {"type": server.type, "name": server.name, "url": server.url, "headers": headers}


async def _pairs(ctx: Context, values: Environment) -> list[dict[str, str]]:
    return [
        {"name": name, "value": value if isinstance(value, str) else await ctx.secret(value)}
        for name, value in values.items()
    ]

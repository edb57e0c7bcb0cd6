"""Commands that the agent has us run: in its directory and its process tree, within the bounds that it has itself."""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Mapping
from typing import Any

import trio

from actors.context import Context
from actors.engines.acp.files import Files
from actors.engines.acp.rpc import INTERNAL, INVALID_PARAMS, Refused
from actors.engines.conversing import shortened
from actors.engines.programs import Bounds, Environment
from actors.processes import Process, SpawnFailed

__all__ = ["OUTPUT_BYTES", "TERMINALS", "Terminals", "line_of"]

TERMINALS = 32
"""How many there may be at a time."""

OUTPUT_BYTES = 1 << 20
"""How much output is kept, the last of it, unless the agent wants less."""

SHOWN_BYTES, SHOWN = 4 << 10, 2000
"""How much of a command is told, and how many characters of its output, the last ones."""

DRAIN_S = 0.5
"""How long its last words may take when it has ended and a child of its holds the output open."""

TERM_S = 2.0
"""How long a command that is killed has between TERM and KILL."""

SPECIAL = re.compile(r"[\s|&;<>()$`\\\"'*?#~={}!\[\]]")
"""What only a shell understands; a command without arguments that holds some is a line for one."""


class Terminal:
    """One command. `ended`: it has, and all that it printed is kept."""

    def __init__(self, id: str, run_id: str, line: str, process: Process, most_bytes: int) -> None:
        self.id, self.run_id, self.line, self.process = id, run_id, line, process
        self.ended = trio.Event()
        self.truncated = False
        self._most_bytes = most_bytes
        self._kept = bytearray()

    def add(self, data: bytes) -> None:
        self._kept += data
        excess = len(self._kept) - self._most_bytes
        if excess > 0:
            self.truncated = True
            while excess < len(self._kept) and self._kept[excess] & 0xC0 == 0x80:  # not within a character
                excess += 1
            del self._kept[:excess]

    @property
    def text(self) -> str:
        return self._kept.decode(errors="replace")

    @property
    def status(self) -> dict[str, Any]:
        code = self.process.returncode
        if code is None or code >= 0:
            return {"exitCode": code, "signal": None}
        return {"exitCode": None, "signal": _name(-code)}


class Terminals:
    """See the module. `ctx`: the incarnation's, in whose tree and nursery they live."""

    def __init__(self, ctx: Context, files: Files, *, env: Environment, bounds: Bounds) -> None:
        self._ctx, self._files, self._env, self._bounds = ctx, files, env, bounds
        self._terminals: dict[str, Terminal] = {}
        self._starting = self._made = 0

    async def create(self, ctx: Context, run_id: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """`terminal/create`. `ctx`: on whose behalf; `run_id`: the turn's."""
        if len(self._terminals) + self._starting >= TERMINALS:
            raise Refused(INTERNAL, f"there are {TERMINALS} terminals already; release some")
        self._starting += 1
        try:
            return await self._create(ctx, run_id, params)
        finally:
            self._starting -= 1

    async def _create(self, ctx: Context, run_id: str, params: Mapping[str, Any]) -> dict[str, Any]:
        argv = _argv(params)
        if params.get("cwd") is not None and (cwd := self._files.place(params["cwd"])) != self._files.root:
            argv = ["env", "-C", cwd, *argv]  # not in place of our own: a workspace is entered by name
        env = await ctx.environment(self._env)
        given = params.get("env")
        for variable in given if isinstance(given, list) else ():
            match variable:
                case {"name": str(name), "value": str(value)}:
                    env[name] = value
        try:
            process = await ctx.spawn_process(argv, env=env, merge_stderr=True, **self._bounds)
        except SpawnFailed as error:
            raise Refused(INTERNAL, str(error)) from None
        self._made += 1
        wanted = params.get("outputByteLimit")
        most_bytes = min(wanted, OUTPUT_BYTES) if isinstance(wanted, int) and wanted >= 0 else OUTPUT_BYTES
        name = f"terminal-{self._ctx.incarnation}-{self._made}"
        terminal = Terminal(name, run_id, line_of(params), process, most_bytes)
        self._terminals[terminal.id] = terminal
        self._ctx.nursery.start_soon(self._attend, terminal)
        return {"terminalId": terminal.id}

    def output(self, params: Mapping[str, Any]) -> dict[str, Any]:
        terminal = self._named(params)
        ended = {"exitStatus": terminal.status} if terminal.ended.is_set() else {}
        return {"output": terminal.text, "truncated": terminal.truncated, **ended}

    async def wait_for_exit(self, ctx: Context, params: Mapping[str, Any]) -> dict[str, Any]:
        terminal = self._named(params)
        async with ctx.process_wait():
            await terminal.ended.wait()
        return terminal.status

    def kill(self, params: Mapping[str, Any]) -> dict[str, Any]:
        self._end(self._named(params))
        return {}

    def release(self, params: Mapping[str, Any]) -> dict[str, Any]:
        terminal = self._named(params)
        self._end(terminal)
        del self._terminals[terminal.id]
        return {}

    def end_of(self, run_id: str) -> None:
        """The turn was cancelled: what it began ends."""
        for terminal in self._terminals.values():
            if terminal.run_id == run_id:
                self._end(terminal)

    def _named(self, params: Mapping[str, Any]) -> Terminal:
        found = self._terminals.get(str(params.get("terminalId")))
        if found is None:
            raise Refused(INVALID_PARAMS, f"there is no terminal {shortened(str(params.get('terminalId')), 100)!r}")
        return found

    def _end(self, terminal: Terminal) -> None:
        if not terminal.ended.is_set():
            terminal.process.signal(signal.SIGTERM)
            self._ctx.nursery.start_soon(self._insist, terminal)

    async def _insist(self, terminal: Terminal) -> None:
        with trio.move_on_after(TERM_S):
            await terminal.ended.wait()
        terminal.process.signal(signal.SIGKILL)

    async def _attend(self, terminal: Terminal) -> None:
        """Keep what it prints until it has ended; a child of its that holds its output open is waited for no longer."""
        process = terminal.process
        try:
            async with trio.open_nursery(strict_exception_groups=True) as nursery:
                silent = trio.Event()
                nursery.start_soon(self._read, terminal, silent)
                async with self._ctx.process_wait():
                    await process.wait()
                with trio.move_on_after(DRAIN_S):
                    await silent.wait()
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await process.aclose()
            terminal.ended.set()
        data = {"id": terminal.id, "command": shortened(terminal.line, SHOWN_BYTES), "output": terminal.text[-SHOWN:]}
        await self._ctx.emit("acp.terminal", data | terminal.status)

    async def _read(self, terminal: Terminal, silent: trio.Event) -> None:
        while True:
            async with self._ctx.process_wait():
                data = await terminal.process.stdout.receive_some(1 << 16)
            if not data:
                break
            terminal.add(bytes(data))
        silent.set()


def line_of(params: Mapping[str, Any]) -> str:
    """The command as one line, as rules match it and people see it."""
    command, args = str(params.get("command")), _args(params)
    return f"{command} {shlex.join(args)}" if args else command


def _argv(params: Mapping[str, Any]) -> list[str]:
    command, args = params.get("command"), _args(params)
    if not isinstance(command, str) or not command:
        raise Refused(INVALID_PARAMS, "`command` is needed, a text")
    if not args and SPECIAL.search(command):
        return ["/bin/sh", "-c", command]
    return [command, *args]


def _args(params: Mapping[str, Any]) -> list[str]:
    found = params.get("args")
    return [arg for arg in found if isinstance(arg, str)] if isinstance(found, list) else []


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)

"""What the agent may ask of us, by method. Whatever it asks has an answer, else its turn would stand still."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio

from actors.context import Context
from actors.engines.acp.asking import CANCELLED as NOT_PERMITTED
from actors.engines.acp.asking import Asking
from actors.engines.acp.config import AcpConfig
from actors.engines.acp.facts import Facts
from actors.engines.acp.files import Files
from actors.engines.acp.rpc import CANCELLED, INVALID_PARAMS, NO_METHOD, Refused, Request
from actors.engines.acp.story import Story
from actors.engines.acp.terminals import Terminals, line_of
from actors.permissions import Act

__all__ = ["LONG", "Client", "cancelled"]

LONG = "terminal/wait_for_exit"
"""The one request whose answer waits for work, not for us: while it is open, the agent is in the middle of a step."""

Serve = Callable[[Context, Mapping[str, Any]], Awaitable[dict[str, Any]]]


class Client:
    """See the module."""

    def __init__(
        self, config: AcpConfig, *, facts: Facts, story: Story, asking: Asking, files: Files, terminals: Terminals
    ) -> None:
        self._config, self._facts, self._story = config, facts, story
        self._asking, self._files, self._terminals = asking, files, terminals
        self.run_id = ""
        """The turn that is going on."""
        self._serves: dict[str, Serve] = {"session/request_permission": self._permission}
        if config.elicitation:
            self._serves["elicitation/create"] = asking.elicitation
        if config.files != "none":
            self._serves["fs/read_text_file"] = self._read
        if config.files == "write":
            self._serves["fs/write_text_file"] = self._write
        if config.terminal:
            self._serves |= {
                "terminal/create": self._create,
                "terminal/output": self._now(terminals.output),
                LONG: terminals.wait_for_exit,
                "terminal/kill": self._now(terminals.kill),
                "terminal/release": self._now(terminals.release),
            }

    @staticmethod
    def capabilities(config: AcpConfig) -> dict[str, Any]:
        """What we tell the agent that it may ask."""
        return {
            "fs": {"readTextFile": config.files != "none", "writeTextFile": config.files == "write"},
            "terminal": config.terminal,
            "session": {"configOptions": {"boolean": {}}},
            **({"elicitation": {"form": {}, "url": {}}} if config.elicitation else {}),
        }

    async def serve(self, ctx: Context, request: Request) -> dict[str, Any]:
        """The result. Raises Refused."""
        serve = self._serves.get(request.method)
        if serve is None:
            raise Refused(NO_METHOD, f"there is no method {request.method[:100]!r} here")
        named = request.params.get("sessionId")
        if named is not None and named != self._facts.session_id:
            raise Refused(INVALID_PARAMS, f"there is no session {str(named)[:100]!r} here")
        return await serve(ctx, request.params)

    async def _permission(self, ctx: Context, params: Mapping[str, Any]) -> dict[str, Any]:
        call = params.get("toolCall")
        if not isinstance(call, dict):
            raise Refused(INVALID_PARAMS, "`toolCall` is needed, an object")
        return await self._asking.permission(ctx, self._story.call(call), params)

    async def _read(self, ctx: Context, params: Mapping[str, Any]) -> dict[str, Any]:
        self._allow(Act(tool="fs/read_text_file", kind="read", paths=(self._files.place(params.get("path")),)))
        return await self._files.read(ctx, params)

    async def _write(self, ctx: Context, params: Mapping[str, Any]) -> dict[str, Any]:
        self._allow(Act(tool="fs/write_text_file", kind="edit", paths=(self._files.place(params.get("path")),)))
        return await self._files.write(ctx, params)

    async def _create(self, ctx: Context, params: Mapping[str, Any]) -> dict[str, Any]:
        self._allow(Act(tool="terminal/create", kind="execute", command=line_of(params)))
        return await self._terminals.create(ctx, self.run_id, params)

    def _allow(self, act: Act) -> None:
        """An agent that works through us has asked for permission before; what is forbidden stays forbidden."""
        if self._asking.denied(act):
            raise Refused(INVALID_PARAMS, "a rule forbids this")

    @staticmethod
    def _now(fn: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Serve:
        async def serve(ctx: Context, params: Mapping[str, Any]) -> dict[str, Any]:
            await trio.lowlevel.checkpoint()
            return fn(params)

        return serve


def cancelled(request: Request) -> dict[str, Any]:
    """The answer to a request of a turn that was cancelled. Raises Refused where the protocol has no other."""
    match request.method:
        case "session/request_permission":
            return NOT_PERMITTED
        case "elicitation/create":
            return {"action": "cancel"}
    raise Refused(CANCELLED, "the turn was cancelled")

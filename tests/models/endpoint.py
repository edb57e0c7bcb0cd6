"""The tests' model endpoint: an HTTP server on loopback, or on streams in memory, that says what a `Script` says.

    async with open_endpoint() as endpoint:
        endpoint.reply(Say("hello"), when="greet me")
        ... something that asks `endpoint.url` ...
        assert endpoint.asked[0].text == "greet me"

It speaks HTTP/1.1 with h11 over any stream, so a reply can be torn, held or cut to the byte. Besides the model APIs it
answers what real clients look for on the way (HEAD, `count_tokens`, `models`), and under `/_script`, `/_open` and
`/_asked` it is scripted by tests in other processes (`python -m tests.models`).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import trio

from tests.models import anthropic, checks, openai_chat, openai_responses
from tests.models.line import Line, Request
from tests.models.script import Asked, Condition, Cut, Fail, Hold, Outcome, Reply, Rule, Say, Script, Shape, Tokens
from tests.models.spoken import rules_of, told

__all__ = ["Endpoint", "open_endpoint"]

SHAPES: dict[str, tuple[Shape, ModuleType]] = {
    "/messages": ("anthropic", anthropic),
    "/chat/completions": ("openai-chat", openai_chat),
    "/responses": ("openai-responses", openai_responses),
}
MODELS = ("test-model", "test-model-small")


class Endpoint:
    """`url`: its address on loopback, without a path. `asked`: what was asked for, in order, side requests too."""

    def __init__(self, default: Reply | str = "Done.") -> None:
        self.url = "http://127.0.0.1"
        self.script = Script(Say(default) if isinstance(default, str) else default)
        self.asked: list[Asked] = []
        self.other: list[tuple[str, str]] = []
        """Method and path of what was asked beside the model APIs."""

        self._gates: defaultdict[str, tuple[trio.Event, trio.Event]] = defaultdict(lambda: (trio.Event(), trio.Event()))
        self._news = trio.Event()

    # -- for the test ------------------------------------------------------------------------------------------------
    def reply(
        self, *replies: Reply | str, when: Condition = None, tools: bool | None = None, repeat: bool = False
    ) -> Rule:
        """Add a rule (see `script`); a string is `Say` of it."""
        rule = Rule([Say(one) if isinstance(one, str) else one for one in replies], when, tools, repeat)
        self.script.rules.append(rule)
        return rule

    async def held(self, gate: str) -> None:
        """Wait until some reply stands before this gate."""
        await self._gates[gate][0].wait()

    def open(self, gate: str) -> None:
        """Let what stands there, and what comes later, pass."""
        self._gates[gate][1].set()

    async def until(self, enough: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until it is so; looked at whenever something was asked or has ended."""
        with trio.fail_after(seconds):
            while not enough():
                await self._news.wait()

    # -- the server --------------------------------------------------------------------------------------------------
    async def serve(self, stream: trio.abc.Stream) -> None:
        """One connection, until it ends."""
        await Line(stream).serve(self._one)

    async def _one(self, line: Line, request: Request) -> bool:
        """Answer one request. False: the connection is over."""
        path = request.path.removeprefix("/v1")
        if request.method != "POST" or path not in SHAPES:
            self.other.append((request.method, request.path))
            status, value = await self._beside(request, path)
            await line.answer(request, status, value)
            return True
        shape, module = SHAPES[path]
        try:
            sent = json.loads(request.body)
        except ValueError:
            await line.answer(request, 400, module.error(Fail(400, "The body is not JSON.")))
            return True
        asked = Asked(shape, request.path, request.headers, sent, module.texts(sent))
        self.asked.append(asked)
        self._tell()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_gone, line, nursery.cancel_scope)
                asked.outcome = await self._model(line, request, asked, module)
                nursery.cancel_scope.cancel()
        finally:
            asked.outcome = "gone" if asked.outcome == "open" else asked.outcome
            asked.ended.set()
            self._tell()
        return asked.outcome == "answered"

    async def _model(self, line: Line, request: Request, asked: Asked, module: ModuleType) -> Outcome:
        number = len(self.asked)
        wrong = checks.problem(asked)
        reply = self.script.reply(asked) if wrong is None else Fail(400, wrong)
        if isinstance(reply, Fail):
            value = module.error(reply) if reply.body is None else reply.body
            after = [] if reply.retry_after is None else [("retry-after", reply.retry_after)]
            await line.answer(request, reply.status, value, after)
            return "answered"
        spoken = json.dumps([str(part) for part in reply.parts])
        tokens = reply.tokens or Tokens(len(json.dumps(asked.body)) // 4 + 1, len(spoken) // 4 + 1)
        if asked.stream:
            await line.begin(200, [("cache-control", "no-cache")], "text/event-stream; charset=utf-8")
        for step in module.stream(reply, asked, number, tokens):
            if isinstance(step, Hold):
                reached, opened = self._gates[step.gate]
                reached.set()
                await opened.wait()
            elif isinstance(step, Cut):
                if not asked.stream:
                    await line.begin(200, [("content-length", "1000")], "application/json")
                    await line.data(b'{"id": "half')
                return "cut"
            elif asked.stream:
                await line.data(step, reply.torn)
            else:
                await trio.lowlevel.checkpoint()
        if asked.stream:
            await line.end()
        else:
            await line.answer(request, 200, module.body(reply, asked, number, tokens))
        return "answered"

    async def _beside(self, request: Request, path: str) -> tuple[int, Any]:
        """Everything that is no question to a model."""
        method, body = request.method, request.body
        if method == "HEAD" or path in ("", "/"):
            return 200, {"ok": True}
        if path == "/messages/count_tokens":
            return 200, {"input_tokens": len(body) // 4 + 1}
        if path == "/models" or path.startswith("/models/"):
            return _models(path.removeprefix("/models").lstrip("/"), "anthropic-version" in request.headers)
        if path == "/_asked":
            return 200, [told(asked) for asked in self.asked]
        if path == "/_script" and method == "POST":
            rules = rules_of(json.loads(body))
            self.script.rules.extend(rules)
            return 200, {"rules": len(self.script.rules)}
        if path.startswith("/_open/") and method == "POST":
            self.open(path.removeprefix("/_open/"))
            return 200, {}
        if path.startswith("/_held/"):
            await self.held(path.removeprefix("/_held/"))
            return 200, {}
        return 404, {"type": "error", "error": {"type": "not_found_error", "message": f"There is no {method} {path}."}}

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()


@asynccontextmanager
async def open_endpoint(default: Reply | str = "Done.", *, port: int = 0) -> AsyncIterator[Endpoint]:
    """An endpoint on loopback; `port` 0: any that is free. All its connections are cut on leaving."""
    endpoint = Endpoint(default)
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        endpoint.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        await nursery.start(trio.serve_listeners, endpoint.serve, listeners)
        try:
            yield endpoint
        finally:
            nursery.cancel_scope.cancel()


def _models(id: str, anthropic_wants: bool) -> tuple[int, Any]:
    def one(name: str) -> dict[str, Any]:
        if anthropic_wants:
            return {"type": "model", "id": name, "display_name": name, "created_at": "2025-10-01T00:00:00Z"}
        return {"id": name, "object": "model", "created": openai_chat.CREATED, "owned_by": "tests"}

    if id:
        return 200, one(id)
    models = [one(name) for name in MODELS]
    if anthropic_wants:
        return 200, {"data": models, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}
    return 200, {"object": "list", "data": models}


async def _gone(line: Line, scope: trio.CancelScope) -> None:
    """Nobody reads any more: noticed also while nothing is sent."""
    await line.gone()
    scope.cancel()

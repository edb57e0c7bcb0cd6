"""A model, asked over HTTP: one question at a time, streamed, with retries.

    model = Model(config, key)
    reply = await model.ask(system, turns, tools, on_text=show)

What may go wrong is `faults.py`, what is said `turns.py`, one attempt `attempt.py`, how it looks on the wire a file for
each shape.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

import httpx2
import trio
from pydantic import AfterValidator, Field, model_validator

from actors.engine import Config
from actors.engines.agent.attempt import OnText, Upstream
from actors.engines.agent.faults import (
    Failed,
    Garbled,
    ModelError,
    Overloaded,
    RateLimited,
    Refused,
    Silent,
    TooLong,
    Unavailable,
    Unreachable,
)
from actors.engines.agent.shape import Asking, Shape
from actors.engines.agent.turns import Part, Reply, Stop, Text, Thought, Tool, ToolCall, ToolResult, Turn, Usage
from actors.secrets import Reference

__all__ = [
    "Failed",
    "Garbled",
    "Model",
    "ModelConfig",
    "ModelError",
    "Overloaded",
    "Part",
    "Price",
    "RateLimited",
    "Refused",
    "Reply",
    "Silent",
    "Stop",
    "Text",
    "Thought",
    "TooLong",
    "Tool",
    "ToolCall",
    "ToolResult",
    "Turn",
    "Unavailable",
    "Unreachable",
    "Usage",
]

OnRetry = Callable[[Unavailable, float], Awaitable[None]]

MIN_S: Final = 0.5
MAX_S: Final = 30.0
"""The first delay between attempts, and the longest that nobody asked for."""

_HOMES = {"anthropic": "anthropic", "openai-chat": "openai_chat", "openai-responses": "openai_responses"}
_OURS = frozenset({"authorization", "x-api-key", "host", "content-length", "content-type", "transfer-encoding"})


def _address(url: str) -> str:
    """`http` or `https`, a host, perhaps a path; nothing in it that would be a secret or be lost."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isprintable() or " " in url:
        raise ValueError(f"{url!r} is no address: write https://host, and perhaps a path")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ValueError("an address of a model has no user, no query and no fragment; a key is given as `key`")
    return url.rstrip("/")


def _own(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum() or name.lower() in _OURS:
            raise ValueError(f"{name!r} is no header that can be set here")
        if not (value.isascii() and value.isprintable()):
            raise ValueError(f"the header {name!r} holds characters that no header may hold")
    return headers


Amount = Annotated[float, Field(ge=0, le=1e6)]


class Price(Config):
    """US dollars for a million tokens. `cached`: of input that the provider had cached; None: as other input."""

    input: Amount
    output: Amount
    cached: Amount | None = None

    def of(self, usage: Usage) -> float:
        """What it costs, in dollars."""
        cached = self.input if self.cached is None else self.cached
        fresh = usage.input_tokens - usage.cached_tokens
        return (fresh * self.input + usage.cached_tokens * cached + usage.output_tokens * self.output) / 1e6


class ModelConfig(Config):
    """Which model, where, and how it is asked.

    `base_url`: None is the shape's own provider; below it are `/v1/messages`, or `/chat/completions` and `/responses`
    (so OpenAI's ends in `/v1`). `key`: a secret by reference; None: none is sent. `effort`: how much it should think.
    `temperature`: not for `anthropic`, whose API has none.
    `timeout_s`: how long it may say nothing; `deadline_s`: for a whole answer, with all attempts.
    """

    shape: Literal["anthropic", "openai-chat", "openai-responses"]
    model: Annotated[str, Field(min_length=1, max_length=256)]
    base_url: Annotated[str, AfterValidator(_address), Field(max_length=2048)] | None = None
    key: Reference | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=1_000_000)] = 16_384
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    effort: Literal["low", "medium", "high"] | None = None
    price: Price | None = None
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 120.0
    deadline_s: Annotated[float, Field(gt=0, le=86_400)] = 1800.0
    attempts: Annotated[int, Field(ge=1, le=20)] = 5
    headers: Annotated[dict[str, str], AfterValidator(_own), Field(max_length=32)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _meant(self) -> Self:
        if self.shape == "anthropic" and self.temperature is not None:
            raise ValueError("the Messages API takes no temperature; effort is what it has")
        parts = urlsplit(self.base_url or "https://")
        if self.key is not None and parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
            raise ValueError("a key is sent over https, or to this machine")
        return self


class Model:
    """Close it with `aclose`. Used by one task at a time.

    Args:
        config: Which model, and how.
        key: The secret that `config.key` means; None: none is sent.
        transport: What carries the requests; None: the network. No proxy and no setting of the environment is used.
        wall: The time of day, for a `Retry-After` that names one.
        rng: Spreads the delays.
    """

    def __init__(
        self,
        config: ModelConfig,
        key: str | None = None,
        *,
        transport: httpx2.AsyncBaseTransport | None = None,
        wall: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self.config = config
        self._rng = rng or random.Random()  # noqa: S311 - keeps clients apart, keeps no secret
        self._shape: Shape = import_module(f"actors.engines.agent.{_HOMES[config.shape]}").SHAPE
        base = config.base_url or self._shape.home
        self._upstream = Upstream(
            self._shape, base, key or "", headers=config.headers, timeout_s=config.timeout_s, transport=transport,
            wall=wall,
        )  # fmt: skip

    async def ask(
        self,
        system: str,
        turns: Sequence[Turn],
        tools: Sequence[Tool] = (),
        *,
        on_text: OnText | None = None,
        on_thought: OnText | None = None,
        on_retry: OnRetry | None = None,
    ) -> Reply:
        """Ask, and give the whole answer.

        Args:
            system: What the model is told before everything else; may be empty.
            turns: The conversation; it begins with the user and ends with the user.
            tools: What it may call.
            on_text: Gets the words of the answer as they come.
            on_thought: The same for its thoughts.
            on_retry: Told that an attempt failed and after how many seconds the next begins; what `on_text` was given
                since the last is void.

        Raises:
            ModelError: See `faults`.

        Cancelled: the connection is closed, which ends the model's work too; nothing is left.

        """
        config = self.config
        asking = Asking(
            model=config.model, system=system, turns=turns, tools=tools, max_output_tokens=config.max_output_tokens,
            temperature=config.temperature, effort=config.effort, official=config.base_url in (None, self._shape.home),
        )  # fmt: skip
        last: Unavailable | None = None
        with trio.move_on_after(config.deadline_s) as scope:
            for failures in range(config.attempts):
                if last is not None:
                    await self._wait(last, failures, scope.deadline, on_retry)
                try:
                    return await self._upstream.ask(asking, on_text, on_thought)
                except Unavailable as error:
                    last = error
        if last is None or scope.cancelled_caught:
            why = f"; before that: {last}" if last is not None else "."
            raise Silent(f"The model gave no whole answer within {config.deadline_s:g} s{why}")
        raise last.after(config.attempts)

    async def aclose(self) -> None:
        """Close what connections there are."""
        await self._upstream.aclose()

    async def _wait(self, error: Unavailable, failures: int, deadline: float, on_retry: OnRetry | None) -> None:
        """Raises the error when the next attempt could not begin before the deadline."""
        delay_s = min(MAX_S, MIN_S * 2.0 ** (failures - 1)) * (0.5 + self._rng.random() / 2)
        delay_s = max(delay_s, error.retry_after_s or 0.0)
        if trio.current_time() + delay_s >= deadline:
            raise error.after(failures)
        if on_retry is not None:
            await on_retry(error, delay_s)
        await trio.sleep(delay_s)

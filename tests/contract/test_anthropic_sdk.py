"""The tests' endpoint and our client against what Anthropic's own SDK takes and sends."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types import MessageParam, ToolParam
from anthropic.types.message_create_params import MessageCreateParamsStreaming
from hypothesis import given

from actors.engines.agent.anthropic import SHAPE
from actors.engines.agent.shape import Asking
from tests.contract.questions import asking
from tests.contract.strictly import misfit
from tests.models.checks import problem
from tests.models.endpoint import Endpoint, open_endpoint
from tests.models.script import Asked, Call, Cut, Fail, Fault, Say, Thought, Tokens

HI: list[MessageParam] = [{"role": "user", "content": "Hi."}]
READ: list[ToolParam] = [{"name": "read", "input_schema": {"type": "object"}}]


pytestmark = pytest.mark.filterwarnings(
    # Neither SDK closes the generators of a stream that it leaves in the middle.
    "ignore:Exception ignored in. <async_generator:pytest.PytestUnraisableExceptionWarning"
)


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[Endpoint, anthropic.AsyncAnthropic]]:
    """The SDK, made to refuse every answer that is not exactly of its types."""
    async with (
        open_endpoint() as endpoint,
        httpx2.AsyncClient(transport=endpoint.transport()) as http,
        anthropic.AsyncAnthropic(
            api_key="k", base_url="http://localhost", max_retries=0, http_client=http, _strict_response_validation=True
        ) as client,
    ):
        yield endpoint, client
    gc.collect()  # what the SDK leaves of a stream that it did not read to its end


EVERYTHING = Say(
    Thought("Let me see", "sig"), "I shall read.", Call("read", {"path": "a b"}), tokens=Tokens(100, 20, 60)
)


async def test_the_sdk_understands_a_stream() -> None:
    async with opened() as (endpoint, client):
        endpoint.reply(EVERYTHING)
        async with client.messages.stream(model="m", max_tokens=10, messages=HI, tools=READ) as stream:
            events = [event.type async for event in stream]
            message = await stream.get_final_message()
        assert endpoint.asked[0].outcome == "answered"
    thought, text, call = message.content
    assert (thought.type, text.type, call.type) == ("thinking", "text", "tool_use")
    assert thought.type == "thinking"
    assert (thought.thinking, thought.signature) == ("Let me see", "sig")
    assert text.type == "text"
    assert text.text == "I shall read."
    assert call.type == "tool_use"
    assert call.input == {"path": "a b"}
    assert message.stop_reason == "tool_use"
    assert (message.usage.input_tokens, message.usage.cache_read_input_tokens, message.usage.output_tokens) == (
        40,
        60,
        20,
    )
    assert {"text", "thinking", "signature", "input_json", "message_stop"} <= set(events)


async def test_the_sdk_understands_an_answer_at_once() -> None:
    async with opened() as (endpoint, client):
        endpoint.reply(EVERYTHING, Say("Cut", stop="length"), Say("No", stop="refusal"))
        message = await client.messages.create(model="m", max_tokens=10, messages=HI, tools=READ)
        assert [part.type for part in message.content] == ["thinking", "text", "tool_use"]
        stops = [(await client.messages.create(model="m", max_tokens=10, messages=HI)).stop_reason for _ in range(3)]
        assert stops == ["max_tokens", "refusal", "end_turn"]


async def test_the_sdk_understands_what_else_is_asked() -> None:
    async with opened() as (_, client):
        counted = await client.messages.count_tokens(model="m", messages=HI)
        assert counted.input_tokens > 0
        assert [model.id async for model in client.models.list()] == ["test-model", "test-model-small"]
        assert (await client.models.retrieve("x")).id == "x"


@pytest.mark.parametrize(
    "status, error",
    [
        (400, anthropic.BadRequestError), (401, anthropic.AuthenticationError), (404, anthropic.NotFoundError),
        (429, anthropic.RateLimitError), (500, anthropic.InternalServerError), (529, anthropic.InternalServerError),
    ],
)  # fmt: skip
async def test_the_sdk_understands_errors(status: int, error: type[anthropic.APIStatusError]) -> None:
    async with opened() as (endpoint, client):
        endpoint.reply(Fail(status, "Because.", retry_after="1"))
        with pytest.raises(error, match=r"Because\."):
            await client.messages.create(model="m", max_tokens=10, messages=HI)


async def test_the_sdk_understands_an_error_in_a_stream_and_a_cut_one() -> None:
    async with opened() as (endpoint, client):
        endpoint.reply(Say("Half", Fault("overloaded_error", "Sorry.")), Say("Half", Cut()))
        with pytest.raises(anthropic.APIStatusError, match=r"Sorry\."):
            async with client.messages.stream(model="m", max_tokens=10, messages=HI) as stream:
                await stream.get_final_message()
        with pytest.raises(httpx2.RemoteProtocolError):
            async with client.messages.stream(model="m", max_tokens=10, messages=HI) as stream:
                await stream.get_final_message()


@given(asking)
def test_what_we_ask_is_what_the_sdk_would(question: Asking) -> None:
    body = SHAPE.body(question)
    assert misfit(MessageCreateParamsStreaming, body) is None
    assert problem(Asked("anthropic", "/v1/messages", {}, body, [])) is None


def test_the_types_are_taken_at_their_word() -> None:
    body: dict[str, Any] = {
        "model": "m",
        "max_tokens": 1,
        "stream": True,
        "messages": [{"role": "user", "content": "x"}],
    }
    assert misfit(MessageCreateParamsStreaming, body) is None
    for wrong in (
        {"colour": 1}, {"messages": [{"role": "user", "content": "x", "colour": 1}]}, {"max_tokens": "many"},
        {"messages": [{"role": "user", "content": [{"type": "text", "txt": "x"}]}]}, {"stream": False},
    ):  # fmt: skip
        assert misfit(MessageCreateParamsStreaming, body | wrong) is not None

"""The tests' endpoint and our client against what OpenAI's own SDK takes and sends, in both of its shapes."""

from __future__ import annotations

import gc
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import openai
import pytest
from hypothesis import given
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming

from actors.engines.agent import openai_chat, openai_responses
from actors.engines.agent.shape import Asking
from tests.contract.questions import asking
from tests.contract.strictly import misfit
from tests.models.checks import problem
from tests.models.endpoint import Endpoint, open_endpoint
from tests.models.script import Asked, Call, Cut, Fail, Fault, Say, Thought, Tokens

pytestmark = pytest.mark.filterwarnings(
    # Neither SDK closes the generators of a stream that it leaves in the middle.
    "ignore:Exception ignored in. <async_generator:pytest.PytestUnraisableExceptionWarning"
)


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[Endpoint, openai.AsyncOpenAI]]:
    """The SDK, made to refuse every answer that is not exactly of its types."""
    async with (
        open_endpoint() as endpoint,
        httpx2.AsyncClient(transport=endpoint.transport()) as http,
        openai.AsyncOpenAI(
            api_key="k", base_url="http://localhost/v1", max_retries=0, http_client=http,
            _strict_response_validation=True,
        ) as client,
    ):  # fmt: skip
        yield endpoint, client
    gc.collect()  # what the SDK leaves of a stream that it did not read to its end


EVERYTHING = Say(
    Thought("Let me see", "sig"), "I shall read.", Call("read", {"path": "a b"}), tokens=Tokens(100, 20, 60)
)
ERRORS = [
    (400, openai.BadRequestError), (401, openai.AuthenticationError), (404, openai.NotFoundError),
    (429, openai.RateLimitError), (500, openai.InternalServerError), (503, openai.InternalServerError),
]  # fmt: skip


async def test_the_sdk_understands_a_stream_of_chat() -> None:
    async with opened() as (endpoint, client):
        endpoint.reply(EVERYTHING)
        async with client.chat.completions.stream(
            model="m", messages=[{"role": "user", "content": "Hi."}], stream_options={"include_usage": True},
            tools=[{"type": "function", "function": {"name": "read", "parameters": {"type": "object"}}}],
        ) as stream:  # fmt: skip
            whole = await stream.get_final_completion()
    choice = whole.choices[0]
    assert choice.message.content == "I shall read."
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls is not None
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"path": "a b"}
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (100, 20)
    assert whole.usage.prompt_tokens_details is not None
    assert whole.usage.prompt_tokens_details.cached_tokens == 60


async def test_the_sdk_understands_chat_at_once() -> None:
    async with opened() as (endpoint, client):
        endpoint.reply(EVERYTHING, Say("Cut", stop="length"), Say("No", stop="refusal"))
        reasons = [
            (await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi."}]))
            .choices[0]
            .finish_reason
            for _ in range(4)
        ]
        assert reasons == ["tool_calls", "length", "content_filter", "stop"]


async def test_the_sdk_understands_a_stream_of_a_response() -> None:
    async with opened() as (endpoint, client):
        endpoint.reply(EVERYTHING)
        async with client.responses.stream(model="m", input="Hi.") as stream:
            kinds = [event.type async for event in stream]
            whole = await stream.get_final_response()
    thought, said, call = whole.output
    assert thought.type == "reasoning"
    assert (thought.summary[0].text, thought.encrypted_content) == ("Let me see", "sig")
    assert said.type == "message"
    assert whole.output_text == "I shall read."
    assert call.type == "function_call"
    assert json.loads(call.arguments) == {"path": "a b"}
    assert whole.usage is not None
    assert (whole.usage.input_tokens, whole.usage.output_tokens) == (100, 20)
    assert whole.usage.input_tokens_details.cached_tokens == 60
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"


async def test_the_sdk_understands_a_response_at_once() -> None:
    async with opened() as (endpoint, client):
        endpoint.reply(EVERYTHING, Say("Cut", stop="length"), Say(Call("patch", "*** Begin Patch")))
        assert [item.type for item in (await client.responses.create(model="m", input="Hi.")).output] == [
            "reasoning", "message", "function_call"
        ]  # fmt: skip
        cut = await client.responses.create(model="m", input="Hi.")
        assert cut.status == "incomplete"
        assert cut.incomplete_details is not None
        assert cut.incomplete_details.reason == "max_output_tokens"
        free = (await client.responses.create(model="m", input="Hi.")).output[0]
        assert free.type == "custom_tool_call"
        assert free.input == "*** Begin Patch"


async def test_the_sdk_understands_what_else_is_asked() -> None:
    async with opened() as (_, client):
        assert [model.id async for model in client.models.list()] == ["test-model", "test-model-small"]
        assert (await client.models.retrieve("x")).id == "x"


@pytest.mark.parametrize("status, error", ERRORS)
async def test_the_sdk_understands_errors(status: int, error: type[openai.APIStatusError]) -> None:
    async with opened() as (endpoint, client):
        endpoint.reply(Fail(status, "Because.", retry_after="1"), repeat=True)
        with pytest.raises(error, match=r"Because\."):
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi."}])
        with pytest.raises(error, match=r"Because\."):
            await client.responses.create(model="m", input="Hi.")


async def test_the_sdk_understands_an_error_in_a_stream_and_a_cut_one() -> None:
    async with opened() as (endpoint, client):
        for reply, error in [
            (Say("Half", Fault("server_error", "Sorry.")), openai.APIError),
            (Say("Half", Cut()), openai.APIConnectionError),
        ]:
            endpoint.reply(reply, reply)
            with pytest.raises(error):
                async for _ in await client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": "Hi."}], stream=True
                ):
                    pass
            with pytest.raises(error):
                async for _ in await client.responses.create(model="m", input="Hi.", stream=True):
                    pass


@given(asking)
def test_what_we_ask_is_what_the_sdk_would(question: Asking) -> None:
    body = openai_chat.SHAPE.body(question)
    assert misfit(CompletionCreateParamsStreaming, body) is None
    assert problem(Asked("openai-chat", "/v1/chat/completions", {}, body, [])) is None
    body = openai_responses.SHAPE.body(question)
    assert misfit(ResponseCreateParamsStreaming, body) is None
    assert problem(Asked("openai-responses", "/v1/responses", {}, body, [])) is None

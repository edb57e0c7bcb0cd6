"""The client of model APIs against the tests' endpoint: every shape alike, on virtual time and streams in memory."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from actors.engines.agent.faults import answered
from actors.engines.agent.model import (
    Failed,
    Garbled,
    Model,
    ModelConfig,
    ModelError,
    Overloaded,
    Price,
    RateLimited,
    Refused,
    Silent,
    Stop,
    Text,
    Thought,
    Tool,
    ToolCall,
    TooLong,
    ToolResult,
    Turn,
    Unavailable,
    Unreachable,
    Usage,
)
from protocol.events import encode
from tests.models import script
from tests.models.endpoint import Endpoint, open_endpoint
from tests.models.script import Call, Cut, Endless, Fail, Fault, Hold, Raw, Say, Tokens

SHAPES = ["anthropic", "openai-chat", "openai-responses"]
READ = Tool("read", "Reads a file.", {"type": "object", "properties": {"path": {"type": "string"}}})
KEY = "sk-0123456789abcdef"
NOW = 1_760_000_000.0


def said(text: str) -> list[Turn]:
    return [Turn("user", (Text(text),))]


@asynccontextmanager
async def asking(shape: Any, **config: Any) -> AsyncIterator[tuple[Endpoint, Model]]:
    async with open_endpoint() as endpoint:
        base = "http://localhost" + ("" if shape == "anthropic" else "/v1")
        told = ModelConfig(shape=shape, model="test-model", base_url=base, **config)
        model = Model(told, KEY, transport=endpoint.transport(), wall=lambda: NOW, rng=random.Random(1))
        try:
            yield endpoint, model
        finally:
            await model.aclose()


URLS = {
    "anthropic": "http://localhost/v1/messages",
    "openai-chat": "http://localhost/v1/chat/completions",
    "openai-responses": "http://localhost/v1/responses",
}


class Heard:
    """What a question's callbacks were told."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.thoughts: list[str] = []
        self.retries: list[tuple[Unavailable, float]] = []

    async def on_text(self, text: str) -> None:
        self.text.append(text)

    async def on_thought(self, text: str) -> None:
        self.thoughts.append(text)

    async def on_retry(self, error: Unavailable, seconds: float) -> None:
        self.retries.append((error, seconds))


@pytest.mark.parametrize("torn", [None, 1, 7])
@pytest.mark.parametrize("shape", SHAPES)
async def test_an_answer_comes_piece_by_piece_and_whole(shape: str, torn: int | None, autojump_clock: Any) -> None:
    heard = Heard()
    async with asking(shape) as (endpoint, model):
        endpoint.reply(
            Say(
                script.Thought("Let me see"), "I shall read ü 🎉.", Call("read", {"path": "a b.md"}, id="c1"),
                Call("read", id="c2"), tokens=Tokens(100, 20, 60), torn=torn,
            )
        )  # fmt: skip
        reply = await model.ask("Be brief.", said("Read."), [READ], on_text=heard.on_text, on_thought=heard.on_thought)
    assert (heard.text, heard.thoughts) == (["I", " shall", " read", " ü", " 🎉."], ["Let", " me", " see"])
    assert reply.stop is Stop.TOOLS
    assert reply.usage == Usage(100, 20, 60)
    assert reply.text == "I shall read ü 🎉."
    assert reply.calls == (ToolCall("c1", "read", {"path": "a b.md"}), ToolCall("c2", "read", {}))
    assert isinstance(reply.turn.parts[0], Thought)
    assert reply.turn.parts[0].text == "Let me see"


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_conversation_with_tools_is_one_that_the_api_takes(shape: str, autojump_clock: Any) -> None:
    async with asking(shape) as (endpoint, model):
        endpoint.reply(Say(script.Thought("Hm"), "Two.", Call("read", {"path": "a"}), Call("read", {"path": "b"})))
        turns = said("Read both.")
        first = await model.ask("Be brief.", turns, [READ])
        results = tuple(ToolResult(call.id, f"text of {call.input['path']}") for call in first.calls)
        turns += [first.turn, Turn("user", (Text("Here."), *results, Text(" ")))]
        endpoint.reply("Thanks.")
        second = await model.ask("Be brief.", turns, [READ])
        asked = endpoint.asked[1]
    assert second.text == "Thanks."
    assert second.stop is Stop.END
    assert asked.texts == ["Read both.", "Here."]
    assert asked.tools == ["read"]
    assert asked.body["stream"] is True


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_key_goes_where_the_api_wants_it(shape: str, autojump_clock: Any) -> None:
    async with asking(shape, headers={"x-team": "blue"}) as (endpoint, model):
        await model.ask("", said("Hi."))
        headers = endpoint.asked[0].headers
    name, value = ("x-api-key", KEY) if shape == "anthropic" else ("authorization", f"Bearer {KEY}")
    assert headers[name] == value
    assert headers["x-team"] == "blue"
    assert headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stop, expected", [("length", Stop.LENGTH), ("refusal", Stop.REFUSAL)])
async def test_why_it_stopped(shape: str, stop: Any, expected: Stop, autojump_clock: Any) -> None:
    async with asking(shape) as (endpoint, model):
        endpoint.reply(Say("No", stop=stop))
        assert (await model.ask("", said("Hi."))).stop is expected


@pytest.mark.parametrize("shape", SHAPES)
async def test_an_input_that_is_no_object_is_told_as_broken(shape: str, autojump_clock: Any) -> None:
    """A model that ran into its limit in the middle of a call has not called."""
    cut: dict[str, list[tuple[str, dict[str, Any]]]] = {
        "anthropic": [
            ("message_start", {"message": {"usage": {"input_tokens": 1}}}),
            ("content_block_start", {"index": 0, "content_block": {"type": "tool_use", "id": "c", "name": "read"}}),
            ("content_block_delta", {"index": 0, "delta": {"type": "input_json_delta", "partial_json": '{"path": "a'}}),
            ("message_delta", {"delta": {"stop_reason": "max_tokens"}}),
            ("message_stop", {}),
        ],
        "openai-chat": [
            ("", {"choices": [{"delta": {"tool_calls": [
                {"index": 0, "id": "c", "function": {"name": "read", "arguments": '{"path": "a'}}
            ]}}]}),
            ("", {"choices": [{"delta": {}, "finish_reason": "length"}]}),
        ],
        "openai-responses": [
            ("response.output_item.done", {"output_index": 0, "item": {
                "type": "function_call", "call_id": "c", "name": "read", "arguments": '{"path": "a'
            }}),
            ("response.incomplete", {"response": {"incomplete_details": {"reason": "max_output_tokens"}}}),
        ],
    }  # fmt: skip
    async with asking(shape) as (endpoint, model):
        endpoint.reply(raw(cut[shape]))
        reply = await model.ask("", said("Hi."), [READ])
        assert reply.stop is Stop.LENGTH
        assert reply.calls == (ToolCall("c", "read", {}, broken='{"path": "a'),)
        again = [*said("Hi."), reply.turn, Turn("user", (ToolResult("c", "That is no JSON.", error=True),))]
        await model.ask("", again, [READ])


def raw(events: Sequence[tuple[str, Mapping[str, Any]]]) -> Say:
    """An answer of exactly these events, which ends before what the endpoint would say."""
    frames = [json.dumps({"type": kind, **data} if kind else data) for kind, data in events]
    return Say(Raw("".join(f"data: {frame}\n\n" for frame in frames).encode()))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "status, error",
    [(400, Refused), (401, Refused), (403, Refused), (404, Refused), (413, TooLong), (422, Refused), (301, Refused)],
)
async def test_what_is_refused_is_not_asked_again(
    shape: str, status: int, error: type[ModelError], autojump_clock: Any
) -> None:
    async with asking(shape) as (endpoint, model):
        endpoint.reply(Fail(status, f"Your key {KEY} is\nnot\x1b[31m known."))
        with pytest.raises(error) as caught:
            await model.ask("", said("Hi."))
        assert len(endpoint.asked) == 1
    assert type(caught.value) is error
    assert caught.value.status == status
    assert KEY not in str(caught.value)
    if status != 301:
        assert (
            str(caught.value) == f"The model's API at {URLS[shape]} answered {status}: Your key *** is not [31m known."
        )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "status, error",
    [(429, RateLimited), (500, Failed), (502, Failed), (503, Overloaded), (529, Overloaded)],
)
async def test_what_may_pass_is_asked_again_and_then_told_apart(
    shape: str, status: int, error: type[Unavailable], autojump_clock: Any
) -> None:
    heard = Heard()
    async with asking(shape, attempts=3) as (endpoint, model):
        endpoint.reply(Fail(status, "Later."), Fail(status, "Later."), "Now.")
        assert (await model.ask("", said("Hi."), on_retry=heard.on_retry)).text == "Now."
        first, second = (seconds for _, seconds in heard.retries)
        assert 0.25 <= first <= 0.5 <= second <= 1.0
        endpoint.reply(*3 * [Fail(status, "Later.")])
        with pytest.raises(error, match=rf"^The model's API at \S+ answered {status}: Later\. \(asked 3 times\)$"):
            await model.ask("", said("Hi."))
        assert len(endpoint.asked) == 6


@pytest.mark.parametrize(
    "text, seconds",
    [("7", 7.0), ("Thu, 09 Oct 2025 08:54:00 GMT", 40.0), ("Thu, 09 Oct 2015 08:54:00 GMT", None), ("soon", None)],
)
async def test_retry_after_is_honoured(text: str, seconds: float | None, autojump_clock: Any) -> None:
    heard = Heard()
    async with asking("anthropic") as (endpoint, model):
        endpoint.reply(Fail(429, retry_after=text))
        before = trio.current_time()
        await model.ask("", said("Hi."), on_retry=heard.on_retry)
        waited = trio.current_time() - before
    assert waited == pytest.approx(heard.retries[0][1])
    if seconds is None:
        assert waited <= 0.5
    else:
        assert waited == seconds


async def test_a_retry_after_beyond_the_deadline_is_not_waited_for(autojump_clock: Any) -> None:
    async with asking("anthropic", deadline_s=60.0) as (endpoint, model):
        endpoint.reply(Fail(429, retry_after="3600"))
        before = trio.current_time()
        with pytest.raises(RateLimited) as caught:
            await model.ask("", said("Hi."))
    assert caught.value.retry_after_s == 3600
    assert trio.current_time() == before


def test_an_upstream_that_says_not_again_is_not_asked_again() -> None:
    body = b'{"error": {"code": "insufficient_quota", "message": "Pay first."}}'
    error = answered("http://x/v1", 429, body, retry_after_s=None, again=False, secret="")
    assert type(error) is Refused


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("parts", [(Cut(),), ("Half a", Cut()), (Call("read", {"path": "x"}), Cut())], ids=str)
async def test_an_answer_that_is_cut_is_asked_for_again(shape: str, parts: Any, autojump_clock: Any) -> None:
    heard = Heard()
    async with asking(shape) as (endpoint, model):
        endpoint.reply(Say(*parts), "Whole.")
        reply = await model.ask("", said("Hi."), [READ], on_retry=heard.on_retry)
        assert [asked.outcome for asked in endpoint.asked] == ["cut", "answered"]
    assert reply.text == "Whole."
    assert [type(error) for error, _ in heard.retries] == [Unreachable]


@pytest.mark.parametrize("shape", SHAPES)
async def test_an_error_in_the_stream_is_what_it_says(shape: str, autojump_clock: Any) -> None:
    async with asking(shape, attempts=1) as (endpoint, model):
        for kind, error in [
            ("overloaded_error", Overloaded), ("rate_limit_exceeded", RateLimited), ("server_error", Failed),
            ("invalid_request_error", Refused), ("context_length_exceeded", TooLong),
        ]:  # fmt: skip
            endpoint.reply(Say("Half", Fault(kind, "Sorry.")))
            with pytest.raises(error, match="broke off: Sorry") as caught:
                await model.ask("", said("Hi."))
            assert type(caught.value) is error


@pytest.mark.parametrize("shape", SHAPES)
async def test_silence_ends_an_attempt(shape: str, autojump_clock: Any) -> None:
    async with asking(shape, timeout_s=30.0, attempts=2) as (endpoint, model):
        endpoint.reply(Say("One", Hold("never")), Say("Two", Hold("never")))
        before = trio.current_time()
        with pytest.raises(Silent, match="nothing for 30 s"):
            await model.ask("", said("Hi."))
        assert 60 <= trio.current_time() - before <= 61
        await endpoint.until(lambda: [asked.outcome for asked in endpoint.asked] == ["gone", "gone"])


async def test_the_deadline_is_for_all_attempts(autojump_clock: Any) -> None:
    async with asking("anthropic", timeout_s=30.0, deadline_s=50.0) as (endpoint, model):
        endpoint.reply(Say("One", Hold("never")), repeat=True)
        before = trio.current_time()
        with pytest.raises(Silent, match=r"within 50 s; before that: .* nothing for 30 s"):
            await model.ask("", said("Hi."))
        assert trio.current_time() - before == 50


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_cancelled_question_closes_its_connection(shape: str, autojump_clock: Any) -> None:
    async with asking(shape) as (endpoint, model):
        endpoint.reply(Say("One two", Hold("gate")))
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                await model.ask("", said("Hi."))

            nursery.start_soon(ask)
            await endpoint.held("gate")
            nursery.cancel_scope.cancel()
        await endpoint.asked[0].ended.wait()
        assert endpoint.asked[0].outcome == "gone"
        assert (await model.ask("", said("Hi."))).text == "Done."


@pytest.mark.parametrize("shape", SHAPES)
async def test_an_answer_without_an_end_is_cut_off(shape: str, autojump_clock: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("actors.engines.agent.shape.CONTENT_CHARS", 10_000)
    async with asking(shape) as (endpoint, model):
        endpoint.reply(Say(Endless()))
        with pytest.raises(Garbled, match="more than 10000 characters"):
            await model.ask("", said("Hi."))
        await endpoint.asked[0].ended.wait()
        assert endpoint.asked[0].outcome == "gone"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "data",
    [
        b"data: {\n\n", b"data: 1\n\n", b"data: []\n\n", b"data: \xff\xfe\n\n", b'data: {"type": "message_start"}\n\n',
        b"data: " + b"[" * 100_000 + b"\n\n", b'data: {"type": "content_block_delta", "index": 9, "delta": 1}\n\n',
    ],
    ids=lambda data: str(data[:30]),
)  # fmt: skip
async def test_garbage_is_told_as_such(shape: str, data: bytes, autojump_clock: Any) -> None:
    async with asking(shape, attempts=1) as (endpoint, model):
        endpoint.reply(Say(Raw(data), Cut()))
        with pytest.raises((Garbled, Unreachable)) as caught:
            await model.ask("", said("Hi."))
    assert len(str(caught.value)) < 800


def a_reply(shape: str, *, tokens: Any = 1, id: Any = "a", name: Any = "read", done: bool = True) -> Say:
    """An answer with one call, of these counts, id and name."""
    match shape:
        case "anthropic":
            usage = {"input_tokens": tokens, "output_tokens": tokens}
            block = {"type": "tool_use", "id": id, "name": name}
            events: list[tuple[str, dict[str, Any]]] = [
                ("message_start", {"message": {"usage": usage}}),
                ("content_block_start", {"index": 0, "content_block": block}),
                ("message_delta", {"delta": {"stop_reason": "tool_use"}}),
                ("message_stop", {}),
            ]
        case "openai-chat":
            call = {"index": 0, "id": id, "function": {"name": name, "arguments": "{}"}}
            usage = {"prompt_tokens": tokens, "completion_tokens": tokens}
            choice = {"delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}
            events = [("", {"choices": [choice], "usage": usage})]
        case _:
            item = {"type": "function_call", "call_id": id, "name": name, "arguments": "{}"}
            usage = {"input_tokens": tokens, "output_tokens": tokens}
            events = [
                ("response.output_item.added", {"output_index": 0, "item": item}),
                ("response.output_item.done", {"output_index": 0, "item": item}),
                ("response.completed", {"response": {"usage": usage}}),
            ]
    return raw(events)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "strange",
    [
        {"tokens": 10**4000}, {"tokens": -(10**300)}, {"tokens": "many"}, {"tokens": [1]}, {"tokens": 1.5},
        {"id": 7}, {"id": {"a": 1}}, {"id": "\ud800"}, {"id": "x" * (2 << 20)}, {"name": 7}, {"name": ["read"]},
        {"name": "x" * (2 << 20)},
    ],
    ids=lambda strange: str(strange)[:30],
)  # fmt: skip
async def test_a_reply_is_of_the_right_types_or_garbage(
    shape: str, strange: dict[str, Any], autojump_clock: Any
) -> None:
    async with asking(shape, attempts=1, price=Price(input=1, output=1)) as (endpoint, model):
        endpoint.reply(a_reply(shape, **strange))
        try:
            reply = await model.ask("", said("Hi."), [READ])
        except (Garbled, Unreachable):
            return
    encode([[part.id, part.name] for part in reply.calls])
    assert all(len(part.id) < 1 << 20 and len(part.name) < 1 << 20 for part in reply.calls)
    assert model.config.price is not None
    assert 0 <= model.config.price.of(reply.usage) < 10**9
    assert 0 <= reply.usage.input_tokens + reply.usage.output_tokens <= 2 * 10**12


async def test_a_signature_counts_as_said(autojump_clock: Any) -> None:
    async with asking("anthropic", attempts=1) as (endpoint, model):
        begun = ("content_block_start", {"index": 0, "content_block": {"type": "thinking"}})
        more = ("content_block_delta", {"index": 0, "delta": {"type": "signature_delta", "signature": "x" * (3 << 20)}})
        endpoint.reply(raw([begun, more, more, more, ("message_stop", {})]))
        with pytest.raises(Garbled):
            await model.ask("", said("Hi."))


async def test_arguments_that_are_said_at_the_end_alone_count_as_said(autojump_clock: Any) -> None:
    async with asking("openai-responses", attempts=1) as (endpoint, model):
        item = {"type": "function_call", "call_id": "a", "name": "read", "arguments": "x" * (3 << 20)}
        done = [("response.output_item.done", {"output_index": index, "item": item}) for index in range(3)]
        endpoint.reply(raw([*done, ("response.completed", {"response": {}})]))
        with pytest.raises(Garbled):
            await model.ask("", said("Hi."))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("status", [200, 400, 500])
async def test_an_error_that_is_nested_for_ever_is_told(shape: str, status: int, autojump_clock: Any) -> None:
    async with asking(shape, attempts=1) as (endpoint, model):
        endpoint.reply(Fail(status, body=b"[" * 30_000 + b"]" * 30_000))
        with pytest.raises(ModelError):
            await model.ask("", said("Hi."))


async def test_an_event_of_endless_length_is_cut_off(autojump_clock: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("actors.engines.agent.attempt.EVENT_BYTES", 1 << 16)
    async with asking("anthropic") as (endpoint, model):
        endpoint.reply(Say(Raw(b"data: " + b"a" * (1 << 20)), Hold("never")))
        with pytest.raises(Garbled):
            await model.ask("", said("Hi."))


async def test_something_else_than_an_api_is_told(autojump_clock: Any) -> None:
    async with asking("anthropic", attempts=1) as (endpoint, model):
        endpoint.reply(Fail(200, body=b"<html>Welcome to the hotel's network</html>"))
        with pytest.raises(Garbled, match="no answer of this API"):
            await model.ask("", said("Hi."))
        endpoint.reply(Fail(502, body=b"<html>" + b"x" * 100_000))
        with pytest.raises(Failed) as caught:
            await model.ask("", said("Hi."))
        assert len(str(caught.value)) < 600


async def test_nobody_there_is_told() -> None:
    model = Model(ModelConfig(shape="anthropic", model="m", base_url="http://127.0.0.1:9", attempts=2))
    with pytest.raises(Unreachable, match=r"Nobody answers at http://127.0.0.1:9/v1/messages: .* \(asked 2 times\)$"):
        await model.ask("", said("Hi."))
    await model.aclose()


async def test_what_the_model_says_can_be_written(autojump_clock: Any) -> None:
    """Halves of characters come in pieces, or alone; NaN is no JSON: neither may reach a journal."""
    async with asking("openai-chat") as (endpoint, model):
        call = {"index": 0, "function": {"name": "read", "arguments": '{"a": NaN}'}}
        endpoint.reply(raw([
            ("", {"choices": [{"delta": {"content": "a\ud83c"}}]}),
            ("", {"choices": [{"delta": {"content": "\udf89 b \udf89"}}]}),
            ("", {"choices": [{"delta": {"tool_calls": [call]}}]}),
            ("", {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}),
        ]))  # fmt: skip
        reply = await model.ask("", [Turn("user", (Text("lone \ud83c"),))], [READ])
        assert reply.text == "a🎉 b \ufffd"
        assert reply.calls == (ToolCall("call_0", "read", {}, broken='{"a": NaN}'),)
        assert endpoint.asked[0].text == "lone ?"


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "ftp://x"}, {"base_url": "https://u:p@x"}, {"base_url": "https://x/?k=1"}, {"base_url": "https://"},
        {"base_url": "http://elsewhere.example", "key": {"env": "K"}}, {"headers": {"x-api-key": "k"}},
        {"headers": {"a": "b\r\nc: d"}}, {"headers": {"a b": "c"}}, {"key": "sk-inline"}, {"attempts": 0},
        {"temperature": 0.5},
    ],
    ids=str,
)  # fmt: skip
def test_a_config_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        ModelConfig.model_validate({"shape": "anthropic", "model": "m", **wrong})


def test_a_price_is_of_what_was_cached_and_what_was_not() -> None:
    assert Price(input=3, output=15, cached=0.3).of(Usage(1_000_000, 100_000, 900_000)) == pytest.approx(2.07)
    assert Price(input=3, output=15).of(Usage(1_000_000, 0, 900_000)) == pytest.approx(3.0)

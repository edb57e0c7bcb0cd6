"""The endpoint itself: which reply a request gets, and that another process can script it."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import trio

from tests.models.endpoint import open_endpoint
from tests.models.script import Asked, Call, Fail, Hold, Say


def question(*texts: str, tools: bool = False) -> dict[str, Any]:
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": text} for text in texts]}
    if tools:
        body["tools"] = [{"type": "function", "function": {"name": "read"}}]
    return body


async def test_a_request_gets_the_reply_that_is_for_it(autojump_clock: Any) -> None:
    async with open_endpoint("default") as endpoint, httpx2.AsyncClient(transport=endpoint.transport()) as client:
        endpoint.reply("1", "2")
        endpoint.reply("older", repeat=True, when="old")
        endpoint.reply("newer", repeat=True, when="new", tools=True)
        endpoint.reply("chosen", when=lambda asked: asked.model == "other")

        async def said(body: dict[str, Any]) -> str:
            answer = await client.post("http://localhost/v1/chat/completions", json=body)
            text: str = answer.json()["choices"][0]["message"]["content"]
            return text

        assert await said(question("old", "new", tools=True)) == "newer"  # the later marker
        assert await said(question("old", "new")) == "older"  # a title has no tools
        assert await said(question("old") | {"model": "other"}) == "chosen"
        assert [await said(question("x")) for _ in range(3)] == ["1", "2", "default"]


async def test_what_the_apis_refuse_is_refused(autojump_clock: Any) -> None:
    tool = {"role": "tool", "tool_call_id": "c", "content": "x"}
    called = {"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}
    output = {"type": "function_call_output", "call_id": "c", "output": "x"}
    used = {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "n", "input": {}}]}
    bad: list[tuple[str, dict[str, Any]]] = [
        ("messages", question("x")),
        ("messages", question() | {"max_tokens": 1}),
        ("messages", question(" ") | {"max_tokens": 1}),
        ("messages", {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}, used]}),
        ("chat/completions", {}),
        ("chat/completions", question()),
        ("chat/completions", {"model": "m", "messages": [tool]}),
        ("chat/completions", {"model": "m", "messages": [called]}),
        ("responses", {"model": "m"}),
        ("responses", {"model": "m", "input": [output]}),
        ("responses", {"model": "m", "input": [{**output, "type": "function_call"}]}),
    ]
    async with open_endpoint() as endpoint, httpx2.AsyncClient(transport=endpoint.transport()) as client:
        for path, body in bad:
            answer = await client.post(f"http://localhost/v1/{path}", json=body)
            assert answer.status_code == 400, body
            assert answer.json()["error"]["message"]


async def test_another_process_is_scripted_over_http(root: Path) -> None:
    argv = [sys.executable, "-m", "tests.models", "--default", "nothing scripted"]
    async with trio.open_nursery() as nursery:
        process = await nursery.start(partial(trio.run_process, argv, stdout=subprocess.PIPE, cwd=root, check=False))
        with trio.fail_after(60):
            url = (await process.stdout.receive_some()).decode().strip()
            async with httpx2.AsyncClient(base_url=url, timeout=30) as client:
                parts = ["a text", {"thought": "hm"}, {"call": "read", "input": {"a": 1}}, {"hold": "gate"}]
                script = [{"when": "marker", "replies": [{"parts": parts}, {"fail": 429, "retry_after": "1"}]}]
                assert (await client.post("/_script", json=script)).json() == {"rules": 1}
                got: list[httpx2.Response] = []

                async def ask() -> None:
                    got.append(await client.post("/v1/chat/completions", json=question("the marker")))

                async with trio.open_nursery() as asking:
                    asking.start_soon(ask)
                    await client.get("/_held/gate")
                    assert got == []
                    await client.post("/_open/gate")
                assert got[0].json()["choices"][0]["finish_reason"] == "tool_calls"
                await ask()
                assert (got[1].status_code, got[1].headers["retry-after"]) == (429, "1")
                asked = (await client.get("/_asked")).json()
                assert [(one["outcome"], one["texts"]) for one in asked] == 2 * [("answered", ["the marker"])]
        nursery.cancel_scope.cancel()


async def test_a_client_that_leaves_is_seen(autojump_clock: Any) -> None:
    async with open_endpoint() as endpoint, httpx2.AsyncClient(transport=endpoint.transport()) as client:
        endpoint.reply(Say("x", Hold("gate"), Call("read")), Fail(500))
        with trio.move_on_after(1):
            await client.post("http://localhost/v1/chat/completions", json=question("x"))
        await endpoint.until(lambda: endpoint.asked[0].outcome == "gone")
        asked: Asked = endpoint.asked[0]
        assert (asked.text, asked.shape, asked.stream) == ("x", "openai-chat", False)

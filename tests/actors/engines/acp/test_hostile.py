"""Agents that are broken, silent, of another version, or worse: one sentence each, and nobody else feels it."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.engines.acp.rpc import IN_HAND
from protocol.errors import ValidationFailed
from protocol.specs import OnInterrupt, Policy, Restart
from supervisor import Filter

Odd = Callable[..., dict[str, Any]]
Told = Callable[..., list[dict[str, Any]]]


@pytest.mark.parametrize(
    "script, sentence",
    [
        pytest.param(
            "raw('what?\\n'); silence()", r"does not speak the protocol: a line is not JSON: 'what\?'", id="garbage"
        ),
        pytest.param("raw(b'\\xff\\xfe\\n'); silence()", "a line is not JSON: '��'", id="bytes"),
        pytest.param("raw('[1]\\n'); silence()", r"a line is no message, which is a JSON object: '\[1\]'", id="a-list"),
        pytest.param('raw(\'{"id": [], "method": "x"}\\n\'); silence()', "an id that is no id", id="a-wrong-id"),
        pytest.param("raw('{\"method\": 1}\\n'); silence()", "a method that is no text", id="a-wrong-method"),
        pytest.param("raw('{\"a\": ' * 500 + '\\n'); silence()", "a line is not JSON", id="nested"),
        pytest.param('raw(\'{"id": 0, "result": 1e999}\\n\'); silence()', "a line is not JSON", id="infinity"),
        pytest.param('raw(\'{"id": 0, "res\')', "ended with exit status 0 in the middle of a line", id="half-a-line"),
        pytest.param("sys.exit(3)", "ended with exit status 3 before it answered initialize", id="gone"),
        pytest.param("os.kill(os.getpid(), 11)", r"ended with signal 11 \(Segmentation fault\)", id="killed"),
        pytest.param(
            "print('cannot find my model', file=sys.stderr, flush=True); sys.exit(1)",
            r"Its last lines on standard error:\ncannot find my model",
            id="last-words",
        ),
        pytest.param(
            "serve(None, on={'session/new': lambda params: {}})",
            "session/new was answered without a sessionId",
            id="no-id",
        ),
        pytest.param(
            "serve(None, on={'session/new': lambda params: {'sessionId': 7}})", "without a sessionId", id="bad-id"
        ),
        pytest.param(
            "def no(params): raise Error({'code': -32603, 'message': 'disk full'})\nserve(None, on={'session/new': no})",
            "answered session/new with an error: disk full",
            id="no-session",
        ),
    ],
)
async def test_what_breaks_the_protocol_is_a_crash_with_a_sentence(
    drive: Any, odd: Odd, script: str, sentence: str
) -> None:
    ended = await drive.last_exit("acp", odd(script))
    assert ended["cause"] == "crashed"
    assert re.search(sentence, ended["error"]), ended["error"]


@pytest.mark.parametrize(
    "script, config, sentence",
    [
        pytest.param(
            "serve(None, initialize={'protocolVersion': 2})", {}, "speaks version 2 of the protocol; this house speaks 1",
            id="another-version",
        ),
        pytest.param("serve(None, initialize={'protocolVersion': '1'})", {}, "speaks version '1'", id="a-version-as-text"),
        pytest.param("serve(None, initialize={'protocolVersion': None})", {}, "speaks no version", id="no-version"),
        pytest.param("serve(None, on={'initialize': lambda params: []})", {}, "speaks no version", id="no-answer"),
        pytest.param(
            "def no(params): raise Error({'code': -32602, 'message': 'never'})\nserve(None, on={'initialize': no})",
            {}, "refused to begin: never", id="refused",
        ),
        pytest.param(
            "def no(params): raise Error({'code': -32000, 'message': 'Authentication required'})\n"
            "serve(None, initialize={'authMethods': [{'id': 'login', 'name': 'Log in'}, "
            "{'id': 'key', 'name': 'Key', 'type': 'env_var', 'vars': [{'name': 'ODD_API_KEY'}]}]}, on={'session/new': no})",
            {}, r"wants somebody to be authenticated \(Authentication required\); name one of its methods in `auth`: "
            r"'login', 'key' \(set ODD_API_KEY\)", id="auth-required",
        ),
        pytest.param(
            "serve(None, initialize={'authMethods': [{'id': 'login', 'name': 'Log in'}]})", {"auth": "card"},
            "cannot be authenticated by 'card'; it offers 'login'", id="no-such-auth",
        ),
        pytest.param(
            "def no(params): raise Error({'code': -32000, 'message': 'wrong key'})\n"
            "serve(None, initialize={'authMethods': [{'id': 'login', 'name': 'Log in'}]}, on={'authenticate': no})",
            {"auth": "login"}, "was not authenticated by 'login': wrong key", id="auth-refused",
        ),
        pytest.param("serve(None)", {"mode": "code"}, "the agent lets nobody choose its mode", id="no-modes"),
        pytest.param("serve(None)", {"options": {"web": True}}, "the agent has no option 'web'; there is none", id="no-option"),
        pytest.param(
            "serve(None)", {"mcp_servers": [{"type": "sse", "name": "web", "url": "http://127.0.0.1:1"}]},
            "takes no MCP server over sse", id="no-sse",
        ),
    ],
)  # fmt: skip
async def test_what_no_retry_can_mend_fails_for_good(
    drive: Any, odd: Odd, script: str, config: dict[str, Any], sentence: str
) -> None:
    ended = await drive.last_exit("acp", odd(script, **config), restart=Restart(policy=Policy.PERMANENT))
    assert ended["cause"] == "unmendable"
    assert re.search(sentence, ended["error"]), ended["error"]


@pytest.mark.parametrize("method, on", [("initialize", "initialize"), ("session/new", "session/new")])
async def test_nothing_within_the_boot_deadline_names_what_was_waited_for(
    drive: Any, odd: Odd, method: str, on: str
) -> None:
    script = f"print('thinking', file=sys.stderr, flush=True)\nserve(None, on={{{on!r}: lambda params: silence()}})"
    ended = await drive.last_exit("acp", odd(script), boot_s=2.0)
    assert f"did not answer {method} within 2 s. Its last lines on standard error:\nthinking" in ended["error"]


async def test_a_missing_program_or_directory_fails_for_good(drive: Any, tmp_path: Path) -> None:
    ended = await drive.last_exit("acp", {"argv": ["no-such-agent"]})
    assert (ended["cause"], "no program 'no-such-agent'" in ended["error"]) == ("unmendable", True)
    ended = await drive.last_exit("acp", {"agent": "qwen", "env": {"PATH": str(tmp_path)}})
    assert ended["cause"] == "unmendable"
    assert re.search(r"no program 'qwen' .*\. Install npm:@qwen-code/qwen-code\.$", ended["error"]), ended["error"]
    ended = await drive.last_exit("acp", {"agent": "example", "cwd": str(tmp_path)})
    assert ended["cause"] == "unmendable"
    assert re.search(r"no file '.*agent\.js' in .*\. Install npm:.* in the engine's directory\.$", ended["error"])
    ended = await drive.last_exit("acp", {"argv": [sys.executable], "cwd": str(tmp_path / "nowhere")})
    assert (ended["cause"], "cannot start in the folder" in ended["error"]) == ("unmendable", True)


@pytest.mark.parametrize(
    "config, sentence",
    [
        ({}, "give an agent or an argv"),
        ({"agent": "no-such"}, "there is no preset 'no-such'"),
        ({"argv": []}, "at least 1 item"),
        ({"agent": "example", "mcp_servers": [{"name": "x"}]}, "Field required"),
        ({"agent": "example", "permissions": [{"verdict": "maybe"}]}, "allow"),
    ],
)
async def test_a_config_that_cannot_be_meant_is_refused(drive: Any, config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationFailed, match=sentence):
        await drive.spawn("acp", config)


@pytest.mark.parametrize("input", ["", [], [{"type": "tea"}], [{"type": "text"}], 7, None, {"text": "x"}])
async def test_an_input_that_cannot_be_meant_is_refused(drive: Any, odd: Odd, input: Any) -> None:
    engine = await drive.spawn("acp", odd("serve(lambda params: None)"))
    with pytest.raises(ValidationFailed):
        await drive.submit(engine, input)


@pytest.mark.parametrize("mebibytes", [32, pytest.param(1024, marks=pytest.mark.torture)])
async def test_a_line_without_end_is_read_no_further_and_costs_nobody_else(
    drive: Any, odd: Odd, mebibytes: int
) -> None:
    well = await drive.spawn("acp", odd("serve(lambda params: say('well'))"))
    script = f"""
    def prompt(params):
        for _ in range({mebibytes}): raw(b"x" * (1 << 20))
    serve(prompt)
    """
    engine = await drive.spawn("acp", odd(script))
    async with drive.seen(engine, "engine.failed", holding="a line is longer than 16777216 bytes"):
        await drive.submit(engine, "x")
    assert "bytes, 'xxxx" in ((await drive.house.get(engine)).last_exit or {})["error"]
    assert (await drive.run(well, "x")).result["text"] == "well"
    assert (await drive.house.get(well)).incarnation == 1


async def test_a_long_message_is_taken_and_shown_in_part(drive: Any, odd: Odd) -> None:
    engine = await drive.spawn("acp", odd("serve(lambda params: say('long ' * 2_000_000))"))
    run = await drive.run(engine, "x")
    assert run.status == "completed"
    assert run.output_bytes == 10_000_000
    assert len(run.result["text"]) < 270_000
    [message] = await drive.said(engine, "acp.message")
    assert message["bytes"] == 10_000_000
    assert message["text"].endswith("bytes more)")


async def test_a_flood_of_requests_is_refused_beyond_what_can_wait(drive: Any, odd: Odd) -> None:
    script = f"""
    def prompt(params):
        numbers = [begin("elicitation/create", sessionId=SESSION, message="?", mode="form", requestedSchema={{}})
                   for _ in range({IN_HAND} + 3)]
        answers = [end(number) for number in numbers[{IN_HAND}:]]
        say(str([answer["message"] for answer in answers]))
        raise SystemExit
    serve(prompt)
    """
    engine = await drive.spawn("acp", odd(script))
    async with drive.seen(engine, "acp.message", holding=str([f"{IN_HAND} requests wait for an answer already"] * 3)):
        await drive.submit(engine, "x")


async def test_unknown_requests_and_wrong_ones_get_an_answer(drive: Any, odd: Odd) -> None:
    script = """
    def prompt(params):
        asked = [("_vendor/tea", {}), ("session/request_permission", {}), ("elicitation/create", {}),
                 ("session/request_permission", {"toolCall": {"toolCallId": "x"}, "options": []}),
                 ("fs/read_text_file", {}), ("fs/read_text_file", {"path": "relative"}), ("terminal/create", {}),
                 ("terminal/output", {"terminalId": "x"}), ("elicitation/create", {"message": "?", "mode": "dance"})]
        say(json.dumps([ask(method, **members)["code"] for method, members in asked]))
        raw('{"jsonrpc": "2.0", "id": "mine", "method": "fs/read_text_file", "params": [1]}\\n')
        say(json.dumps([heard()["error"]["code"], end(begin("fs/read_text_file", sessionId="another"))["code"]]))
    serve(prompt)
    """
    engine = await drive.spawn("acp", odd(script))
    run = await drive.run(engine, "x")
    assert run.status == "completed"
    said = b"[-32601, -32602, -32602, -32602, -32602, -32602, -32602, -32602, -32602]"
    assert (await drive.house.output(run.id))[0] == said + b"[-32602, -32602]"


async def test_what_the_config_keeps_from_the_agent_is_no_method(drive: Any, odd: Odd, told: Told) -> None:
    script = """
    METHODS = ("fs/read_text_file", "fs/write_text_file", "terminal/create", "elicitation/create")
    serve(lambda params: say(json.dumps([ask(method, path="/x")["code"] for method in METHODS])))
    """
    engine = await drive.spawn("acp", odd(script, files="none", terminal=False, elicitation=False))
    assert (await drive.run(engine, "x")).result["text"] == "[-32601, -32601, -32601, -32601]"
    assert told("initialize")[0]["params"]["clientCapabilities"] == {
        "fs": {"readTextFile": False, "writeTextFile": False},
        "terminal": False,
        "session": {"configOptions": {"boolean": {}}},
    }
    reads = await drive.spawn("acp", odd(script, files="read"))
    assert (await drive.run(reads, "x")).result["text"].startswith("[-32602, -32601, ")


async def test_strays_and_halves_of_characters_are_taken(drive: Any, odd: Odd) -> None:
    script = r"""
    def prompt(params):
        raw('{"jsonrpc": "2.0", "id": 4711, "result": null}\n')
        raw('{"id": null, "error": {"code": 1, "message": "x"}}\n')
        raw('{"jsonrpc": "2.0", "method": "session/update"}\n{"method": "session/update", "params": {"update": 7}}\n')
        raw('{"jsonrpc":"2.0","method":"session/update","params":{"sessionId":"s-1","update":{"sessionUpdate":'
            '"agent_message_chunk","content":{"type":"text","text":"half \\ud83d"}}}}\n')
        for wrong in ({}, {"content": 7}, {"content": {"type": "image"}}): update("agent_message_chunk", **wrong)
        for wrong in ({}, {"toolCallId": 7}, {"toolCallId": "c", "status": "dancing", "content": 3, "locations": "x"}):
            update("tool_call", **wrong)
        deep = [1]
        for _ in range(150): deep = [deep]
        changed("c", rawInput=deep, rawOutput={"a": deep})
        update("plan"); update("usage_update", used="x", cost={"amount": "much"})
    serve(prompt)
    """
    engine = await drive.spawn("acp", odd(script))
    run = await drive.run(engine, "x")
    assert (run.status, run.result["text"]) == ("completed", "half �[image]")
    assert (await drive.house.output(run.id))[0].decode() == "half �[image]"
    [tool] = (await drive.house.slice(engine, "tools")).value
    assert (tool["id"], tool["status"]) == ("c", "failed")


async def test_an_agent_that_reads_nothing_is_given_up(drive: Any, odd: Odd) -> None:
    script = """
    def prompt(params):
        for n in range(2000): send(id=f"r{n}", method="_vendor/question", params={"text": "x" * 1000})
        silence()
    serve(prompt)
    """
    engine = await drive.spawn("acp", odd(script))
    async with drive.seen(engine, "engine.failed", holding="does not read its standard input: 64 messages wait"):
        await drive.submit(engine, "x")


async def test_an_agent_that_ends_by_itself_has_crashed(drive: Any, odd: Odd) -> None:
    engine = await drive.spawn(
        "acp", odd("def prompt(params): say('bye'); sys.exit(0)\nserve(prompt)"), on_interrupt=OnInterrupt.FAIL
    )
    run = await drive.run(engine, "x")
    assert (run.status, run.error["slug"]) == ("failed", "interrupted")
    assert "ended with exit status 0 in the middle of a turn" in run.error["detail"]
    assert [row["text"] for row in await drive.said(engine, "acp.message")] == ["bye"]


LONG = "'x' * (4 << 20)"


@pytest.mark.parametrize(
    "script",
    [
        f"def no(params): raise Error({{'code': 1, 'message': {LONG}, 'data': {LONG}}})\nserve(no)",
        f"serve(lambda params: {{'stopReason': [{LONG}]}})",
        f"serve(lambda params: {LONG})",
        f"serve(lambda params: ask('elicitation/create', mode='url', message='m', url={LONG}, elicitationId='e') and None)",
        f"""def prompt(params):
    tool = {{'toolCallId': 'c', 'title': 't'}}
    ask('session/request_permission', toolCall=tool, options=[{{'optionId': {LONG}, 'kind': 'allow_once', 'name': 'n'}}])
serve(prompt)""",
        f"def prompt(params): call({LONG}, title='t')\nserve(prompt)",
        """def prompt(params):
    values = [{'value': str(n) + 'x' * 1000} for n in range(200)]
    update('config_option_update', configOptions=[{'id': str(n), 'options': values} for n in range(60)])
serve(prompt)""",
    ],
    ids=["error", "reason", "text-reason", "address", "option", "call", "options"],
)
async def test_however_much_it_says_an_event_is_small(drive: Any, odd: Odd, script: str) -> None:
    engine = await drive.spawn("acp", odd(script))
    await drive.run(engine, "x")
    page = await drive.house.event_page(Filter(engine=engine), after="0", limit=1000)
    assert max(len(str(item)) for item in page.items) < 150_000


@pytest.mark.parametrize("answer", [f"lambda params: {{'sessionId': {LONG}}}", "no"])
async def test_however_much_it_says_its_last_words_are_short(drive: Any, odd: Odd, answer: str) -> None:
    no = f"def no(params): raise Error({{'code': -32000, 'message': {LONG}}})\n"
    ended = await drive.last_exit("acp", odd(f"{no}serve(None, on={{'session/new': {answer}}})"))
    assert len(ended["error"]) < 20_000


@pytest.mark.parametrize(
    "asked",
    [
        "ask('session/request_permission', toolCall={'toolCallId': 'c', 'title': 'x' * 5000}, options=OPTIONS)",
        "ask('session/request_permission', toolCall={'toolCallId': 'c', 'rawInput': 'x' * (8 << 20)}, options=OPTIONS)",
        "ask('terminal/create', command='true', env=5)",
        "ask('terminal/create', command='true', env=[{'name': 'a=b', 'value': 'x'}])",
        "ask('terminal/create', command='true', env=[{'name': '', 'value': 'x'}])",
        "ask('terminal/create', command='true', env=[{'name': 'a', 'value': 'x\\0y'}])",
        "ask('terminal/create', command='true\\0')",
        "ask('terminal/create', command='true', args=['\\0'])",
        "ask('terminal/create', command='true', args=['x' * 300_000])",
        "ask('terminal/create', command='x' * 300_000)",
        "ask('terminal/create', command='true', cwd='/' + 'x' * 5000)",
        "ask('terminal/output', terminalId=[1])",
        "ask('fs/read_text_file', path=os.getcwd() + '/x' * 3000)",
        "ask('fs/write_text_file', path=os.getcwd() + '/x' * 300_000, content='')",
        "ask('fs/write_text_file', path=os.getcwd() + '/' + 'x' * 300, content='')",
        "ask('fs/read_text_file', path=os.getcwd() + '/heard.jsonl', line=10**400, limit=-(10**400))",
        "update('usage_update', used=10**4000, size=-1, cost={'currency': 'USD', 'amount': 10**400})",
        "update('usage_update', used=1, size=1, cost={'currency': 'USD', 'amount': 1e308})",
        "ask('elicitation/create', mode='form', message='?', requestedSchema=deep(120))",
        "ask('elicitation/create', mode='form', message='?', requestedSchema={'minLength': 10**400})",
        "call('c', title='t', rawInput=deep(180), rawOutput=deep(180))",
        "update('config_option_update', configOptions=[{'id': [1]}, {'id': 'x', 'options': [{'options': 7}]}])",
    ],
)
async def test_whatever_it_asks_for_it_goes_on(drive: Any, odd: Odd, asked: str) -> None:
    script = f"""
    OPTIONS = [{{'optionId': 'o', 'kind': 'allow_once', 'name': 'n'}}]
    def deep(levels):
        value = {{'a': 1}}
        for _ in range(levels): value = {{'not': value}}
        return value
    def prompt(params):
        {asked}
        say('on')
        return {{'stopReason': 'end_turn', 'usage': {{'inputTokens': 10**4000, 'outputTokens': -1}}}}
    serve(prompt)
    """
    engine = await drive.spawn("acp", odd(script, ask_timeout_s=0.2))
    run = await drive.run(engine, "x")
    assert (run.status, run.result and run.result["text"]) == ("completed", "on"), run.error
    assert (await drive.house.get(engine)).incarnation == 1
    assert all(isinstance(request["title"], str) for request in await drive.said(engine, "request.opened"))

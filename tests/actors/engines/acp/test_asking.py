"""Permissions and elicitations: rules first, then people, whose "always" is a rule; cancelled is an answer too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protocol.bodies import ReplyBody
from protocol.commands import Reject, Signal
from protocol.specs import PauseMode
from supervisor import Caller

Odd = Callable[..., dict[str, Any]]
Told = Callable[..., list[dict[str, Any]]]

RUN_TESTS = """
def prompt(params):
    call("c1", title="Run the tests", kind="execute", rawInput={"command": "npm test"})
    say(json.dumps(permission("c1", KINDS)))
serve(prompt)
"""
ALL = ("allow_once", "allow_always", "reject_once", "reject_always")


def script(*kinds: str) -> str:
    return f"KINDS = {kinds!r}\n{RUN_TESTS}"


async def asked(drive: Any, engine: str, input: str = "x") -> tuple[str, Any]:
    """The run, and the one request that it waits for."""
    async with drive.seen(engine, "request.opened"):
        run = await drive.submit(engine, input)
    [request] = (await drive.house.requests()).items
    return run, request


async def answered(drive: Any, engine: str, **reply: Any) -> str:
    """What the agent heard when somebody gave this reply."""
    run, request = await asked(drive, engine)
    async with drive.seen(engine, "run.completed"):
        await drive.house.reply(request.id, ReplyBody(**reply))
    text: str = (await drive.house.run(run)).result["text"]
    return text


@pytest.mark.parametrize("order", [ALL, ALL[::-1], ("reject_always", "allow_once", "reject_once", "allow_always")])
async def test_options_are_told_apart_by_their_kind(drive: Any, odd: Odd, order: tuple[str, ...]) -> None:
    engine = await drive.spawn("acp", odd(script(*order)))
    _, request = await asked(drive, engine)
    assert {option["id"]: option["kind"] for option in request.options} == {f"o-{kind}": kind for kind in ALL}
    async with drive.seen(engine, "run.completed"):  # a reject without an option means the kind reject_once
        await drive.house.command(engine, Reject())
    assert '"optionId": "o-reject_once"' in str(await drive.said(engine, "acp.message"))


async def test_what_is_asked_is_the_very_call(drive: Any, odd: Odd) -> None:
    engine = await drive.spawn("acp", odd(script(*ALL)))
    _, request = await asked(drive, engine)
    assert (request.kind, request.title) == ("permission", "Run the tests")
    assert request.action == {
        "tool": "execute", "kind": "execute", "title": "Run the tests", "command": "npm test",
        "input": {"command": "npm test"},
    }  # fmt: skip


async def test_always_is_a_rule_that_outlives_the_actor(drive: Any, odd: Odd) -> None:
    engine = await drive.spawn("acp", odd(script("allow_once", "reject_once")))
    assert "o-allow_once" in await answered(drive, engine, option="allow_always")  # ours; the agent has none
    rule = {"verdict": "allow", "tool": "execute", "path": None, "command": "npm test"}
    assert (await drive.house.slice(engine, "permissions")).value == [rule]
    assert "o-allow_once" in (await drive.run(engine, "x")).result["text"]
    async with drive.seen(engine, "engine.started"):
        await drive.house.restart(engine)
    assert "o-allow_once" in (await drive.run(engine, "x")).result["text"]
    assert [row["verdict"] for row in await drive.said(engine, "acp.permission")] == ["allow", "allow"]


async def test_always_can_be_taken_back_but_not_by_the_engine(drive: Any, odd: Odd) -> None:
    engine = await drive.spawn("acp", odd(script("allow_once", "reject_once")))
    await answered(drive, engine, option="allow_always")
    forget = Signal(name="forget", payload={"rule": 0})
    for caller, ok in ((Caller(principal="engine:eng_1"), False), (Caller(principal="user:a"), True)):
        _, done = await drive.house.command(engine, forget, caller, wait_s=10)
        assert done.result["ok"] is ok
    assert (await drive.house.slice(engine, "permissions")).value == []
    await asked(drive, engine)


async def test_never_is_a_rule_too(drive: Any, odd: Odd) -> None:
    engine = await drive.spawn("acp", odd(script(*ALL)))
    assert "o-reject_always" in await answered(drive, engine, option="o-reject_always")
    assert "o-reject_once" in (await drive.run(engine, "x")).result["text"]


@pytest.mark.parametrize(
    "rules, kinds, outcome",
    [
        ([{"verdict": "allow", "command": "npm *"}], ALL, "o-allow_once"),
        ([{"verdict": "allow", "command": "npm *"}], ("reject_once", "allow_always"), "o-allow_always"),
        ([{"verdict": "allow"}, {"verdict": "deny", "tool": "execute"}], ALL, "o-reject_once"),
        ([{"verdict": "deny", "command": "npm test"}], ("allow_once", "reject_always"), "o-reject_always"),
        ([{"verdict": "deny", "command": "npm test"}], ("allow_once", "allow_always"), "cancelled"),
    ],
)
async def test_rules_answer_before_anybody_is_asked(
    drive: Any, odd: Odd, rules: list[Any], kinds: tuple[str, ...], outcome: str
) -> None:
    engine = await drive.spawn("acp", odd(script(*kinds), permissions=rules))
    assert outcome in (await drive.run(engine, "x")).result["text"]
    assert (await drive.house.requests()).items == []


async def test_a_rule_that_allows_something_else_allows_nothing(drive: Any, odd: Odd) -> None:
    rules = [{"verdict": "allow", "command": "npm run *"}, {"verdict": "allow", "tool": "read"}]
    engine = await drive.spawn("acp", odd(script(*ALL), permissions=rules))
    await asked(drive, engine)


async def test_kinds_of_tomorrow_are_choices(drive: Any, odd: Odd) -> None:
    engine = await drive.spawn("acp", odd(script("allow_for_an_hour", "reject_once")))
    assert "o-allow_for_an_hour" in await answered(drive, engine, option="o-allow_for_an_hour")


@pytest.mark.parametrize("method", ["cancel", "stop"])
async def test_a_cancelled_turn_answers_what_is_open_as_cancelled(
    drive: Any, odd: Odd, told: Told, method: str
) -> None:
    engine = await drive.spawn("acp", odd("KINDS = ('allow_once',)\n" + RUN_TESTS))
    run, _ = await asked(drive, engine)
    async with drive.seen(engine, "run.cancelled"):
        await (drive.house.cancel(run) if method == "cancel" else drive.house.stop(engine))
    if method == "cancel":
        assert [row["text"] for row in await drive.said(engine, "acp.message")] == ['{"outcome": "cancelled"}']
        assert (await drive.house.get(engine)).incarnation == 1
    assert len(told("session/cancel")) == 1
    assert (await drive.house.requests()).items == []
    [withdrawn] = await drive.said(engine, "request.withdrawn")
    assert withdrawn["reason"] == "its run is cancelled"


async def test_two_questions_at_once_are_answered_each(drive: Any, odd: Odd) -> None:
    engine = await drive.spawn(
        "acp",
        odd("""
    def prompt(params):
        options = [{"optionId": kind, "kind": kind, "name": kind} for kind in ("allow_once", "reject_once")]
        numbers = [begin("session/request_permission", sessionId=SESSION, options=options,
                         toolCall={"toolCallId": f"c{n}", "kind": "execute", "rawInput": {"command": f"make {n}"}})
                   for n in range(2)]
        answers = [end(number)["outcome"]["optionId"] for number in numbers]
        say(",".join(answers))
    serve(prompt)
    """),
    )
    async with drive.seen(engine, "request.opened", holding="make 1"):
        run = await drive.submit(engine, "x")
    items = (await drive.house.requests()).items
    by_command = {item.action["command"]: item.id for item in items}
    async with drive.seen(engine, "run.completed"):
        await drive.house.reply(by_command["make 1"], ReplyBody(option="reject_once"))
        await drive.house.reply(by_command["make 0"], ReplyBody(option="allow_once"))
    assert (await drive.house.run(run)).result["text"] == "allow_once,reject_once"


async def test_a_request_that_the_agent_gives_up_is_withdrawn(drive: Any, odd: Odd, tmp_path: Path) -> None:
    engine = await drive.spawn(
        "acp",
        odd("""
    def prompt(params):
        options = [{"optionId": "yes", "kind": "allow_once", "name": "Yes"}]
        number = begin("session/request_permission", sessionId=SESSION, options=options, toolCall={"toolCallId": "c"})
        until("go")
        for id in (4711, [1], number): send(method="$/cancel_request", params={"requestId": id})
        say(json.dumps(end(number)))
    serve(prompt)
    """),
    )
    run, _ = await asked(drive, engine)
    async with drive.seen(engine, "run.completed"):
        (tmp_path / "agent" / "go").touch()
    assert (await drive.house.run(run)).result["text"] == '{"outcome": {"outcome": "cancelled"}}'
    assert [row["reason"] for row in await drive.said(engine, "request.withdrawn")] == ["nobody waits for it"]


async def test_nobody_answers_in_time_and_that_is_a_no(drive: Any, odd: Odd) -> None:
    engine = await drive.spawn("acp", odd(script(*ALL), ask_timeout_s=0.05))
    assert "o-reject_once" in (await drive.run(engine, "x")).result["text"]
    none = await drive.spawn("acp", odd(script("allow_once"), ask_timeout_s=0.05))
    assert (await drive.run(none, "x")).result["text"] == '{"outcome": "cancelled"}'


FORM = """
def prompt(params):
    schema = {"type": "object", "properties": {"branch": {"type": "string"}}, "required": ["branch"]}
    say(json.dumps(ask("elicitation/create", message="Which branch?", mode="form", requestedSchema=schema)))
serve(prompt)
"""


@pytest.mark.parametrize(
    "reply, heard",
    [
        ({"answer": {"branch": "main"}}, '{"action": "accept", "content": {"branch": "main"}}'),
        ({"option": "decline"}, '{"action": "decline"}'),
    ],
)
async def test_a_form_is_a_question_with_a_schema(drive: Any, odd: Odd, reply: dict[str, Any], heard: str) -> None:
    engine = await drive.spawn("acp", odd(FORM))
    assert await answered(drive, engine, **reply) == heard


async def test_an_address_is_a_question_too(drive: Any, odd: Odd) -> None:
    address = 'url="http://127.0.0.1/login", elicitationId="e"'
    engine = await drive.spawn(
        "acp", odd(FORM.replace('mode="form", requestedSchema=schema', f'mode="url", {address}'))
    )
    assert await answered(drive, engine, option="done") == '{"action": "accept"}'


async def test_a_schema_that_cannot_be_meant_is_an_error_of_the_agents(drive: Any, odd: Odd) -> None:
    engine = await drive.spawn("acp", odd(FORM.replace('"type": "object"', '"type": "tea"')))
    assert "-32602" in (await drive.run(engine, "x")).result["text"]


async def test_a_retried_run_finds_its_question_again(drive: Any, odd: Odd) -> None:
    """An interrupted turn is prompted again, and asks the same; whoever decides meanwhile has decided that."""
    engine = await drive.spawn("acp", odd(script(*ALL).replace('call("c1"', 'call(f"c{os.urandom(4).hex()}"')))
    run, request = await asked(drive, engine)
    await drive.house.pause(engine, mode=PauseMode.INTERRUPT, wait_s=10)
    await drive.house.reply(request.id, ReplyBody(option="o-allow_once"))
    async with drive.seen(engine, "run.completed"):
        await drive.house.resume(engine)
    info = await drive.house.run(run)
    assert (info.attempts, "o-allow_once" in info.result["text"]) == (2, True)
    assert len(await drive.said(engine, "request.opened")) == 1


async def test_a_call_that_is_asked_about_is_shown_though_it_was_never_announced(drive: Any, odd: Odd) -> None:
    engine = await drive.spawn("acp", odd("serve(lambda params: permission('c9', title='Go', kind='edit') and None)"))
    await asked(drive, engine)
    [tool] = (await drive.house.slice(engine, "tools")).value
    assert (tool["id"], tool["title"], tool["status"]) == ("c9", "Go", "pending")

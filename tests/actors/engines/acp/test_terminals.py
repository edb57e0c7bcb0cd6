"""Commands that the agent has us run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.engines.acp import terminals

Odd = Callable[..., dict[str, Any]]


async def output_of(drive: Any, config: dict[str, Any]) -> str:
    engine = await drive.spawn("acp", config)
    text: str = (await drive.run(engine, "x")).result["text"]
    return text


def once(body: str) -> str:
    lines = "\n".join(f"    {line.strip()}" for line in body.strip().splitlines())
    return f"def prompt(params):\n{lines}\nserve(prompt)\n"


RUN = """
made = ask("terminal/create", **WANTED)
id = made.get("terminalId")
status = ask("terminal/wait_for_exit", terminalId=id)
say(json.dumps([status, ask("terminal/output", terminalId=id)]))
ask("terminal/release", terminalId=id)
say(json.dumps(ask("terminal/output", terminalId=id).get("code")))
"""


@pytest.mark.parametrize(
    "wanted, status, output",
    [
        ({"command": "printf", "args": ["%s", "a b"]}, '{"exitCode": 0, "signal": null}', "a b"),
        ({"command": "printf 'x'; exit 3"}, '{"exitCode": 3, "signal": null}', "x"),
        ({"command": "kill -9 $$"}, '{"exitCode": null, "signal": "SIGKILL"}', ""),
        ({"command": "echo oh >&2"}, '{"exitCode": 0, "signal": null}', "oh\\\\n"),
        ({"command": "printf $A", "env": [{"name": "A", "value": "yes"}, 7]}, '{"exitCode": 0, "signal": null}', "yes"),
    ],
)
async def test_a_command_runs_to_its_end(
    drive: Any, odd: Odd, wanted: dict[str, Any], status: str, output: str
) -> None:
    said = await output_of(drive, odd(f"WANTED = {wanted}\n" + once(RUN)))
    exact = output.replace("\\\\n", "\\n")
    assert said == f'[{status}, {{"output": "{exact}", "truncated": false, "exitStatus": {status}}}]-32602'


async def test_it_starts_in_the_agents_directory_or_below(drive: Any, odd: Odd, tmp_path: Path) -> None:
    (tmp_path / "agent" / "deep").mkdir(parents=True)
    for cwd, expected in ((tmp_path / "agent" / "deep", "deep"), (tmp_path / "agent", "agent")):
        said = await output_of(drive, odd(f"WANTED = { ({'command': 'pwd', 'cwd': str(cwd)}) }\n" + once(RUN)))
        assert f"/{expected}\\n" in said
    engine = await drive.spawn("acp", odd(once('say(str(ask("terminal/create", command="pwd", cwd="/")))')))
    assert "is not beneath" in (await drive.run(engine, "x")).result["text"]


async def test_of_long_output_the_end_is_kept_at_a_character(drive: Any, odd: Odd) -> None:
    wanted = {"command": "printf", "args": ["abcü€xyz"], "outputByteLimit": 5}
    said = await output_of(drive, odd(f"WANTED = {wanted}\n" + once(RUN)))
    assert '"output": "xyz", "truncated": true' in said


async def test_a_command_can_be_watched_killed_and_is_told(drive: Any, odd: Odd) -> None:
    script = once(r"""
        id = ask("terminal/create", command="echo on; exec sleep 1000")["terminalId"]
        while not (seen := ask("terminal/output", terminalId=id))["output"]: pass
        say(json.dumps(seen)); ask("terminal/kill", terminalId=id)
        say(json.dumps(ask("terminal/wait_for_exit", terminalId=id)))
    """)
    engine = await drive.spawn("acp", odd(script))
    said = (await drive.run(engine, "x")).result["text"]
    assert said == '{"output": "on\\n", "truncated": false}{"exitCode": null, "signal": "SIGTERM"}'
    [told] = await drive.said(engine, "acp.terminal")
    assert (told["command"], told["output"], told["signal"]) == ("echo on; exec sleep 1000", "on\n", "SIGTERM")


async def test_one_that_ignores_term_is_killed(drive: Any, odd: Odd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminals, "TERM_S", 0.1)
    script = once(r"""
        id = ask("terminal/create", command="trap '' TERM; echo on; while :; do sleep 0.05; done")["terminalId"]
        while not ask("terminal/output", terminalId=id)["output"]: pass
        ask("terminal/kill", terminalId=id)
        say(json.dumps(ask("terminal/wait_for_exit", terminalId=id)))
    """)
    assert await output_of(drive, odd(script)) == '{"exitCode": null, "signal": "SIGKILL"}'


async def test_a_missing_program_and_too_many_terminals_are_errors(
    drive: Any, odd: Odd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminals, "TERMINALS", 2)
    script = once(r"""
        say(ask("terminal/create", command="no-such-program")["message"])
        for n in range(3): answer = ask("terminal/create", command="sleep", args=["1000"])
        say(" / " + answer["message"])
    """)
    engine = await drive.spawn("acp", odd(script))
    said = (await drive.run(engine, "x")).result["text"]
    assert said.startswith("there is no program 'no-such-program' in PATH")
    assert said.endswith(" / there are 2 terminals already; release some")
    assert (await drive.house.dispose(engine)).leaks == []


async def test_many_at_once_are_too_many_as_well(drive: Any, odd: Odd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminals, "TERMINALS", 2)
    script = once(r"""
        begun = [begin("terminal/create", sessionId=SESSION, command="sleep", args=["1000"]) for n in range(10)]
        say(json.dumps(sum("terminalId" in end(number) for number in begun)))
    """)
    assert await output_of(drive, odd(script)) == "2"


async def test_a_rule_forbids_a_command_that_nobody_was_asked_about(drive: Any, odd: Odd) -> None:
    script = once("""
        said = [ask("terminal/create", command="git", args=["push", "-f"]), ask("terminal/create", command="ls; git push -f")]
        say(str([answer.get("message") for answer in said]))
    """)
    engine = await drive.spawn("acp", odd(script, permissions=[{"verdict": "deny", "command": "git push*"}]))
    assert (await drive.run(engine, "x")).result["text"] == str(["a rule forbids this"] * 2)


async def test_a_cancelled_turn_ends_the_commands_that_it_began(drive: Any, odd: Odd, tmp_path: Path) -> None:
    script = once("""
        id = ask("terminal/create", command="trap 'touch ended; exit' TERM; touch begun; while :; do sleep 0.02; done")
        while not os.path.exists("begun"): pass
        say("begun"); until_cancelled()
    """)
    engine = await drive.spawn("acp", odd(script))
    async with drive.seen(engine, "message.delta"):
        run = await drive.submit(engine, "x")
    async with drive.seen(engine, "acp.terminal"):
        await drive.house.cancel(run)
    assert (tmp_path / "agent" / "ended").exists()


async def test_a_soft_pause_waits_for_a_command_that_the_agent_waits_for(drive: Any, odd: Odd, tmp_path: Path) -> None:
    script = once("""
        id = ask("terminal/create", command="touch begun; until [ -e go ]; do sleep 0.02; done; touch done")["terminalId"]
        say("begun"); ask("terminal/wait_for_exit", terminalId=id)
    """)
    engine = await drive.spawn("acp", odd(script))
    async with drive.seen(engine, "message.delta"):
        run = await drive.submit(engine, "x")
    async with drive.seen(engine, "engine.pausing"):
        await drive.house.pause(engine)
    async with drive.seen(engine, "engine.paused"):
        (tmp_path / "agent" / "go").touch()
    assert (tmp_path / "agent" / "done").exists()
    assert await drive.said(engine, "acp.message") == []
    async with drive.seen(engine, "run.completed"):
        await drive.house.resume(engine)
    assert (await drive.house.run(run)).attempts == 1

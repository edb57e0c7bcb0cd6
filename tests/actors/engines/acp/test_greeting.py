"""A greeting says what an agent is, or why it is none; nothing of it is left either way."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from actors.engines.acp.greeting import NotGreeted, greet
from tests.e2e.daemons import processes_with

ENV = {"PATH": os.environ["PATH"]}
WITHIN_S = 30.0


async def greeted(config: dict[str, Any], within_s: float = WITHIN_S, **env: str) -> Any:
    return await greet(config["argv"], ENV | env, cwd=config["cwd"], within_s=within_s)


async def test_an_agent_says_who_it_is(odd: Callable[..., dict[str, Any]]) -> None:
    script = """
    hello = {"agentInfo": {"name": "odd", "version": "7"}, "agentCapabilities": {"loadSession": True},
             "authMethods": [{"id": "key", "name": "Key"}, {"name": "nothing"}]}
    serve(lambda params: None, initialize=hello)
    """
    found = await greeted(odd(script))
    assert (found.protocol, found.name, found.version) == (1, "odd", "7")
    assert (found.capabilities, found.methods) == ({"loadSession": True}, ["key"])
    assert 0 < found.seconds < WITHIN_S


async def test_nothing_of_it_is_left(odd: Callable[..., dict[str, Any]]) -> None:
    mark = f"mark-{uuid4().hex}"
    script = """
    import subprocess
    subprocess.Popen(["setsid", "sh", "-c", "trap '' TERM; while :; do sleep 1; done"])
    serve(lambda params: None)
    """
    await greeted(odd(script), MARK=mark)
    assert processes_with(mark) == []


@pytest.mark.parametrize(
    "program, why",
    [
        ("import sys; print('no licence', file=sys.stderr); sys.exit(3)", "ended with exit status 3; .*no licence"),
        ("print('Welcome!', flush=True); input(); input()", "does not speak the protocol: .*Welcome!"),
        ("print('x' * (17 << 20), flush=True); input(); input()", "does not speak the protocol: a line is longer"),
        ('print(\'{"id": 0, "result": {}}\', flush=True); input(); input()', "without a version of the protocol"),
        ('print(\'{"id": 0, "error": {"code": 1, "message": "never"}}\', flush=True); input()', "refused: never"),
        ("import os; os.close(1); input(); input()", "closed its standard output"),
    ],
)
async def test_what_is_no_agent_is_told_as_it_is(program: str, why: str, tmp_path: Path) -> None:
    config = {"argv": [sys.executable, "-S", "-c", program], "cwd": str(tmp_path)}
    with pytest.raises(NotGreeted, match=why):
        await greeted(config)


async def test_silence_has_an_end(tmp_path: Path) -> None:
    mark = f"mark-{uuid4().hex}"
    silent = {"argv": [sys.executable, "-S", "-c", "input(); input()"], "cwd": str(tmp_path)}
    with pytest.raises(NotGreeted, match=r"did not answer within 0\.1 s"):
        await greeted(silent, within_s=0.1, MARK=mark)
    assert processes_with(mark) == []


async def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotGreeted, match="there is no program 'no-such-agent'"):
        await greeted({"argv": ["no-such-agent"], "cwd": str(tmp_path)})

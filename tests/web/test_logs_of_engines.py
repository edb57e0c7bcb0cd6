"""What programs wrote, over HTTP: the route, the client and the command line, over a real daemon."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio

from protocol.bodies import NewEngine
from protocol.errors import NotFound, ValidationFailed
from tests.web.conftest import PROGRAM, environment
from web.cli import main
from web.client import open_remote

WRITES = {"protocol": "none", "ready": {"line": "up"}}


def writing(script: str, **more: Any) -> dict[str, Any]:
    return {**WRITES, "argv": ["sh", "-c", f"{script}; echo up >&2; exec sleep 1000"], **more}


async def test_a_log_is_read_page_by_page_and_waited_for(daemon: Any, tmp_path: Path) -> None:
    async with open_remote(daemon.url, api_key=daemon.key) as house:
        script = f"echo one; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo two"
        await house.spawn(NewEngine(kind="process", id="pages", config={**writing(script), "ready": {"line": "one"}}))
        page = await house.log("pages", after="0", limit=3, wait_s=20)
        assert page.text == "one"
        page = await house.log("pages", after=page.next_after, wait_s=20)
        assert page.text == "\n"
        (tmp_path / "go").touch()
        with trio.fail_after(20):
            page = await house.log("pages", after=page.next_after, wait_s=20)
        assert page.text == "two\n"
        assert (await house.log("pages", limit=4)).text == "two\n"
        with pytest.raises(ValidationFailed, match="no place in a log"):
            await house.log("pages", after="nonsense")
        with pytest.raises(NotFound, match="no log of nonsense; it keeps stdout, stderr"):
            await house.log("pages", "nonsense")
        await house.dispose("pages", force=True)


async def test_an_engine_that_keeps_no_log_is_404(daemon: Any) -> None:
    async with open_remote(daemon.url, api_key=daemon.key) as house:
        await house.spawn(NewEngine(kind="probe", id="silent"))
        with pytest.raises(NotFound, match="keep no log"):
            await house.log("silent")
        await house.dispose("silent", force=True)


def test_the_command_line_finds_the_lines_where_they_are(
    daemon: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENGINEHOUSE_STATE_DIR", str(daemon.state))
    for name, events in (("in-files", False), ("in-events", True)):
        config = writing("echo from the program", stdout_log={"events": events})
        assert main(["spawn", "process", "--id", name, "--config", json.dumps(config)]) == 0
    capsys.readouterr()
    assert main(["logs", "in-files"]) == 0
    assert capsys.readouterr().out == "from the program\n"
    assert main(["logs", "in-events"]) == 0
    assert "  from the program\n" in capsys.readouterr().out
    assert main(["logs", "in-events", "--stream", "stderr"]) == 0
    assert capsys.readouterr().out == "up\n"
    assert main(["logs", "in-files", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == "from the program\n"
    assert main(["logs", "in-files", "--stream", "nonsense"]) == 2
    assert main(["dispose", "in-files", "in-events", "--force"]) == 0


def test_following_ends_with_the_engine(daemon: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ENGINEHOUSE_STATE_DIR", str(daemon.state))
    config = writing("echo first", stdout_log={"events": False})
    assert main(["spawn", "process", "--id", "followed", "--config", json.dumps(config)]) == 0
    command = [sys.executable, "-c", PROGRAM, "logs", "-f", "followed", "--state-dir", str(daemon.state)]
    with subprocess.Popen(command, env=environment(tmp_path), stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "first\n"
        assert main(["dispose", "followed", "--force"]) == 0
        assert follower.wait(40) == 0

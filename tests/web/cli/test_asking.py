"""What `run` says while people are asked."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.web.conftest import PROGRAM, environment

Cli = Callable[..., tuple[int, str, str]]
ASK = {"steps": 1, "ask_at": 1, "ask": {"kind": "question", "title": "Which\x1b[2J?"}}


@pytest.mark.parametrize("form", [(), ("--json",), ("--follow",)])
def test_a_request_of_the_run_is_told_once_on_stderr(cli: Cli, probe: str, daemon: Any, form: tuple[str, ...]) -> None:
    line = [sys.executable, "-c", PROGRAM, "run", probe, "--input", json.dumps(ASK), *form]
    home = daemon.state.parents[2]
    with subprocess.Popen(
        line, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stderr is not None
        told = re.fullmatch(
            r"Waiting for an answer: Which\?\[2J\? \(enginehouse show (req_\w+)\)\n", running.stderr.readline()
        )
        assert told is not None
        assert cli("reply", told[1], "--answer", "this")[0] == 0
        out, err = running.communicate(timeout=60)
    assert (running.returncode, "Waiting" in out, "Waiting" in err) == (0, False, False)


def test_a_key_that_may_not_read_waits_for_the_run_all_the_same(cli: Cli, probe: str) -> None:
    key = cli("key", "create", "blind", "--scope", "operate")[1].strip()
    line = ("run", probe, "--input", '{"steps": 30, "step_s": 0.05}', "--json", "--api-key", key)
    code, out, err = cli(*line)
    assert (code, json.loads(out)["status"], err) == (0, "completed", "")

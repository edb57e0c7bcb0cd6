"""`enginehouse signal`: what an engine answers is printed, and says how it went."""

import json
from collections.abc import Callable

import pytest

Cli = Callable[..., tuple[int, str, str]]


def test_the_answer_of_a_signal_is_printed(cli: Cli, probe: str) -> None:
    code, out, err = cli("signal", probe, "echo", "--data", '{"done": true, "seen": [1]}')
    assert (code, json.loads(out), err) == (0, {"done": True, "seen": [1]}, "")
    assert cli("signal", probe, "unknown")[:2] == (0, f"{probe}: unknown is handled\n")
    code, out, _ = cli("signal", probe, "echo", "--data", "2", "--json")
    assert (code, json.loads(out)["type"], json.loads(out)["result"]) == (0, "signal", 2)


@pytest.mark.parametrize("said", ["done", "ok"], ids=["agent", "acp"])
def test_an_answer_that_nothing_was_done_is_exit_code_1(cli: Cli, probe: str, said: str) -> None:
    for form in ((), ("--json",)):
        code, out, _ = cli("signal", probe, "echo", "--data", f'{{"{said}": false, "why": "There is none."}}', *form)
        assert (code, "There is none." in out) == (1, True)


def test_a_signal_that_is_not_handled_in_time_or_never_is_exit_code_1(cli: Cli, probe: str) -> None:
    cli("pause", probe, "--wait", "10")
    code, out, _ = cli("signal", probe, "echo", "--wait", "1")
    assert (code, "not reached in 1 s" in out) == (1, True)
    cli("resume", probe, "--wait", "10")
    code, out, _ = cli("signal", probe, "crash")
    assert (code, f"{probe}: signal " in out) == (1, True)


def test_data_is_json_and_an_engine_is_there(cli: Cli, probe: str) -> None:
    assert cli("signal", probe, "echo", "--data", "{")[0] == 2
    assert cli("signal", "nothing", "echo")[0] == 3

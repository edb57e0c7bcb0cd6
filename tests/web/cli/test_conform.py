"""`enginehouse conform`: what it prints, and its exit status."""

import json
import sys
from pathlib import Path

import pytest

from actors.conformance import CHECKS
from web.cli import main

MUTANT = str(Path(__file__).parents[2] / "actors/conformance/mutant.py")


def conform(capsys: pytest.CaptureFixture[str], *arguments: str, wrong: str = "nothing") -> tuple[int, str, str]:
    code = main(["conform", *arguments, "--", sys.executable, MUTANT, wrong])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_program_that_conforms_is_0_and_one_that_does_not_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = conform(capsys, "--only", "hello", "--only", "run")
    assert code == 0
    assert "ok       hello " in out
    assert out.endswith("2 passed, 0 failed, 0 skipped\n")
    code, out, _ = conform(capsys, "--only", "hello", "--only", "one-end", wrong="one-end")
    assert code == 1
    assert "FAILED   one-end " in out
    assert "It said 2 ends of the run" in out
    assert next(check.advice for check in CHECKS if check.name == "one-end") in out
    assert out.endswith("1 passed, 1 failed, 0 skipped\n")


def test_as_tap(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = conform(capsys, "--tap", "--only", "run", "--only", "cancel", "--only", "one-end", wrong="one-end")
    lines = out.splitlines()
    assert code == 1
    assert lines[:2] == ["TAP version 13", "1..3"]
    assert lines[2].startswith("ok 1 - run: ")
    assert lines[3].startswith("ok 2 - cancel: ")
    assert " # SKIP The run was over too soon" in lines[3]
    assert lines[4].startswith("not ok 3 - one-end: ")
    assert lines[5].startswith("# It said 2 ends")


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = conform(capsys, "--json", "--only", "run")
    found = json.loads(out)
    assert code == 0
    assert found["hello"]["pause"] is True
    assert (found["passed"], found["failed"], found["skipped"]) == (1, 0, 0)
    assert found["checks"][0]["check"] == "run"
    assert found["checks"][0]["outcome"] == "passed"


def test_the_checks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conform", "--list", "--json"]) == 0
    assert [row["check"] for row in json.loads(capsys.readouterr().out)] == [check.name for check in CHECKS]


@pytest.mark.parametrize(
    "arguments, says",
    [
        ([], "give a program"),
        (["--only", "nonsense", "--", "true"], "there is no check 'nonsense'"),
        (["--input", "{", "--", "true"], "must be JSON"),
        (["--", "no-such-program"], "no program 'no-such-program'"),
    ],
)
def test_what_cannot_be_tried_is_2(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    assert main(["conform", *arguments]) == 2
    assert says in capsys.readouterr().err

"""Each check passes with a program that conforms, and fails with one that is wrong in just that."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.conformance import CHECKS, Outcome, Trial, conform
from actors.processes import SpawnFailed

MUTANT = str(Path(__file__).parent / "mutant.py")
SAYS = {
    "hello": "something else before `hello`",
    "run": "did not say `result` or `error`",
    "messages": "a line is not JSON: 'done!'",
    "ids": "it said something about run_",
    "one-end": "It said 2 ends",
    "cancel": "`error` of the run",
    "late-cancel": "another end of the run",
    "unknown": "what was that?",
    "signal": "what was that?",
    "unicode": "UnicodeDecodeError",
    "large": "JSONDecodeError",
    "pieces": "JSONDecodeError",
    "together": "did not say `result` or `error`",
    "stop": "went on for 3 s after `stop`",
    "stop-in-run": "went on for 3 s after `stop`",
    "eof": "went on for 3 s after the end of its standard input",
    "ready": "did not say `ready` within 3 s",
    "heartbeat": "did not say anything within 0.4 s",
    "pause": "did not say `paused` with number 1",
    "pause-in-run": "said `paused`, and went on",
    "pause-again": "did not say `paused` with number 2",
    "cancel-paused": "`error` of the run",
    "resume": "what was that?",
}


def tried(argv: list[str], checks: Any = CHECKS, within_s: float = 20, **inputs: Any) -> list[Outcome]:
    trial = Trial(argv=argv, within_s=within_s, **inputs)
    outcomes: list[Outcome] = []
    trio.run(conform, trial, checks, outcomes.append)
    return outcomes


@pytest.fixture(scope="module")
def mutants() -> dict[str, Outcome]:
    """The outcome of each check with the mutant of its name; all at once, since most of them wait."""
    outcomes: dict[str, Outcome] = {}

    async def one(name: str) -> None:
        trial = Trial(argv=[sys.executable, MUTANT, name], input=None, long_input={"steps": 600}, within_s=3)
        await conform(trial, [check for check in CHECKS if check.name == name], lambda o: outcomes.update({name: o}))

    async def every() -> None:
        async with trio.open_nursery() as nursery:
            for check in CHECKS:
                nursery.start_soon(one, check.name)

    trio.run(every)
    return outcomes


@pytest.mark.parametrize("name", [check.name for check in CHECKS])
def test_a_check_fails_for_a_program_that_is_wrong_in_it(mutants: dict[str, Outcome], name: str) -> None:
    assert mutants[name].outcome == "failed"
    assert SAYS[name] in mutants[name].detail


def test_every_check_passes_for_a_program_that_conforms() -> None:
    outcomes = tried([sys.executable, MUTANT, "nothing"], long_input={"steps": 100})
    assert [(o.check, o.outcome, o.detail) for o in outcomes] == [(check.name, "passed", "") for check in CHECKS]


def test_the_example_in_python_conforms(root: Path) -> None:
    inputs: dict[str, Any] = {"input": {"count": 2}, "long_input": {"count": 300}}
    outcomes = tried([sys.executable, str(root / "examples/jsonl_engine.py")], **inputs)
    assert [o for o in outcomes if o.outcome != "passed"] == []


def test_the_example_in_javascript_conforms(root: Path, program: Callable[[str], str]) -> None:
    inputs: dict[str, Any] = {"input": "one two", "long_input": "word " * 150_000}
    outcomes = tried([program("node"), str(root / "examples/jsonl-engine.mjs")], **inputs)
    assert [o for o in outcomes if o.outcome != "passed"] == []


def test_a_program_that_announces_nothing_is_asked_for_nothing_more(root: Path) -> None:
    inputs: dict[str, Any] = {"input": {"count": 2}, "long_input": {"count": 300}}
    outcomes = tried([sys.executable, str(root / "tests/actors/engines/old_engine.py")], **inputs)
    declared = {check.name for check in CHECKS if check.declared}
    assert {o.check for o in outcomes if o.outcome == "skipped"} == declared
    assert [o for o in outcomes if o.outcome == "failed"] == []


def test_what_cannot_be_told_is_skipped() -> None:
    by_name = {check.name: check for check in CHECKS}
    [outcome] = tried([sys.executable, MUTANT, "nothing"], [by_name["cancel"]])
    assert (outcome.outcome, "--long-input" in outcome.detail) == ("skipped", True)
    slow = 'print(\'{"type":"hello","protocol":1,"heartbeat_s":60}\', flush=True); input()'
    [outcome] = tried([sys.executable, "-c", slow], [by_name["heartbeat"]])
    assert (outcome.outcome, "--timeout 120" in outcome.detail) == ("skipped", True)


def test_another_version_is_named() -> None:
    says = 'print(\'{"type":"hello","protocol":2}\', flush=True); input()'
    outcomes = tried([sys.executable, "-c", says], CHECKS)
    assert (outcomes[0].outcome, "version 2" in outcomes[0].detail) == ("failed", True)
    assert {(o.outcome, o.detail) for o in outcomes[1:]} == {("skipped", "It said no good `hello`; mend that first.")}
    outcomes = tried([sys.executable, "-c", says], CHECKS[1:])
    assert [o.outcome for o in outcomes].count("failed") == 1
    assert "version 2" in outcomes[0].detail


def test_a_line_that_never_ends_fails_the_check_and_is_not_kept() -> None:
    flood = "import os\nwhile True: os.write(1, b'x' * (1 << 20))"
    outcome = tried([sys.executable, "-c", flood], CHECKS[:1], within_s=1)[0]
    assert (outcome.outcome, "longer than 1048576 bytes" in outcome.detail) == ("failed", True)


def test_of_a_program_that_says_no_hello_nothing_else_is_tried() -> None:
    outcomes = tried([sys.executable, "-c", "raise SystemExit('not today')"], CHECKS)
    assert (outcomes[0].outcome, "not today" in outcomes[0].detail) == ("failed", True)
    assert {(o.outcome, o.detail) for o in outcomes[1:]} == {("skipped", "It said no good `hello`; mend that first.")}


def test_a_missing_program_is_no_outcome() -> None:
    with pytest.raises(SpawnFailed, match="no program 'no-such-program'"):
        tried(["no-such-program"])


def test_nothing_of_a_program_is_left() -> None:
    """A child in a session of its own, which the program does not end."""
    script = (
        "import signal, subprocess, sys\n"
        "child = subprocess.Popen(['sleep', '1000'], start_new_session=True, stdout=2)\n"
        "print('pid', child.pid, file=sys.stderr, flush=True)\n"
        "signal.pause()"
    )
    outcome = tried([sys.executable, "-c", script], CHECKS[:1], within_s=2)[0]
    pid = outcome.detail.partition("pid ")[2].split()[0]
    assert not Path(f"/proc/{pid}").exists()

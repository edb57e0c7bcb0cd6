"""Whether a program speaks the language of the `process` kind, asked of the program itself; no house is needed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from web.cli import show, texts
from web.cli.asked import Asked, command
from web.cli.exits import FAILED

if TYPE_CHECKING:
    from actors.conformance import Check, Outcome, Trial

__all__ = ["add"]

Given = Annotated[str | None, typer.Option("--input", help="A run's input, as JSON, that ends soon; null when absent.")]
Long = Annotated[
    str | None,
    typer.Option("--long-input", help="As JSON: one that takes a second or more, and then ends; --input when absent."),
]
Within = Annotated[float, typer.Option("--timeout", min=0.5, help="Seconds that anything may take.")]
Only = Annotated[list[str] | None, typer.Option("--only", help="This check alone; repeatable.")]
MARKS = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}


def add(app: typer.Typer) -> None:
    """Register the command of this file."""
    command(app, "conform", local=True)(conform)


def conform(
    asked: Asked,
    program: Annotated[
        list[str] | None, typer.Argument(help="After --: the program and its arguments.", show_default=False)
    ] = None,
    input: Given = None,
    long_input: Long = None,
    timeout: Within = 10.0,
    only: Only = None,
    tap: Annotated[bool, typer.Option("--tap", help="Print TAP (Test Anything Protocol).")] = False,
    list_checks: Annotated[bool, typer.Option("--list", help="Only list the checks.")] = False,
) -> None:
    """Check a program against the process kind's protocol. Exit code 1 when a check failed, 2 when it cannot start."""
    from actors.conformance import CHECKS, Trial
    from actors.processes import SpawnFailed

    known = {check.name: check for check in CHECKS}
    if list_checks:
        rows = [{"check": check.name, "expects": check.expects, "advice": check.advice} for check in CHECKS]
        asked.table(rows, "check", "expects", empty="")
        return
    if not program:
        raise typer.BadParameter("give a program: enginehouse conform -- ./my-engine --its-option")
    if unknown := [name for name in only or () if name not in known]:
        raise typer.BadParameter(f"there is no check {unknown[0]!r}; --list shows them")
    chosen = [known[name] for name in only] if only else CHECKS
    given = texts.json_of(input, "--input") if input is not None else None
    long = texts.json_of(long_input, "--long-input") if long_input is not None else given
    trial = Trial(argv=program, input=given, long_input=long, within_s=timeout)
    outcomes: list[Outcome] = []

    def tell(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if tap:
            _tap(len(outcomes), outcome, known[outcome.check])
        elif not asked.json:
            _line(outcome, known[outcome.check])

    if tap:
        print(f"TAP version 13\n1..{len(chosen)}")
    try:
        _run(trial, chosen, tell)
    except SpawnFailed as error:
        if tap:
            print(f"Bail out! {show.cell(str(error), wide=True)}")
        show.error(str(error))
        raise typer.Exit(2) from None
    if not tap:
        _sum(asked, trial, outcomes, known)
    if any(outcome.outcome == "failed" for outcome in outcomes):
        raise typer.Exit(FAILED)


def _run(trial: Trial, checks: Sequence[Check], tell: Callable[[Outcome], object]) -> None:
    import trio

    from actors.conformance import conform

    trio.run(conform, trial, checks, tell)


def _line(outcome: Outcome, check: Check) -> None:
    print(f"{MARKS[outcome.outcome]:8} {outcome.check:14} {check.expects}")
    if outcome.detail:
        print(f"{'':23} {show.cell(outcome.detail, wide=True)}")
    if outcome.outcome == "failed":
        print(f"{'':23} {check.advice}")
    sys.stdout.flush()


def _tap(number: int, outcome: Outcome, check: Check) -> None:
    skipped = f" # SKIP {show.cell(outcome.detail, wide=True)}" if outcome.outcome == "skipped" else ""
    print(f"{'not ok' if outcome.outcome == 'failed' else 'ok'} {number} - {outcome.check}: {check.expects}{skipped}")
    if outcome.outcome == "failed":
        print(f"# {show.cell(outcome.detail, wide=True)}\n# {check.advice}")
    sys.stdout.flush()


def _sum(asked: Asked, trial: Trial, outcomes: list[Outcome], known: dict[str, Check]) -> None:
    counts = {name: sum(outcome.outcome == name for outcome in outcomes) for name in MARKS}
    if not asked.json:
        print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
        return
    checks = [
        {
            "check": outcome.check, "outcome": outcome.outcome, "expects": known[outcome.check].expects,
            "detail": outcome.detail, "advice": known[outcome.check].advice, "seconds": round(outcome.seconds, 3),
        }
        for outcome in outcomes
    ]  # fmt: skip
    hello = trial.hello.model_dump(exclude={"id"}) if trial.hello is not None else None
    show.print_json({"program": list(trial.argv), "hello": hello, **counts, "checks": checks})

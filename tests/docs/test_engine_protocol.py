"""docs/engine-protocol.md against the language itself and the checks of it."""

import re
from pathlib import Path

import pytest

from actors.conformance import CHECKS
from actors.engines import jsonl

PAGE = (Path(__file__).parents[2] / "docs/engine-protocol.md").read_text()

OF_BOTH = {"update", "snapshot", "event", "log"}
"""What may be said of a run, or of the engine."""


def rows(section: str) -> list[list[str]]:
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return [re.split(r" *\| *", line) for line in re.findall(r"^\| (`.*)\|$", text, re.MULTILINE)]


def test_what_a_program_says_is_on_the_page_with_its_members() -> None:
    told = {}
    for name, members, *_ in rows("What the program says"):
        told[name.strip("` ")] = set(re.findall(r"`(\w+)`", members))
    known = {}
    for name, model in jsonl.MESSAGES.items():
        own = {field.alias or member for member, field in model.model_fields.items()}
        known[name] = own if name in OF_BOTH or "id" in required(model) else own - {"id"}
    assert told == known


def required(model: type[jsonl.Message]) -> set[str]:
    return {name for name, field in model.model_fields.items() if field.is_required()}


def test_every_check_is_on_the_page() -> None:
    told = [(name.strip("` "), expects.strip()) for name, expects in rows("Does my program conform?")]
    assert told == [(check.name, check.expects) for check in CHECKS]


@pytest.mark.parametrize("limit", ["at most 1 MiB", "at most 256 KiB"])
def test_the_limits_are_those_of_the_code(limit: str) -> None:
    assert limit in PAGE
    assert (jsonl.LINE_BYTES, jsonl.SNAPSHOT_BYTES) == (1 << 20, 256 << 10)

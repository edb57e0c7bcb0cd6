"""docs/kinds.md against the kinds themselves."""

import re
from pathlib import Path
from typing import Any

import pytest

from actors.kinds import BUILT_IN, Kinds

KINDS = Kinds(registered=())


def tables(root: Path, kind: str) -> dict[str, set[str]]:
    """{"config": names, "input": names} of the tables in a kind's section."""
    section = (root / "docs/kinds.md").read_text().partition(f"\n## {kind}\n")[2].partition("\n## ")[0]
    found: dict[str, set[str]] = {"config": set(), "input": set()}
    for head, rows in re.findall(r"^\| (config|input) \|[^\n]*\n\|[-|]+\n((?:\|[^\n]*\n)+)", section, re.MULTILINE):
        for row in rows.splitlines():
            found[head] |= set(re.findall(r"`(\w+)`", row.split("|")[1]))
    return found


def members(schema: dict[str, Any] | None) -> set[str]:
    """The members of the one object that a schema takes, wherever it stands in it."""
    if not schema:
        return set()
    wanted = [schema, *schema.get("anyOf", ())]
    of = [schema["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part for part in wanted]
    return {name for part in of for name in part.get("properties", ())}


@pytest.mark.parametrize("kind", BUILT_IN)
def test_every_member_of_config_and_input_is_on_the_page(root: Path, kind: str) -> None:
    info = KINDS.info(kind)
    assert tables(root, kind) == {"config": members(info.config_schema), "input": members(info.input_schema)}


@pytest.mark.parametrize("kind", BUILT_IN)
def test_how_a_kind_is_paused_and_interrupted_is_on_the_page(root: Path, kind: str) -> None:
    info = KINDS.info(kind)
    others = ", ".join(mode for mode in info.pause_modes if mode != info.default_pause_mode)
    row = f"| `{kind}` | {info.default_pause_mode} | {others} | {info.on_interrupt} |"
    assert row in (root / "docs/kinds.md").read_text()

"""Whose command is where: the table of the command line against the files that it names."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer
from typer.main import get_group

from web.cli.app import GROUPS, OTHER_NAMES, PARTS, Commands


@pytest.mark.parametrize("part", PARTS)
def test_a_file_registers_what_the_table_says(part: str) -> None:
    described = typer.Typer()
    import_module(f"web.cli.{part}").add(described)
    assert tuple(get_group(described).commands) == PARTS[part]


def test_every_file_with_commands_is_in_the_table(root: Path) -> None:
    files = {file.stem for file in (root / "web/cli").glob("*.py") if "@command(" in file.read_text()}
    files |= {file.stem for file in (root / "web/cli").glob("*.py") if "\ndef add(" in file.read_text()}
    assert files == {*PARTS, *(where.partition(".")[0] for where in GROUPS.values())}


def test_every_command_can_be_had_under_its_name() -> None:
    commands = Commands()
    assert len(commands) == len(set(commands))
    assert {name: commands[name].help for name in commands if not commands[name].help} == {}


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_another_name_is_understood_and_not_listed(name: str) -> None:
    commands = Commands()
    named, meant = commands[name], commands[OTHER_NAMES[name]]
    assert ([*getattr(named, "commands", [])], named.help) == ([*getattr(meant, "commands", [])], meant.help)
    assert name not in list(commands)


def test_what_does_not_exist_is_none() -> None:
    assert Commands().get("levitate") is None


def test_a_command_imports_its_own_file_alone() -> None:
    ask = "import sys; from web.cli.app import Commands; Commands()['status']; print(*sorted(sys.modules))"
    said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    others = {f"web.cli.{part}" for part in (*PARTS, "pools", "keys")} - {"web.cli.house"}
    assert not others & {*said}
    assert not {"trio", "pydantic"} & {*said}

"""The systemd units: what they leave open, that they are well formed, and that demo and agents run within them."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.children import CONTROLLER_OF
from supervisor.open import CLOSE_MARGIN_S
from tests.acp.sdk import installed
from web.settings import Server, settings_keys
from web.stop import LATE_S

Program = Callable[[str], str]
UNIT, STRICT = "enginehouse.service", "enginehouse.service.d/strict.conf"
MOST = {UNIT: 3.0, STRICT: 2.0}
# Gives up, of its own process, every mapping that is writable and executable (prctl(2), PR_SET_MDWE), where the kernel
# can (Linux 6.3), and becomes the demo.
DEMO = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "examples.demo"])
"""

# A house whose engine is a coding agent, and a permission that somebody gives it.
AGENT = """
import sys, trio
from protocol.bodies import ReplyBody
from supervisor import Filter, NewEngine, NewRun, open_supervisor

async def main():
    async with open_supervisor() as house:
        config = {"agent": "example", "cwd": sys.argv[1]}
        await house.spawn(NewEngine(kind="acp", id="a", boot_s=60, config=config))
        run, _ = await house.submit("a", NewRun(input="go"))
        async with house.events(Filter(run=run.id, types=("request.opened", "run.completed")), after="0") as events:
            await events.receive()
            [request] = (await house.requests()).items
            await house.reply(request.id, ReplyBody(option="allow"))
            await events.receive()
        print((await house.run(run.id)).result["text"])

trio.run(main)
"""


@pytest.fixture
def units(root: Path, tmp_path: Path) -> Path:
    """A copy, whose program is one that is there."""
    there = tmp_path / "units"
    shutil.copytree(root / "deploy/systemd", there)
    text = (there / UNIT).read_text()
    (there / UNIT).write_text(text.replace("/opt/enginehouse/bin/enginehouse", shutil.which("true") or "true"))
    return there


def only(units: Path, unit: str) -> Path:
    """The unit, without the drop-in or with it."""
    if unit == UNIT:
        shutil.rmtree(units / "enginehouse.service.d")
    return units / UNIT


def analyzed(program: Program, unit: Path, *arguments: str) -> str:
    done = subprocess.run(
        [program("systemd-analyze"), "security", "--offline=true", "--no-pager", *arguments, str(unit)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.parametrize("unit", MOST)
def test_a_unit_is_no_more_exposed_than_was_promised(program: Program, units: Path, unit: str) -> None:
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", analyzed(program, only(units, unit)))
    assert found is not None
    assert float(found[1]) <= MOST[unit]


@pytest.mark.parametrize("unit", MOST)
def test_the_page_says_what_is_lost_and_the_figure(program: Program, units: Path, root: Path, unit: str) -> None:
    page = (root / "docs/deployment.md").read_text().partition(f"### `{unit}`")[2].partition("\n#")[0]
    path = only(units, unit)
    figure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", analyzed(program, path))
    assert figure is not None
    named = {name.replace("\\|", "|") for name in re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)}
    checks = json.loads(analyzed(program, path, "--json=short"))
    lost = {check["name"] for check in checks if check["exposure"] is not None and float(check["exposure"]) > 0}
    assert named == lost
    assert f"**{figure[1]}**" in page


@pytest.mark.parametrize("unit", MOST)
def test_a_unit_is_well_formed(program: Program, units: Path, unit: str) -> None:
    done = subprocess.run(
        [program("systemd-analyze"), "verify", "--man=no", str(only(units, unit))],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def lines(root: Path) -> list[tuple[str, str]]:
    text = (root / "deploy/systemd" / UNIT).read_text()
    found = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return [(name, value) for name, _, value in found]


def test_the_unit_waits_longer_for_the_end_than_the_daemon_takes(root: Path) -> None:
    unit = dict(lines(root))
    assert float(unit["TimeoutStopSec"]) > Server().grace_s + CLOSE_MARGIN_S * 2 + LATE_S
    assert (unit["Type"], unit["NotifyAccess"], unit["KillMode"]) == ("notify", "main", "mixed")
    assert unit["RestartPreventExitStatus"].split() == [str(os.EX_UNAVAILABLE), str(os.EX_CONFIG)]


def test_the_unit_delegates_the_controllers_that_limits_of_trees_need(root: Path) -> None:
    unit = dict(lines(root))
    assert set(unit["Delegate"].split()) == set(CONTROLLER_OF.values())
    assert "ProtectControlGroups" not in unit


def test_what_the_unit_sets_are_settings(root: Path) -> None:
    names = {value.partition("=")[0] for name, value in lines(root) if name == "Environment"} - {"HOME"}
    known = {f"ENGINEHOUSE_{key.upper().replace('.', '__')}" for key in settings_keys()} | {"ENGINEHOUSE_CONFIG"}
    assert names <= known


def test_a_drop_in_changes_nothing_but_the_service(root: Path) -> None:
    parser = configparser.ConfigParser(strict=False)
    parser.read(root / "deploy/systemd" / STRICT)
    assert parser.sections() == ["Service"]


# -- what they allow is enough -----------------------------------------------------------------------------------------
def allowed(program: Program, root: Path, unit: str = STRICT) -> set[str]:
    """The system calls that the unit lets through, by systemd's own sets."""
    shown = subprocess.run(
        [program("systemd-analyze"), "syscall-filter", "--no-pager"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    sets: dict[str, set[str]] = {}
    name = ""
    for line in shown.splitlines():
        if line.startswith("@"):
            sets[name := line.strip()] = set()
        elif name and line.startswith("    ") and "#" not in line:
            sets[name].add(line.strip())

    def calls(of: str) -> set[str]:
        return {call for one in sets[of] for call in (calls(one) if one.startswith("@") else {one})}

    both = lines(root) + [
        ("SystemCallFilter", line.partition("=")[2])
        for line in (root / "deploy/systemd" / STRICT).read_text().splitlines()
        if line.startswith("SystemCallFilter=") and unit == STRICT
    ]
    found: set[str] = set()
    for value in (value for name, value in both if name == "SystemCallFilter"):
        named = {call for word in value.lstrip("~").split() for call in (calls(word) if word[0] == "@" else {word})}
        found = found - named if value.startswith("~") else found | named
    return found


def test_the_demo_runs_without_privileges_and_makes_no_call_that_a_unit_refuses(
    program: Program, root: Path, tmp_path: Path
) -> None:
    said, made = traced(program, root, tmp_path, DEMO)
    assert "All of it happened" in said
    assert made - allowed(program, root) == set()


def test_an_agent_in_javascript_runs_without_privileges_and_makes_no_call_that_the_general_unit_refuses(
    program: Program, root: Path, tmp_path: Path
) -> None:
    said, made = traced(program, root, tmp_path, AGENT, str(installed()))
    assert "successfully" in said
    assert made - allowed(program, root, UNIT) == set()


def traced(program: Program, root: Path, tmp_path: Path, script: str, *arguments: str) -> tuple[str, set[str]]:
    """What it printed, and every system call that it and its children made, without privileges."""
    calls = tmp_path / "calls"
    trace = [program("strace"), "-f", "-qq", "-c", "-U", "name", "-o", str(calls)]
    stripped = [program("setpriv"), "--no-new-privs", "--inh-caps=-all"]
    if os.geteuid() == 0:
        stripped.append("--bounding-set=-all")
    done = subprocess.run(
        [*trace, *stripped, sys.executable, "-c", script, *arguments],
        cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    made = set(re.findall(r"^([a-z0-9_]+) *$", calls.read_text(), re.MULTILINE)) - {"syscall", "name", "total"}
    assert len(made) > 50
    return done.stdout, made

"""The pages for people: their programs run, their links lead somewhere, the files they name are there."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import FENCE, Block, blocks, pages
from web.cli.app import Commands
from web.cli.exits import EXITS

ROOT = Path(__file__).parent.parent.parent
FENCES = {"python", "python daemon", "console", "json", "toml", "text"}
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
SEEN = {
    "README.md": (
        "Python 3",
        r"checking actors/\w+.py.*state +paused.*let me look.*bash.*checking web/\w+/\w+.py.*status +completed",
        "engine.paused.*engine.resumed.*run.completed",
        "build is disposed of",
    ),
    "http-api.md": ('"decision":', "(?i)idempotent-replayed: true", "event: run.completed", '"leaks": ?\\[\\]'),
    "schedules.md": ("^report\nnightly\nweekend\n", "weekend.*run_.*fired +1", "report is disposed of"),
    "network.md": ("nosniff", "misdirected-host", "origin-not-allowed"),
    "identity.md": (
        "ada may log in",
        '"principal": ?"user:ada"',
        "204",
        "unauthenticated",
        '"principal": ?"key:',
        "unauthenticated",
        ": enginehouse",
        "unauthenticated",
        "signs access tokens",
        "sub +key:admin",
    ),
    "engine-protocol.md": ("ok +hello ", "23 passed, 0 failed, 0 skipped"),
    "supervisord.md": (
        "ticker.t0 .*would be made",
        "ticker.t0 .*made",
        "ticker.t0 .*is there",
        "ticker.t0 +process",
        "disposed",
    ),
    "tmux.md": ("demo is in /usr", "tmux -S .*/tmux attach -t =main", "pair is disposed of"),
    "operations.md": ("status +healthy", "engine.started +night", "night is disposed of"),
}
"""What the commands of a page print, in this order."""
PLANNED = {"verify"}
"""Commands that a page names to say that they are not there yet."""
FILE = re.compile(r"`((?:protocol|actors|supervisor|web|docs|examples|tests|bench)/[\w./-]+)`")


@pytest.mark.parametrize("block", blocks(ROOT, "python"), ids=str)
def test_a_program_on_a_page_runs(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile("\n" * (block.line - 1) + block.text, block.page, "exec"), names)


@pytest.mark.parametrize("block", blocks(ROOT, "json"), ids=str)
def test_json_on_a_page_is_json(block: Block) -> None:
    json.loads(block.text)


@pytest.mark.parametrize("block", blocks(ROOT, "toml"), ids=str)
def test_toml_on_a_page_is_toml(block: Block) -> None:
    tomllib.loads(block.text)


@pytest.mark.parametrize("page", pages(ROOT), ids=lambda page: page.name)
def test_every_fence_says_what_it_is(page: Path) -> None:
    inside = False
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            assert inside or line[3:] in FENCES, line
            inside = not inside
    assert not inside


@pytest.mark.parametrize("page", pages(ROOT), ids=lambda page: page.name)
def test_every_link_to_a_page_of_ours_leads_there(page: Path) -> None:
    targets = [link for link in LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in targets if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", pages(ROOT), ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    assert [path for path in FILE.findall(page.read_text()) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("block", blocks(ROOT, "python", "daemon"), ids=str)
def test_a_program_that_needs_a_daemon_runs(block: Block, served: Mapping[str, str], tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", block.text], env=dict(served), cwd=tmp_path, check=True, timeout=60)


@pytest.mark.parametrize("page", sorted({block.page for block in blocks(ROOT, "console")}))
def test_the_commands_of_a_page_do_what_they_say(
    page: str, served: Mapping[str, str], program: Callable[[str], str]
) -> None:
    program("curl")
    lines = [line for block in blocks(ROOT, "console") if block.page == page for line in block.text.splitlines()]
    script = "set -e -o pipefail\n" + "\n".join(line.removeprefix("$ ") for line in lines)
    done = subprocess.run(
        [program("bash"), "-c", script], env=dict(served), cwd=ROOT, capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for wanted in SEEN.get(page, ()):
        assert re.search(wanted, done.stdout, re.DOTALL), done.stdout


def test_the_table_of_exit_codes_is_the_one_of_the_command_line() -> None:
    table = (ROOT / "docs/operations.md").read_text().partition("## Exit codes")[2].partition("##")[0]
    assert {int(code) for code in re.findall(r"^\| ([0-9]+) \|", table, re.MULTILINE)} == set(EXITS)


def said(page: Path) -> list[str]:
    """The command lines of ours that a page has, in its blocks and in its sentences."""
    text = page.read_text()
    fenced = "\n".join(match[2] for match in FENCE.finditer(text) if match[1] in ("console", "text"))
    lines = [line.removeprefix("$ ").removeprefix(".venv/bin/") for line in fenced.replace("\\\n", " ").splitlines()]
    sentences = re.findall(r"`(enginehouse [^`]+)`", FENCE.sub("", text))
    return [" ".join(line.split()) for line in (*lines, *sentences) if line.startswith("enginehouse ")]


@pytest.mark.parametrize("page", [*pages(ROOT), *sorted((ROOT / "examples").glob("*/README.md"))], ids=str)
def test_every_command_line_names_a_command_and_options_that_there_are(page: Path) -> None:
    commands = Commands()
    for line in said(page):
        words = re.split(r" -- | [|;#&>]|\$\(", line)[0].split()[1:]
        command = commands.get(words[0])
        assert command or words[0] in PLANNED or not re.fullmatch(r"[a-z-]+", words[0]), line
        for word in words[1:]:
            command = getattr(command, "commands", {}).get(word, command)
        known = {option for parameter in getattr(command, "params", ()) for option in parameter.opts}
        known |= {option for parameter in getattr(command, "params", ()) for option in parameter.secondary_opts}
        assert {word for word in words if re.fullmatch(r"--[a-z-]+", word)} <= {*known, "--help", "--version"}, line

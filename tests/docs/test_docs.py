"""The pages for people: their programs run, their links lead somewhere, the files they name are there."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.docs.blocks import Block, blocks, pages

ROOT = Path(__file__).parent.parent.parent
FENCES = {"python", "python daemon", "console", "json", "toml", "text"}
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
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

"""The fenced blocks of a Markdown page, with what stands behind their fence."""

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """`words`: after the fence, such as `python daemon`; `line`: of its first line of text, in its page."""

    page: str
    line: int
    words: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages(root: Path) -> list[Path]:
    return [root / "README.md", root / "CHANGELOG.md", *sorted((root / "docs").glob("*.md"))]


def blocks(root: Path, *words: str) -> list[Block]:
    """The blocks of every page whose fence says exactly this."""
    found = []
    for page in pages(root):
        text = page.read_text()
        for match in FENCE.finditer(text):
            if tuple(match[1].split()) == words:
                line = text.count("\n", 0, match.start()) + 2
                found.append(Block(page.name, line, words, match[2]))
    return found

"""Issues: Markdown files in a folder, one each. The first heading is the title, a line `status: done` closes it."""

from __future__ import annotations

import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

__all__ = ["NAME", "Issue", "close", "next_open", "read"]

NAME = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$"
"""Of a file, without `.md`: it becomes part of a branch's name and of a folder's."""

LONGEST_BYTES = 64 * 1024
STATUS = re.compile(r"^status:[ \t]*(\w+)[ \t]*$", re.MULTILINE | re.IGNORECASE)
TITLE = re.compile(r"^#[ \t]+(\S.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Issue:
    name: str
    title: str
    text: str
    status: str


def read(folder: str, name: str) -> Issue:
    """Reads the disk. Raises ValueError with a sentence for what is no issue."""
    path = Path(folder, f"{name}.md")
    try:
        # Opened first: what is no file (a pipe that nobody writes to) could be waited for without end.
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
            data = file.read(LONGEST_BYTES + 1) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else None
        if data is None or len(data) > LONGEST_BYTES:
            raise ValueError(f"{path.name} is no file, or has more than {LONGEST_BYTES} bytes")
        text = data.decode()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError(f"{path.name} is a link") from None
        raise ValueError(f"{path.name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path.name} is not text in UTF-8") from None
    title = TITLE.search(text)
    if title is None:
        raise ValueError(f"{path.name} has no heading: its first `# ` line is its title")
    status = STATUS.search(text)
    return Issue(name, title[1].strip()[:200], text, status[1].lower() if status else "open")


def next_open(folder: str) -> Issue | None:
    """The first open one by name; files that are no issues are passed over. Reads the disk."""
    for path in sorted(Path(folder).glob("*.md")):
        if re.fullmatch(NAME, path.stem, re.ASCII) is None:
            continue
        try:
            issue = read(folder, path.stem)
        except ValueError:
            continue
        if issue.status == "open":
            return issue
    return None


def close(folder: str, name: str, status: str, report: str) -> None:
    """Set its status and append a report. Whoever reads meanwhile sees the old file or the new one."""
    path = Path(folder, f"{name}.md")
    text = path.read_text(encoding="utf-8")
    line = f"status: {status}"
    if STATUS.search(text):
        text = STATUS.sub(line, text, count=1)
    else:
        text = TITLE.sub(lambda found: f"{found[0]}\n\n{line}", text, count=1)
    made = path.with_name(f".{path.name}.new")
    made.write_text(f"{text.rstrip()}\n\n## Report\n\n{report.strip()}\n", encoding="utf-8")
    os.replace(made, path)  # noqa: PTH105 - as os.replace is what POSIX promises to be atomic

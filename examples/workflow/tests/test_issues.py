"""Issues in Markdown: what is one, which is next, and how one is closed."""

import os
from pathlib import Path

import pytest
from enginehouse_workflow.issues import LONGEST_BYTES, Issue, close, next_open, read


def test_the_next_open_issue_is_the_first_by_name(tmp_path: Path) -> None:
    for name, text in {
        "00 bad name": "# Not taken", "01-no-title": "text", "02-done": "# Done\nStatus: Done\n",
        "03-this": "# This one #1\n", "04-that": "# That\n\nstatus: open\n",
    }.items():  # fmt: skip
        (tmp_path / f"{name}.md").write_text(text)
    assert next_open(str(tmp_path)) == Issue("03-this", "This one #1", "# This one #1\n", "open")
    close(str(tmp_path), "03-this", "done", "It went well.\n")
    assert (tmp_path / "03-this.md").read_text() == "# This one #1\n\nstatus: done\n\n## Report\n\nIt went well.\n"
    close(str(tmp_path), "04-that", "skipped", "No.")
    assert (tmp_path / "04-that.md").read_text() == "# That\n\nstatus: skipped\n\n## Report\n\nNo.\n"
    assert next_open(str(tmp_path)) is None
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".md") == []


@pytest.mark.parametrize(
    "data, why",
    [
        (b"no heading", "no heading"),
        (b"# \xff", "not text"),
        (b"# x" + b"y" * LONGEST_BYTES, "more than"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_issue_is_told(data: bytes | None, why: str, tmp_path: Path) -> None:
    if data is not None:
        (tmp_path / "x.md").write_bytes(data)
    with pytest.raises(ValueError, match=why):
        read(str(tmp_path), "x")


def test_a_pipe_is_no_issue(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.md")
    (tmp_path / "y.md").mkdir()
    for name in ("x", "y"):
        with pytest.raises(ValueError, match=r"no file|a directory"):
            read(str(tmp_path), name)
    assert next_open(str(tmp_path)) is None


def test_a_link_is_no_issue(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("# Real")
    (tmp_path / "x.md").symlink_to(tmp_path / "real.txt")
    with pytest.raises(ValueError, match="link"):
        read(str(tmp_path), "x")

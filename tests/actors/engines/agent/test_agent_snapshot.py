"""Snapshots of a directory, and the way back."""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from actors.engines.agent.snapshot import Contents, Item, TooLarge, go_back, take
from actors.removal import remove


class Folder:
    """A directory, its contents, and the time of the last look."""

    def __init__(self, tmp_path: Path) -> None:
        self.path = tmp_path / "work"
        self.path.mkdir()
        self.contents = Contents(tmp_path / "contents")
        self.taken_ns = 0

    def take(self, before: Sequence[Item] = (), **more: object) -> list[Item]:
        root = os.open(self.path, os.O_RDONLY)
        began = time.time_ns()
        most = {"most_files": 1000, "most_bytes": 1 << 20, **more}
        items, _ = take(root, self.contents, before=before, before_ns=self.taken_ns, **most)  # type: ignore[arg-type]
        os.close(root)
        self.taken_ns = began
        return items

    def back(self, items: Sequence[Item], **more: Sequence[str]) -> int:
        root = os.open(self.path, os.O_RDONLY)
        try:
            return go_back(root, self.contents, items, taken_ns=self.taken_ns, **more)
        finally:
            os.close(root)

    def look(self) -> dict[str, object]:
        """All there is, but for `.git`."""
        found: dict[str, object] = {}
        for path in sorted(self.path.rglob("*")):
            name = str(path.relative_to(self.path))
            if ".git" in path.parts:
                continue
            if path.is_symlink():
                found[name] = ("link", str(path.readlink()))
            elif path.is_dir():
                found[name] = ("folder", path.stat().st_mode)
            elif path.is_file():
                found[name] = ("file", path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns)
        return found


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    found = Folder(tmp_path)
    (found.path / "a").mkdir()
    (found.path / "a/one.txt").write_text("one")
    (found.path / "a/two").write_bytes(b"\0\xff" * 100_000)
    (found.path / "script").write_text("#!/bin/sh\n")
    (found.path / "script").chmod(0o755)
    (found.path / "empty").mkdir(mode=0o750)
    (found.path / "link").symlink_to("/nowhere")
    (found.path / ".git").mkdir()
    (found.path / ".git/HEAD").write_text("ref: main")
    return found


def test_everything_is_as_it_was(folder: Folder) -> None:
    before, items = folder.look(), folder.take()
    (folder.path / "a/one.txt").write_text("changed")
    (folder.path / "a/two").unlink()
    (folder.path / "script").chmod(0o644)
    (folder.path / "empty").rmdir()
    (folder.path / "empty").write_text("now a file")
    (folder.path / "link").unlink()
    (folder.path / "link").mkdir()
    (folder.path / "link/deep").mkdir()
    (folder.path / "new").mkdir()
    (folder.path / "new/file").write_text("new")
    (folder.path / ".git/HEAD").write_text("ref: other")
    assert folder.back(items) == 10
    assert folder.look() == before
    assert (folder.path / ".git/HEAD").read_text() == "ref: other"
    assert folder.back(items) <= 4  # what was written anew cannot be told from what changed


def test_what_has_not_changed_is_not_read_again(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.engines.agent.snapshot.RACY_NS", -(10**18))
    items = folder.take()
    kept: list[int] = []

    def keep(*_: object) -> str:
        kept.append(1)
        return "0" * 64

    monkeypatch.setattr(Contents, "keep", keep)
    assert folder.take(items) == items
    assert kept == []
    (folder.path / "a/one.txt").write_text("eno")
    folder.take(items)
    assert kept == [1]


def test_a_file_that_changed_a_moment_ago_is_read_again(folder: Folder) -> None:
    items = folder.take()
    file = folder.path / "a/one.txt"
    looked = file.stat()
    with file.open("r+") as same:  # the same inode, size and time
        same.write("eno")
    os.utime(file, ns=(looked.st_mtime_ns, looked.st_mtime_ns))
    again = {item.path: item for item in folder.take(items)}
    assert again["a/one.txt"].sha256 != {item.path: item for item in items}["a/one.txt"].sha256


def test_equal_contents_are_kept_once_and_swept_when_nobody_needs_them(folder: Folder, tmp_path: Path) -> None:
    (folder.path / "a/copy").write_text("one")
    items = folder.take()
    files = [path for path in (tmp_path / "contents").rglob("*") if path.is_file()]
    assert len(files) == len({item.sha256 for item in items if item.what == "f"}) == 3
    assert all(path.stat().st_nlink == 1 for path in files)
    folder.contents.sweep([])
    assert [path for path in (tmp_path / "contents").rglob("*") if path.is_file()] == []


def test_what_is_excluded_is_neither_kept_nor_touched(folder: Folder) -> None:
    (folder.path / "node_modules").mkdir()
    (folder.path / "node_modules/x").write_text("before")
    items = folder.take(excluded=["node_modules", "*.log"])
    assert not any("node_modules" in item.path for item in items)
    (folder.path / "node_modules/x").write_text("after")
    (folder.path / "new").mkdir()
    (folder.path / "new/a.log").write_text("log")
    (folder.path / "new/b.txt").write_text("text")
    folder.back(items, excluded=["node_modules", "*.log"])
    assert (folder.path / "node_modules/x").read_text() == "after"
    assert [path.name for path in (folder.path / "new").iterdir()] == ["a.log"]


def test_pipes_are_left_alone(folder: Folder) -> None:
    os.mkfifo(folder.path / "a/pipe")
    items = folder.take()
    folder.back(items)
    assert (folder.path / "a/pipe").is_fifo()


def test_too_much_is_refused(folder: Folder) -> None:
    with pytest.raises(TooLarge, match="more than 3 files"):
        folder.take(most_files=3)
    with pytest.raises(TooLarge, match="more than 1000 bytes"):
        folder.take(most_bytes=1000)


def test_damaged_or_lost_contents_change_nothing_else(folder: Folder) -> None:
    items = folder.take()
    sha256 = {item.path: item.sha256 for item in items}["a/one.txt"]
    (folder.path / "a/one.txt").write_text("changed")
    (folder.path / "b").write_text("new")
    kept = folder.contents.path(sha256)
    kept.write_text("eno")
    with pytest.raises(OSError, match="damaged"):
        folder.back(items)
    assert (folder.path / "a/one.txt").read_text() == "changed"
    kept.unlink()
    (folder.path / "c").write_text("new")
    with pytest.raises(FileNotFoundError, match="lost a content"):
        folder.back(items)
    assert (folder.path / "c").exists()
    assert sorted(path.name for path in (folder.path / "a").iterdir()) == ["one.txt", "two"]


def test_no_link_leads_the_way_back_out(folder: Folder, tmp_path: Path) -> None:
    items = folder.take()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/one.txt").write_text("theirs")
    for name in ("one.txt", "two"):
        (folder.path / "a" / name).unlink()
    (folder.path / "a").rmdir()
    (folder.path / "a").symlink_to(tmp_path / "outside")
    folder.back(items)
    assert not (folder.path / "a").is_symlink()
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["one.txt"]
    assert (tmp_path / "outside/one.txt").read_text() == "theirs"


def dig(above: int, depth: int) -> None:
    for _ in range(depth):
        os.mkdir("d", dir_fd=above)
        deeper = os.open("d", os.O_RDONLY, dir_fd=above)
        os.close(above)
        above = deeper
    os.close(above)


def test_directories_within_each_other_have_a_bound(folder: Folder) -> None:
    dig(os.open(folder.path, os.O_RDONLY), 300)
    with pytest.raises(TooLarge, match="more than 200 directories within each other"):
        folder.take(most_files=10**6)


def test_so_have_those_that_were_made_since(folder: Folder) -> None:
    items = folder.take()
    dig(os.open(folder.path, os.O_RDONLY), 3000)
    with pytest.raises(OSError, match="more than 200 directories within each other, to be removed by hand"):
        folder.back(items)
    remove(folder.path)  # too deep for pytest


def test_a_pattern_with_a_slash_before_it_is_of_the_whole_path_alone(folder: Folder) -> None:
    (folder.path / "script.d").mkdir()
    (folder.path / "script.d/script").write_text("")
    paths = [item.path for item in folder.take(excluded=["/script"])]
    assert "script" not in paths
    assert "script.d/script" in paths

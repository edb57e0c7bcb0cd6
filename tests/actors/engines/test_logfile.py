"""Log files, alone: they rotate between lines, a reader loses nothing that is kept, a disk that fails harms nobody."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.children import ChildPolicy, Outside
from actors.engine import CannotStart
from actors.engines.logfile import LogFile, Rotating

ANYWHERE = ChildPolicy()


@pytest.fixture
def told() -> list[str]:
    return []


def opened(path: Path, told: list[str] | None = None, **more: Any) -> Rotating:
    lost = [] if told is None else told
    return LogFile(path=str(path), **more).opened(path.parent, "stdout", ANYWHERE, lost.append)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def read(path: Path, after: str | None, limit: int = 1 << 16) -> tuple[str, str, bool]:
    page = LogFile(path=str(path)).read(path.parent, "stdout", ANYWHERE, after, limit)
    return page.text, page.next_after, page.missed


def test_a_file_that_is_full_becomes_the_newest_backup(tmp_path: Path) -> None:
    log = opened(tmp_path / "log", max_bytes=8, backups=2)
    for line in (b"one\n", b"two\n", b"three\n", b"four\n", b"five\n", b"six\n"):
        log.write(line)
    log.close()
    assert contents(tmp_path) == {"log": b"six\n", "log.1": b"five\n", "log.2": b"four\n"}


def test_files_are_cut_between_lines_where_that_is_possible(tmp_path: Path) -> None:
    log = opened(tmp_path / "log", max_bytes=8, backups=9)
    log.write(b"a\nb\nc\nlonger than one file\nd\n")
    log.close()
    kept = list(contents(tmp_path).values())
    assert b"".join([*kept[:0:-1], kept[0]]) == b"a\nb\nc\nlonger than one file\nd\n"
    assert kept[-1] == b"a\nb\nc\n"
    assert all(len(part) <= 8 for part in kept)


def test_without_backups_it_begins_anew_and_without_a_size_it_grows(tmp_path: Path) -> None:
    log = opened(tmp_path / "log", max_bytes=4, backups=0)
    log.write(b"one\ntwo\n")
    log.close()
    assert contents(tmp_path) == {"log": b"two\n"}
    log = opened(tmp_path / "log", max_bytes=0)
    log.write(b"x" * 100_000)
    log.close()
    assert len(contents(tmp_path)["log"]) == 100_004


def test_it_goes_on_where_it_was_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    for word in (b"one\n", b"two\n"):
        log = opened(tmp_path / "log")
        log.write(word)
        log.close()
    assert contents(tmp_path) == {"log": b"one\ntwo\n"}
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_reader_follows_over_rotations(tmp_path: Path) -> None:
    log = opened(tmp_path / "log", max_bytes=8, backups=9)
    log.write(b"one\n")
    text, place, _ = read(tmp_path / "log", "0")
    assert text == "one\n"
    log.write(b"two\nthree\nfour\n")
    assert read(tmp_path / "log", place)[0] == "two\nthree\nfour\n"
    log.write(b"five\n")
    text, place, missed = read(tmp_path / "log", place)
    assert (text, missed) == ("two\nthree\nfour\nfive\n", False)
    assert read(tmp_path / "log", place)[0] == ""
    log.close()


def test_a_reader_that_is_too_late_is_told(tmp_path: Path) -> None:
    log = opened(tmp_path / "log", max_bytes=4, backups=1)
    log.write(b"one\n")
    _, place, _ = read(tmp_path / "log", "0")
    os.link(tmp_path / "log", tmp_path / "kept")  # so that its number is not given to another
    log.write(b"two\nsix\nten\n")
    log.close()
    text, _, missed = read(tmp_path / "log", place)
    assert (text, missed) == ("six\nten\n", True)


def test_without_a_place_the_last_of_it_is_shown(tmp_path: Path) -> None:
    log = opened(tmp_path / "log")
    log.write(b"one\ntwo\n")
    text, place, _ = read(tmp_path / "log", None, limit=4)
    assert text == "two\n"
    log.write(b"six\n")
    assert read(tmp_path / "log", place)[0] == "six\n"
    log.close()


@given(text=st.text(max_size=40), limit=st.integers(4, 9))
def test_no_character_is_cut_by_a_page(tmp_path_factory: pytest.TempPathFactory, text: str, limit: int) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_bytes(text.encode())
    found, place = "", "0"
    while True:
        piece, place, _ = read(path, place, limit)
        if not piece:
            break
        found += piece
    assert found == text


def test_what_is_no_place_is_refused_and_what_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path / "log", None) == ("", "0", False)
    (tmp_path / "log").touch()
    for place in ("x", "-1.0", "1", "1.2.3", ""):
        with pytest.raises(ValueError, match="no place in a log"):
            read(tmp_path / "log", place)


def test_a_disk_that_fails_costs_lines_is_told_once_and_is_tried_again(tmp_path: Path, told: list[str]) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    log = opened(folder / "log", told, max_bytes=4, backups=1)
    log.write(b"one\n")
    folder.rename(tmp_path / "moved")
    (tmp_path / "moved" / "log.1").mkdir()  # nothing can be renamed there
    log.write(b"two\n")
    log.write(b"six\n")
    assert len(told) == 1
    assert "could not be written" in told[0]
    (tmp_path / "moved" / "log.1").rmdir()
    log.write(b"ten\n")
    log.close()
    assert contents(tmp_path / "moved")["log"] == b"ten\n"


@pytest.fixture
def traps(tmp_path: Path) -> Path:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize("name", ["link", "pipe", "folder", "nowhere/log"])
def test_what_is_no_file_is_not_written(traps: Path, name: str) -> None:
    with pytest.raises(CannotStart, match="cannot be written"):
        opened(traps / name)


def test_only_beneath_the_roots_and_never_in_the_houses_own_folder(tmp_path: Path) -> None:
    for name in ("root", "state", "root/inside"):
        (tmp_path / name).mkdir()
    (tmp_path / "root/link").symlink_to(tmp_path / "state")
    policy = ChildPolicy(roots=(str(tmp_path / "root"),), private=(str(tmp_path / "state"),))
    LogFile(path=str(tmp_path / "root/inside/log")).check(policy)
    for name in ("state/log", "log", "root/link/log"):
        with pytest.raises(Outside):
            LogFile(path=str(tmp_path / name)).check(policy)
    (tmp_path / "alias").symlink_to(tmp_path / "state")
    with pytest.raises(Outside, match="the house's own"):
        LogFile(path=str(tmp_path / "alias/log")).check(ChildPolicy(private=(str(tmp_path / "state"),)))

"""The daemon's log: one object per line, nothing that could repaint a terminal, and a size."""

import errno
import io
import json
import logging
import os
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio.testing

from web.logs import HotLog, LogFile, opened_log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_is_one_object_with_time_level_and_what_was_bound(tmp_path: Path) -> None:
    with opened_log(tmp_path / "logs", "info") as file:
        structlog.get_logger("x").info("hello\nworld", path=tmp_path, n=1)
        with structlog.contextvars.bound_contextvars(engine="a"):
            structlog.get_logger("x").warning("later")
    first, second = lines(file.path)
    assert (first["event"], first["level"], first["n"], first["path"]) == ("hello\nworld", "info", 1, str(tmp_path))
    assert first["timestamp"].endswith("Z")
    assert second["engine"] == "a"
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_what_is_below_the_level_is_not_written(tmp_path: Path) -> None:
    with opened_log(tmp_path, "warning") as file:
        structlog.get_logger().info("no")
        structlog.get_logger().error("yes")
    assert [line["event"] for line in lines(file.path)] == ["yes"]


def test_libraries_and_exceptions_are_in_the_same_log(tmp_path: Path) -> None:
    with opened_log(tmp_path, "info") as file:
        logging.getLogger("somebody").warning("careful %s", "now")
        try:
            raise ValueError("inside")
        except ValueError:
            structlog.get_logger().exception("failed")
    library, failed = lines(file.path)
    assert (library["event"], library["source"]) == ("careful now", "somebody")
    assert "ValueError: inside" in failed["exception"]


def test_a_terminal_gets_readable_lines_without_control_characters(tmp_path: Path) -> None:
    screen = Terminal()
    with opened_log(tmp_path, "info", screen=screen):
        structlog.get_logger().info("ready", url="http://x", text="\x1b[2Jgone")
    line = screen.getvalue()
    assert "info    ready url=http://x text='\\x1b[2Jgone'" in line
    assert "\x1b" not in line


def test_what_is_no_terminal_gets_nothing(tmp_path: Path) -> None:
    screen = io.StringIO()
    with opened_log(tmp_path, "info", screen=screen):
        structlog.get_logger().info("ready")
    assert screen.getvalue() == ""


def test_the_file_begins_anew_when_it_is_full_and_some_old_ones_are_kept(tmp_path: Path) -> None:
    file = LogFile(tmp_path, limit_bytes=100)
    for n in range(70):
        file.write(b"%09d\n" % n)
    file.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["enginehouse.jsonl", *(f"enginehouse.jsonl.{age}" for age in range(1, 5))]
    assert (tmp_path / "enginehouse.jsonl.1").read_bytes().startswith(b"000000050")
    assert all(path.stat().st_size <= 110 for path in tmp_path.iterdir())


def test_threads_that_write_while_the_file_begins_anew_do_not_fail(tmp_path: Path) -> None:
    file = LogFile(tmp_path, limit_bytes=100)

    def write() -> None:
        for n in range(1000):
            file.write(b"%09d\n" % n)

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(write) for _ in range(4)]:
            done.result()
    file.close()
    assert all(path.stat().st_size == 100 for path in tmp_path.iterdir() if path != file.path)


def test_a_line_that_a_full_disk_tore_spoils_no_other(tmp_path: Path) -> None:
    file = LogFile(tmp_path)
    file.write(b'{"n": 1}\n')
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (14, hard))  # there a write(2) ends short, and the next one fails
    try:
        file.write(b'{"n": 2}\n')
        file.write(b'{"n": 3}\n')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    file.write(b'{"n": 4}\n')
    file.close()
    assert file.path.read_bytes().splitlines() == [b'{"n": 1}', b'{"n":', b'{"n": 4}']


def test_a_hot_log_follows_each_configuration(tmp_path: Path) -> None:
    hot = HotLog("hot")
    with opened_log(tmp_path / "a", "warning") as first:
        hot().info("no")
        hot().warning("one")
    with opened_log(tmp_path / "b", "info") as second:
        hot().info("two")
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
        hot().info("no")
        assert hot() is hot()
    assert [line["event"] for line in lines(first.path)] == ["one"]
    assert [line["event"] for line in lines(second.path)] == ["two"]


async def test_what_is_written_often_goes_out_together_at_the_end_of_the_turn(tmp_path: Path) -> None:
    with opened_log(tmp_path, "info") as file:
        often = HotLog("enginehouse.access")
        for number in range(3):
            often().info("request", number=number)
        structlog.get_logger("another").info("at once")
        assert [line["event"] for line in lines(file.path)] == ["at once"]
        await trio.testing.wait_all_tasks_blocked()
        assert [line.get("number") for line in lines(file.path)] == [None, 0, 1, 2]
        often().info("last words")
    assert lines(file.path)[-1]["event"] == "last words"


def test_outside_of_trio_nothing_is_held(tmp_path: Path) -> None:
    with opened_log(tmp_path, "info") as file:
        HotLog("enginehouse.access")().info("request")
        assert [line["event"] for line in lines(file.path)] == ["request"]


def test_a_log_that_cannot_be_turned_is_written_on_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = LogFile(tmp_path, limit_bytes=10)
    file.write(b"the first line\n")

    def full(*_: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as without_descriptors:
        without_descriptors.setattr(os, "open", full)
        for n in range(3):
            file.write(b"%d\n" % n)
    file.write(b"the last\n")
    assert (tmp_path / "enginehouse.jsonl.1").read_bytes() == b"the first line\n0\n1\n2\n"
    assert file.path.read_bytes() == b"the last\n"
    file.close()

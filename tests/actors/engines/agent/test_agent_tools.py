"""The tools themselves, as a model uses them."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from actors.engines.agent import files
from tests.actors.engines.agent.conftest import ALLOWED
from tests.models.script import Call, Say


async def results(agents: Any, *calls: Call, **config: Any) -> list[str]:
    agents.endpoint.reply(Say(*calls), Say("done"))
    engine = await agents.spawn(permissions=ALLOWED, **config)
    run = await agents.run(engine)
    assert run.status == "completed", run.error
    found: list[str] = agents.results
    return found


async def test_read_shows_parts_and_lists_directories(agents: Any) -> None:
    (agents.place / "long.txt").write_text("".join(f"line {n}\n" for n in range(1, 5001)))
    (agents.place / "sub").mkdir()
    part, whole, names, absolute = await results(
        agents,
        Call("read", {"path": "long.txt", "from_line": 3, "lines": 2}),
        Call("read", {"path": "long.txt"}),
        Call("read", {"path": "."}),
        Call("read", {"path": str(agents.place / "sub")}),
    )
    assert part == "line 3\nline 4\n\n[4996 more lines, from line 5 on]"
    assert whole.endswith("[3000 more lines, from line 2001 on]")
    assert names == "long.txt\nsub/"
    assert absolute == ""


async def test_what_is_long_is_cut_in_the_middle_and_says_so(agents: Any) -> None:
    (agents.place / "long.txt").write_text("a" * 100_000 + "end")
    (text,) = await results(agents, Call("read", {"path": "long.txt"}))
    assert len(text) == 40_000 or len(text) == 39_999
    assert text.startswith("aaa")
    assert "\n[cut]\n" in text
    assert text.endswith("aend")


async def test_nothing_outside_is_read_or_written_and_no_link_is_followed(agents: Any, tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("secret")
    (agents.place / "link").symlink_to(tmp_path / "outside.txt")
    (agents.place / "way").symlink_to(tmp_path)
    os.mkfifo(agents.place / "pipe")
    (agents.place / "binary").write_bytes(b"a\0b")
    (agents.place / "latin").write_bytes(b"\xff\xfe\xfd")
    got = await results(
        agents,
        Call("read", {"path": "../outside.txt"}),
        Call("read", {"path": str(tmp_path / "outside.txt")}),
        Call("read", {"path": "link"}),
        Call("read", {"path": "way/outside.txt"}),
        Call("write", {"path": "way/x", "text": "x"}),
        Call("write", {"path": "link", "text": "x"}),
        Call("write", {"path": "../x", "text": "x"}),
        Call("read", {"path": "pipe"}),
        Call("read", {"path": "binary"}),
        Call("edit", {"path": "latin", "old": "a", "new": "b"}),
        Call("read", {"path": "none"}),
        Call("read", {"path": "none/deeper"}),
        Call("search", {"pattern": "secret"}),
    )
    outside, link, nothing = "is outside of", "links are not followed", "Nothing was found."
    for text, wanted in zip(
        got,
        [outside, outside, link, link, link, link, outside, "is no file", "is binary", "is binary", "No such file",
         "No such file", nothing],
        strict=True,
    ):  # fmt: skip
        assert wanted in text
    assert (tmp_path / "outside.txt").read_text() == "secret"
    assert not (tmp_path / "x").exists()


async def test_edit_replaces_what_stands_there_once(agents: Any) -> None:
    (agents.place / "a.txt").write_text("one two two\r\n")
    (agents.place / "a.txt").chmod(0o755)
    done, twice, never, same = await results(
        agents,
        Call("edit", {"path": "a.txt", "old": "one", "new": "1"}),
        Call("edit", {"path": "a.txt", "old": "two", "new": "2"}),
        Call("edit", {"path": "a.txt", "old": "three", "new": "3"}),
        Call("edit", {"path": "b.txt", "old": "three", "new": "3"}),
    )
    assert done == "a.txt was changed: 11 bytes."
    assert twice == "Nothing was changed in a.txt: `old` stands in it 2 times."
    assert never == "Nothing was changed in a.txt: `old` does not stand in it."
    assert same == "There is no file b.txt."
    assert (agents.place / "a.txt").read_bytes() == b"1 two two\r\n"
    assert (agents.place / "a.txt").stat().st_mode & 0o777 == 0o755


async def test_write_makes_directories_and_leaves_hard_links_alone(agents: Any, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("theirs")
    os.link(tmp_path / "other", agents.place / "linked")
    await results(
        agents,
        Call("write", {"path": "a/b/c.txt", "text": "deep"}),
        Call("write", {"path": "linked", "text": "ours"}),
    )
    assert (agents.place / "a/b/c.txt").read_text() == "deep"
    assert (tmp_path / "other").read_text() == "theirs"
    assert sorted(path.name for path in agents.place.iterdir()) == ["a", "linked"]


async def test_search_finds_lines_and_names(agents: Any) -> None:
    (agents.place / "src" / ".git").mkdir(parents=True)
    (agents.place / "src" / ".git" / "a.py").write_text("needle")
    (agents.place / "src" / "a.py").write_text("hay\nneedle 1\n")
    (agents.place / "b.md").write_text("needle 2")
    (agents.place / "binary").write_bytes(b"needle\0")
    lines, python, names, nested, bad = await results(
        agents,
        Call("search", {"pattern": r"needle \d"}),
        Call("search", {"pattern": "needle", "files": "*.py"}),
        Call("search", {"files": "*.py"}),
        Call("search", {"files": "src/**/*.py"}),
        Call("search", {"pattern": "("}),
    )
    assert lines == "b.md:1: needle 2\nsrc/a.py:2: needle 1\n"
    assert python == "src/a.py:2: needle 1\n"
    assert names == nested == "src/a.py\n"
    assert "is no regular expression" in bad


async def test_a_pattern_that_takes_for_ever_takes_no_more_than_its_process(
    agents: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.engines.agent.tools.look.SEARCH_S", 0.5)
    (agents.place / "a.txt").write_text("a" * 60)
    (text,) = await results(agents, Call("search", {"pattern": "(a+)+$x"}))
    assert text == "The search took too long and was ended; search for something simpler."


async def test_a_search_stops_after_enough_lines(agents: Any) -> None:
    (agents.place / "a.txt").write_text("x\n" * 1000)
    (text,) = await results(agents, Call("search", {"pattern": "x"}))
    assert text.endswith("[stopped after 200 lines; search for less]\n")


async def test_the_shell_is_one_session_in_the_workspace(agents: Any) -> None:
    got = await results(
        agents,
        Call("shell", {"command": "pwd; X=5; mkdir d; cd d"}),
        Call("shell", {"command": "echo $X $PWD $GREETING; exit_with() { return 3; }; exit_with"}),
        Call("shell", {"command": "read x; echo $?"}),
        Call("shell", {"command": "seq 100000"}),
        Call("shell", {"command": "exit 4"}),
        Call("shell", {"command": "pwd"}),
        env={"GREETING": "hello"},
    )
    assert got[0] == f"{agents.place}\n"
    assert got[1] == f"5 {agents.place}/d hello\n\nIt ended with exit status 3."
    assert got[2] == "1\n"
    assert got[3].startswith("[of 588895 bytes the end]\n")
    assert got[3].endswith("99999\n100000\n")
    assert got[4] == "It ended with exit status 4."
    assert got[5] == f"{agents.place}\n"


async def test_a_command_that_takes_too_long_is_ended(agents: Any) -> None:
    late, after = await results(
        agents,
        Call("shell", {"command": "echo begun; sleep 1000", "timeout_s": 0.5}),
        Call("shell", {"command": "echo on"}),
    )
    assert late == "begun\n\nIt did not end within 0.5 s and was ended."
    assert after == "on\n"


async def test_a_missing_shell_is_an_error_to_the_model(agents: Any) -> None:
    (text,) = await results(agents, Call("shell", {"command": "true"}), shell="/no/such/shell")
    assert "does not take commands" in text or "There is no shell" in text


async def test_a_large_file_is_neither_read_nor_written(agents: Any) -> None:
    (agents.place / "large").write_bytes(b"a" * (3 << 20))
    read, edited = await results(
        agents, Call("read", {"path": "large"}), Call("edit", {"path": "large", "old": "a", "new": "b"})
    )
    assert "has 3145728 bytes; the limit is 2097152" in read
    assert "the limit is 2097152" in edited


@pytest.mark.parametrize("compared", [0, 1 << 24])
def test_a_difference_is_of_what_changed_alone(compared: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "COMPARED", compared)
    lines = [f"{number}\n" for number in range(1000)]
    changed = "".join([*lines[:500], "x\n", *lines[501:-1], "999"])
    if compared:
        assert files.diff("f", "".join(lines), changed).endswith(" 998\n-999\n+999\n\\ No newline at end of file\n")
    changed = "".join([*lines[:500], "x\n", *lines[501:]])
    assert files.diff("f", "".join(lines), changed) == (
        "--- a/f\n+++ b/f\n@@ -498,7 +498,7 @@\n 497\n 498\n 499\n-500\n+x\n 501\n 502\n 503\n"
    )
    assert files.diff("f", "x\n", "x\n") == ""


def test_a_difference_takes_no_time_whatever_is_in_it() -> None:
    before, after = ("".join(f"{number * by % 150}\n" for number in range(500_000)) for by in (1, 7))
    begun = time.process_time()
    assert files.diff("f", before, after).startswith("--- a/f\n+++ b/f\n@@ ")
    assert time.process_time() - begun < 10  # and hours, where each line is compared with each

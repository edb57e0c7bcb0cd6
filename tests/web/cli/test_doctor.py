"""`enginehouse doctor`."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from web.cli import main

Doctor = Callable[..., tuple[int, str, str]]


@pytest.fixture
def doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    """`doctor("tmux")` gives (exit code, stdout, stderr), on a machine without any agent."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("ENGINEHOUSE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("ENGINEHOUSE_PORT", "0")

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["doctor", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_line_for_each_and_exit_code_0_when_nothing_is_wrong(doctor: Doctor, tmp_path: Path) -> None:
    code, out, _ = doctor()
    lines = [line.split()[:2] for line in out.splitlines()]
    assert ["ok", "packages"] in lines
    assert ["absent", "opencode"] in lines
    assert code == (1 if any(status == "wrong" for status, _ in lines) else 0)
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_is_exit_code_1(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENGINEHOUSE_PORT", "many")
    code, out, _ = doctor("settings", "packages")
    assert (code, [line.split()[0] for line in out.splitlines()]) == (1, ["ok", "wrong"])


def test_what_was_named_has_to_be_there(doctor: Doctor) -> None:
    assert doctor("packages", "python")[0] == 0
    code, out, _ = doctor("goose")
    assert (code, out.startswith("absent  goose"), "Untested" in out) == (1, True, True)


def test_json_has_all_of_it(doctor: Doctor) -> None:
    code, out, _ = doctor("qwen", "--json")
    [found] = json.loads(out)
    assert (code, found["group"], found["status"], found["facts"]["tested"]) == (1, "agent", "absent", True)


def test_a_name_that_is_none_is_wrong_usage(doctor: Doctor) -> None:
    code, _, err = doctor("nobody")
    assert (code, "'nobody'" in err) == (2, True)
    said = " ".join(re.sub(r"[^\w\s,:']", " ", err).split())
    assert all(name in said for name in ("of: packages", "settings", "tmux", "claude", "opencode"))


def test_what_lies_in_the_folder_runs_only_when_it_is_named(doctor: Doctor, tmp_path: Path) -> None:
    planted = tmp_path / "node_modules/.bin/opencode"
    planted.parent.mkdir(parents=True)
    planted.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    planted.chmod(0o755)
    doctor()
    assert not (tmp_path / "ran").exists()
    doctor("opencode")
    assert (tmp_path / "ran").exists()

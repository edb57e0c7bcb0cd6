"""`--embedded`: the same commands on a house that lives as long as the command does."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

Enginehouse = Callable[..., "subprocess.CompletedProcess[str]"]


def test_what_one_command_made_the_next_one_finds(tmp_path: Path, enginehouse: Enginehouse) -> None:
    where = ("--embedded", "--state-dir", str(tmp_path / "state"))
    spawned = enginehouse(tmp_path, "spawn", "probe", "--id", "p", *where)
    assert (spawned.returncode, spawned.stderr) == (0, "")
    ran = enginehouse(tmp_path, "run", "p", "hello", "--json", *where)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["result"] == {"text": "hello", "steps_done": 1}
    shown = enginehouse(tmp_path, "show", "p", "--json", *where)
    assert json.loads(shown.stdout)["incarnation"] == 3


def test_a_folder_that_a_daemon_holds_is_refused_in_one_sentence(
    tmp_path: Path, enginehouse: Enginehouse, serving: Callable[..., object]
) -> None:
    serving(tmp_path, "--port", "0", "--state-dir", str(tmp_path / "state"))
    refused = enginehouse(tmp_path, "list", "--embedded", "--state-dir", str(tmp_path / "state"))
    assert refused.returncode == 69
    assert refused.stderr.startswith("error: ")
    assert refused.stderr.count("\n") == 1


def test_a_spawn_that_cannot_start_says_why(tmp_path: Path, enginehouse: Enginehouse) -> None:
    where = ("--embedded", "--state-dir", str(tmp_path / "state"))
    spawned = enginehouse(tmp_path, "spawn", "shell", "--id", "s", "--cwd", str(tmp_path / "nope"), *where)
    assert spawned.returncode == 1
    assert spawned.stdout == "s\n"
    assert spawned.stderr.startswith("s failed: ")
    assert "nope" in spawned.stderr


def test_keys_are_the_daemons(tmp_path: Path, enginehouse: Enginehouse) -> None:
    refused = enginehouse(tmp_path, "key", "list", "--embedded", "--state-dir", str(tmp_path / "state"))
    assert refused.returncode == 78
    assert "--embedded" in refused.stderr


def test_without_a_daemon_the_secret_is_rotated_in_its_file(tmp_path: Path, enginehouse: Enginehouse) -> None:
    state = tmp_path / "state"
    missing = enginehouse(tmp_path, "token", "rotate", "--state-dir", str(state))
    assert (missing.returncode, "no such state folder" in missing.stderr) == (78, True)
    state.mkdir(mode=0o700)
    done = [enginehouse(tmp_path, "token", "rotate", "--state-dir", str(state)) for _ in range(2)]
    assert [one.returncode for one in done] == [0, 0], done
    assert len((state / "jwt.secret").read_text().splitlines()) == 2
    other = tmp_path / "other.secret"
    names = {"ENGINEHOUSE_SERVER__JWT_SECRET_FILE": str(other)}
    tmp_path.chmod(0o700)
    assert enginehouse(tmp_path, "token", "rotate", "--at-once", "--state-dir", str(state), **names).returncode == 0
    assert len(other.read_text().splitlines()) == 1

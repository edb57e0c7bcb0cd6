"""What becomes of a program: the same engine, or a reason."""

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from actors.kinds import Kinds
from protocol.bodies import NewEngine
from protocol.edge import as_json, parse
from protocol.specs import Policy
from web.supervisord import Left, Taken, read, translate

ME = pwd.getpwuid(os.geteuid()).pw_name
KINDS = Kinds(registered=())


def translated(tmp_path: Path, *lines: str, name: str = "x", command: str = "run it", head: str = "") -> Any:
    path = tmp_path / "supervisord.conf"
    path.write_text("\n".join([head, f"[program:{name}]", f"command={command}", *lines, ""]))
    return translate(read(path, {}), "default")


def one(tmp_path: Path, *lines: str, **more: str) -> Taken:
    [taken], left = translated(tmp_path, *lines, **more)
    assert left == []
    # It is what the house takes.
    parse(NewEngine, as_json(taken.engine))
    KINDS.parse_config("process", taken.engine.config)
    assert isinstance(taken, Taken)
    return taken


def left(tmp_path: Path, *lines: str, **more: str) -> Left:
    taken, [left] = translated(tmp_path, *lines, **more)
    assert taken == []
    assert isinstance(left, Left)
    return left


def test_a_program_with_supervisords_defaults(tmp_path: Path) -> None:
    engine = one(tmp_path).engine
    assert (engine.kind, engine.id, engine.pool, engine.start, engine.grace_s) == ("process", "x", "default", True, 10)
    assert engine.labels == {"supervisord": "x"}
    log = {"max_bytes": 50 << 20, "backups": 10, "events": False}
    assert engine.config == {
        "argv": ["run", "it"], "protocol": "none", "env": {}, "ready": {"delay_s": 1.0}, "stop_signal": "TERM",
        "exit_codes": [0], "redirect_stderr": False, "stdout_log": log, "stderr_log": log,
    }  # fmt: skip
    restart = engine.restart
    assert (restart.policy, restart.max_restarts, restart.stable_s) == (Policy.TRANSIENT, 3, 1)
    assert (restart.backoff.min_s, restart.backoff.max_s, restart.backoff.jitter) == (1, 3, 0)
    assert restart.window_s == 4 * 1 + (1 + 2 + 3)


@pytest.mark.parametrize(
    "line, where, wanted",
    [
        ("autostart=false", "start", False),
        ("autorestart=true", "restart.policy", "permanent"),
        ("autorestart=false", "restart.policy", "temporary"),
        ("startretries=7", "restart.max_restarts", 7),
        ("startsecs=0", "config.ready", None),
        ("startsecs=40", "boot_s", 80),
        ("stopwaitsecs=3", "grace_s", 3),
        ("stopsignal=10", "config.stop_signal", "USR1"),
        ("stopsignal=SIGQUIT", "config.stop_signal", "QUIT"),
        ("exitcodes=0,2", "config.exit_codes", [0, 2]),
        ("directory=/srv", "config.cwd", "/srv"),
        ('environment=A="b c"', "config.env", {"A": "b c"}),
        ("redirect_stderr=true", "config.redirect_stderr", True),
        ("stdout_logfile=NONE", "config.stdout_log", None),
        ("stdout_logfile=/var/log/x.log", "config.stdout_log.path", "/var/log/x.log"),
        ("stderr_logfile_maxbytes=1MB", "config.stderr_log.max_bytes", 1 << 20),
        ("stderr_logfile_backups=0", "config.stderr_log.backups", 0),
        ("stdout_events_enabled=true", "config.stdout_log.events", True),
        (f"user={ME}", "id", "x"),
        ("umask=022", "id", "x"),
    ],
)
def test_what_is_the_same(tmp_path: Path, line: str, where: str, wanted: object) -> None:
    taken = one(tmp_path, line)
    assert taken.notes == ()
    found = as_json(taken.engine)
    for step in where.split("."):
        found = found.get(step)
    assert found == wanted


@pytest.mark.parametrize(
    "line, note",
    [
        ("umask=077", "umask=077"),
        ("priority=1", "priority"),
        ("serverurl=http://x", "serverurl"),
        ("startretries=0", "started once more"),
        ("stdout_syslog=true", "stdout_syslog"),
        ("stdout_logfile=syslog", "stdout_syslog"),
        ("stdout_logfile=/dev/stdout", "stdout_logfile=/dev/stdout"),
        ("stdout_logfile=relative.log", "stdout_logfile=relative.log"),
        ("stderr_logfile_backups=1000", "100 are kept"),
        ("stdout_capture_maxbytes=1MB", "stdout_capture_maxbytes"),
    ],
)
def test_what_is_not_the_same_is_said(tmp_path: Path, line: str, note: str) -> None:
    [said] = one(tmp_path, line).notes
    assert note in said


@pytest.mark.parametrize(
    "lines, why",
    [
        (["user=somebody"], "user=somebody"),
        (["stopsignal=WINCH"], "stopsignal=WINCH"),
        (["directory=here"], "directory=here"),
        (["startsecs=-1"], "startsecs=-1"),
        (["process_name=" + "x" * 70], "cannot be the id of an engine"),
    ],
)
def test_what_cannot_be_taken_over_is_left_with_the_reason(tmp_path: Path, lines: list[str], why: str) -> None:
    one = left(tmp_path, *lines)
    assert one.program
    assert why in one.why


@pytest.mark.parametrize("command, why", [("", "empty"), ('run "', "closing quotation")])
def test_a_command_that_is_none_is_left(tmp_path: Path, command: str, why: str) -> None:
    assert why in left(tmp_path, command=command).why.lower()


def test_two_programs_of_one_id_are_one_and_a_reason(tmp_path: Path) -> None:
    taken, [gone] = translated(tmp_path, head="[program:X]\ncommand=true\n")
    assert [one.program.full_name for one in taken] == ["X"]
    assert "would be the engine x, as X is" in gone.why


def test_programs_of_a_group_are_called_after_it(tmp_path: Path) -> None:
    head = "[group:Web Site]\n".replace(" ", "-") + "programs=x\n"
    lines = ["process_name=w_%(process_num)02d", "numprocs=2"]
    taken, _ = translated(tmp_path, *lines, head=head)
    assert [one.engine.id for one in taken] == ["web-site.w_00", "web-site.w_01"]

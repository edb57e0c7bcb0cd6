"""`enginehouse import`: a supervisord configuration becomes engines of a daemon, once however often it is imported."""

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.web.cli.test_commands import Cli
from web.client import open_remote


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "supervisord.conf"
    path.write_text(
        f"""
[inet_http_server]
port=9001
[supervisord]
[program:imported]
command=sh -c 'echo "$GREETING"; echo to stderr >&2; exec sleep 1000'
environment=GREETING="hello, imported"
directory={tmp_path}
startsecs=0
stdout_logfile={tmp_path}/out.log
redirect_stderr=true
[program:workers]
command=sleep 1000
process_name=%(program_name)s_%(process_num)d
numprocs=2
autostart=false
priority=5
"""
    )
    return path


def engines(cli: Cli) -> dict[str, str]:
    found = json.loads(cli("list", "--json")[1])
    return {engine["id"]: engine["state"] for engine in found if "supervisord" in engine["labels"]}


def test_a_dry_run_says_what_would_be_and_makes_nothing(cli: Cli, conf: Path) -> None:
    code, out, _ = cli("import", str(conf), "--dry-run")
    assert code == 0
    assert re.search(
        r"^workers:workers_0 +workers.workers_0 +by hand +transient +sleep 1000 +would be made$", out, re.MULTILINE
    )
    assert "\nNot the same:\n  workers:workers_0: priority: " in out
    assert "\nNot taken over:\n  inet_http_server: " in out
    assert engines(cli) == {}


def test_it_is_imported_once(cli: Cli, conf: Path, tmp_path: Path) -> None:
    made = json.loads(cli("import", str(conf), "--json")[1])
    assert [one["outcome"] for one in made["engines"]] == ["made"] * 3
    again = json.loads(cli("import", str(conf), "--json")[1])
    assert [one["outcome"] for one in again["engines"]] == ["is there"] * 3
    states = engines(cli)
    assert states.pop("imported") in ("starting", "running")
    assert states == {"workers.workers_0": "stopped", "workers.workers_1": "stopped"}
    conf.write_text(conf.read_text().replace("hello", "goodbye"))
    code, out, _ = cli("import", str(conf))
    assert code == 1
    assert "refused: Engine imported exists with another spec" in out
    assert cli("dispose", *["imported", *states], "--force")[0] == 0


def test_what_the_house_refuses_spares_the_others(cli: Cli, conf: Path) -> None:
    conf.write_text(conf.read_text().replace("directory=", "directory=/nowhere"))
    conf.write_text(conf.read_text().replace("/out.log", "/nowhere/out.log"))
    code, out, _ = cli("import", str(conf))
    assert code == 1
    assert re.search(r"^imported .* refused: config.stdout_log: ", out, re.MULTILINE)
    assert sorted(engines(cli)) == ["workers.workers_0", "workers.workers_1"]
    assert cli("dispose", "workers.workers_0", "workers.workers_1", "--force")[0] == 0


def test_a_program_that_cannot_be_taken_over_is_1_and_a_file_that_cannot_be_read_2(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_text("[program:x]\ncommand=true\nuser=somebody-else\n")
    code, out, _ = cli("import", str(path))
    assert code == 1
    assert "program:x: user=somebody-else: engines run as the daemon's user" in out
    code, _, err = cli("import", str(tmp_path / "absent.conf"))
    assert code == 2
    assert "There is no file" in err
    path.write_text("[program:x]\ncommand=true\n")
    code, out, _ = cli("import", str(path), "--pool", "absent")
    assert code == 1
    assert "refused: There is no pool 'absent'" in out


def test_what_is_left_is_told_once_however_often_it_is_named(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_text(
        "[program:x]\ncommand=true\nnumprocs=2\n[group:a]\nprograms=x\n[group:b]\nprograms=x\n"
        "[program:y]\ncommand=true\nnumprocs=2\nprocess_name=y%(process_num)d\nuser=somebody-else\n"
    )
    _, out, _ = cli("import", str(path), "--dry-run")
    assert (out.count("when numprocs is more than 1"), out.count("user=somebody-else")) == (1, 1)


def test_an_imported_program_is_supervised(daemon: Any, conf: Path, tmp_path: Path, cli: Cli) -> None:
    """Started, its output in its file, killed and started again, stopped."""
    assert cli("import", str(conf))[0] == 0

    async def look() -> None:
        async with open_remote(daemon.url, api_key=daemon.key) as house:
            with trio.fail_after(60):
                text = place = ""
                while text.count("\n") < 2:
                    page = await house.log("imported", after=place or "0", wait_s=20)
                    text, place = text + page.text, page.next_after
                assert text == "hello, imported\nto stderr\n"
                [program] = await house.processes("imported")
                os.kill(program.pid, signal.SIGKILL)
                page = await house.log("imported", after=place, wait_s=30)
                assert page.text.startswith("hello")
            assert (await house.dispose("imported", force=True)).leaks == []
            for name in ("workers.workers_0", "workers.workers_1"):
                await house.dispose(name, force=True)

    trio.run(look)
    assert (tmp_path / "out.log").read_text().startswith("hello, imported\nto stderr\nhello")

"""The commands, in process, against a real daemon."""

import io
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from supervisor.house import Filter
from tests.web.conftest import PROGRAM, environment
from web.client import open_remote

Cli = Callable[..., tuple[int, str, str]]


def test_status_tells_how_the_house_is(cli: Cli, daemon: Any) -> None:
    code, out, _ = cli("status")
    assert code == 0
    assert re.search(rf"url +{daemon.url}\nstatus +healthy", out)
    assert json.loads(cli("status", "--json")[1])["pid"] == daemon.process.pid


def test_an_engine_is_spawned_listed_shown_and_disposed_of(cli: Cli, tmp_path: Path) -> None:
    code, out, _ = cli(
        "spawn", "shell", "--id", "sh", "--cwd", str(tmp_path), "--label", "a=b", "--config", "rows=50", "--no-start"
    )
    assert (code, out) == (0, "sh\n")
    shown = json.loads(cli("show", "sh", "--json")[1])
    assert (shown["config"]["cwd"], shown["config"]["rows"], shown["labels"]) == (str(tmp_path), 50, {"a": "b"})
    assert [engine["id"] for engine in json.loads(cli("list", "--label", "a=b", "--json")[1])] == ["sh"]
    assert re.search(r"^sh +shell +default +stopped", cli("list", "--kind", "shell")[1], re.MULTILINE)
    assert cli("dispose", "sh")[:2] == (0, "sh is disposed of\n")
    assert cli("show", "sh")[0] == 3


def test_run_waits_and_its_exit_code_is_the_runs(cli: Cli, probe: str) -> None:
    code, out, err = cli("run", probe, "hello")
    assert (code, json.loads(out)["text"]) == (0, "hello")
    assert re.match(r"run_\w+ completed in", err)
    code, _, err = cli("run", probe, "--input", '{"steps": 2, "fail_at": 1}')
    assert (code, " failed" in err) == (1, True)
    code, out, _ = cli("run", probe, "--input", '{"steps": 2, "fail_at": 1}', "--json")
    assert (code, json.loads(out)["status"]) == (1, "failed")


def test_run_prints_what_there_is_and_says_when_it_is_only_the_end(cli: Cli, tmp_path: Path) -> None:
    cli("spawn", "shell", "--id", "prints", "--cwd", str(tmp_path))
    code, out, err = cli("run", "prints", "(exit 3)")
    assert (code, out, "exit status 3" in err) == (1, "", True)
    assert cli("run", "prints", "printf abc")[:2] == (0, "abc\n")
    code, out, err = cli("run", "prints", "seq 30000")
    assert (code, out.endswith("\n29999\n30000\n"), len(out) < 100_000) == (0, True, True)
    run = re.search(r"warning: .* `enginehouse logs (run_\w+)` prints all of it", err)
    assert run is not None
    assert cli("logs", run[1])[1].split() == [str(number) for number in range(1, 30001)]
    cli("dispose", "prints")


def test_a_refusal_by_the_state_says_what_is_possible_and_where_the_cause_is(cli: Cli, tmp_path: Path) -> None:
    cli("spawn", "shell", "--id", "nowhere", "--cwd", str(tmp_path / "absent"))
    for _ in range(100):
        if json.loads(cli("show", "nowhere", "--json")[1])["state"] == "failed":
            break
    code, _, err = cli("run", "nowhere", "ls")
    assert (code, "Possible now: start" in err, "`enginehouse show` says why" in err) == (4, True, True)
    assert f"cannot start in the folder '{tmp_path / 'absent'}'" in cli("show", "nowhere")[1]
    cli("dispose", "nowhere")


def test_version_is_told(cli: Cli) -> None:
    code, out, _ = cli("--version")
    assert (code, bool(re.fullmatch(r"enginehouse \d+\.\d+\.\d+\S*\n", out))) == (0, True)


def test_run_follows_the_output(cli: Cli, probe: str) -> None:
    code, out, err = cli("run", probe, "--input", '{"steps": 3, "output_bytes": 100, "step_s": 0.01}', "--follow")
    assert (code, len(out.strip()) >= 90) == (0, True)
    run = err.split()[0]
    assert cli("logs", run)[1] == out.removesuffix("\n")
    assert cli("logs", run, "--follow")[1] == out.removesuffix("\n")


def test_submit_gives_the_id_and_cancel_takes_it(cli: Cli, probe: str) -> None:
    _, out, _ = cli("submit", probe, "--input", '{"steps": 1000, "step_s": 0.05}')
    run = out.strip()
    assert cli("cancel", run, "--reason", "enough")[0] == 0
    code, out, _ = cli("events", "--run", run, "--after", "0", "--json")  # ends with the run
    types = [json.loads(line)["type"] for line in out.splitlines()]
    assert (code, "run.queued" in types, types[-2:]) == (0, True, ["run.cancelled", "end"])
    assert json.loads(cli("show", run, "--json")[1])["status"] == "cancelled"
    again = cli("retry", run)[1].strip()
    assert json.loads(cli("show", again, "--json")[1])["retry_of"] == run
    assert run in cli("runs", "--engine", probe)[1]


def test_an_engine_is_steered(cli: Cli, probe: str) -> None:
    assert cli("pause", probe, "--wait", "10", "--reason", "lunch")[:2] == (0, f"{probe}: pause completed\n")
    assert cli("pause", probe, "--wait", "10")[1] == f"{probe}: pause completed (it was so already)\n"
    assert re.search(r"^state +paused\nheld by +\S+ \(lunch\)\n\n(.*\n)*pause .*lunch", cli("why", probe)[1])
    assert cli("resume", probe, "--wait", "10")[0] == 0
    assert cli("stop", probe, "--wait", "10", "--grace", "1")[0] == 0
    assert cli("start", probe, "--wait", "10")[0] == 0
    assert cli("restart", probe, "--wait", "10")[0] == 0
    assert json.loads(cli("show", probe, "--json")[1])["incarnation"] == 3
    assert "event" not in cli("processes", probe)[1]
    assert json.loads(cli("processes", probe, "--json")[1])["total"]["processes"] == 0
    assert json.loads(cli("state", probe)[1])["seq"] > 0
    assert cli("state", probe, "nothing")[0] == 3


def test_limits_are_whole_numbers_where_they_are(cli: Cli) -> None:
    limits = '{"memory_bytes": 3000000000, "files": 64}'
    cli("spawn", "process", "--id", "bound", "--config", 'argv=["sleep", "1000"]', "--config", "protocol=none",
        "--config", f"limits={limits}")  # fmt: skip
    out = cli("processes", "bound")[1]
    assert ('"memory_bytes": 3000000000,' in out, '"files": 64,' in out) == (True, True)
    assert json.loads(cli("processes", "bound", "--json")[1])["confinement"]["limits"]["files"] == 64
    cli("dispose", "bound", "--force")


def test_help_tells_what_a_stop_does_to_the_run_in_hand(cli: Cli) -> None:
    said = " ".join(cli("stop", "--help")[1].split())
    assert "the run in hand is cancelled, also one that waits for an answer, and the queue is kept" in said
    assert "After a `pause` instead it goes on where it was." in said


def test_a_wrong_mode_or_kind_is_input_that_cannot_be_meant(cli: Cli, probe: str) -> None:
    code, _, err = cli("pause", probe, "--mode", "gently")
    assert (code, err.startswith("error: mode: ")) == (2, True)
    assert cli("spawn", "nothing-like-that")[0] == 2
    assert cli("spawn", "probe", "--config", "x")[0] == 2
    assert cli("spawn", "probe", "--spec", "[]")[0] == 2
    for twice in ('{"config": {}}', '{"labels": {"a": "b"}}'):
        code, _, err = cli("spawn", "probe", "--spec", twice)
        assert (code, "an option of its own" in " ".join(err.split())) == (2, True)


async def asked_in(daemon: Any, run: str) -> None:
    """Returns when the run has asked."""
    opened = Filter(run=run, types=("request.opened",))
    async with open_remote(daemon.url, api_key=daemon.key) as house, house.events(opened, after="0") as stream:
        await stream.receive()


async def started(daemon: Any, engine: str) -> None:
    """Returns when a run of the engine has started."""
    begun = Filter(engine=engine, types=("run.started",))
    async with open_remote(daemon.url, api_key=daemon.key) as house, house.events(begun, after="0") as stream:
        await stream.receive()


def test_people_answer(cli: Cli, probe: str, daemon: Any) -> None:
    options = [{"id": "go", "kind": "allow_once", "label": "Go"}, {"id": "no", "kind": "reject_once", "label": "No"}]
    ask = {"steps": 1, "ask_at": 1, "ask": {"kind": "approval", "title": "Deploy?", "options": options}}
    for verb in ("approve", "reject"):
        run = cli("submit", probe, "--input", json.dumps(ask))[1].strip()
        trio.run(asked_in, daemon, run)
        (asked,) = json.loads(cli("requests", "--engine", probe, "--json")[1])
        assert asked["title"] == "Deploy?"
        request = asked["id"]
        assert f"asks      Deploy?: enginehouse show {request}\n" in cli("why", probe)[1]
        assert "`enginehouse requests` lists" in cli(verb, probe)[2]
        assert cli("approve", request, "--digest", "0" * 64)[0] == 4
        assert cli("reply", request, "--option", "go", "--digest", "0" * 64)[0] == 4
        code, out, _ = cli(verb, request, "--comment", "so be it")
        assert (code, out) == (0, f"{request} is answered ({verb})\n")
        code, _, err = cli("reply", request, "--answer", "late")
        assert (code, f": {'go' if verb == 'approve' else 'no'}; the first decision stands." in err) == (4, True)
    run = cli("submit", probe, "--input", json.dumps(ask))[1].strip()
    trio.run(asked_in, daemon, run)
    (asked,) = json.loads(cli("requests", "--engine", probe, "--json")[1])
    assert cli("reply", asked["id"], "--option", "go")[1] == f"{asked['id']} is answered (go)\n"
    assert cli("reply", "req_nothing", "--option", "go")[0] == 3
    assert cli("reply", "req_nothing")[0] == 2
    assert probe in cli("requests", "--decided")[1]


def test_an_approval_names_the_digest_that_is_shown(cli: Cli, daemon: Any) -> None:
    spec = json.dumps({"require_digest": True, "template": {"kind": "probe"}})
    cli("pool", "create", "careful", "--spec", spec)
    engine = cli("pool", "get", "careful", "one")[1].strip()
    ask = {"steps": 1, "ask_at": 1, "ask": {"kind": "approval", "title": "Deploy?"}}
    run = cli("submit", engine, "--input", json.dumps(ask))[1].strip()
    trio.run(asked_in, daemon, run)
    (asked,) = json.loads(cli("requests", "--engine", engine, "--json")[1])
    assert cli("reply", asked["id"], "--option", "approve")[0] == 2
    assert cli("approve", asked["id"])[:2] == (0, f"{asked['id']} is answered (approve)\n")


def test_pools_are_made_and_commanded(cli: Cli) -> None:
    assert cli("pool", "create", "crew", "--kind", "probe", "--max-engines", "5")[:2] == (0, "crew\n")
    engine = cli("pool", "get", "crew", "issue-7")[1].strip()
    assert cli("pool", "get", "crew", "issue-7")[1].strip() == engine
    code, out, _ = cli("pool", "pause", "crew", "--reason", "night")
    assert (code, engine in out) == (0, True)
    assert json.loads(cli("pool", "show", "crew", "--json")[1])["max_engines"] == 5
    assert cli("pool", "change", "crew", "--max-engines", "7", "--spec", '{"idle_s": 60}')[:2] == (
        0,
        "crew is changed\n",
    )
    assert cli("pool", "change", "crew", "--spec", '{"idle_s": null, "max_running": 3}')[0] == 0
    shown = json.loads(cli("pool", "show", "crew", "--json")[1])
    assert (shown["max_engines"], shown["max_running"], shown["idle_s"]) == (7, 3, None)
    assert shown["template"]["kind"] == "probe"
    for wrong in ((), ("--config", "a=1"), ("--spec", "[]"), ("--spec", '{"colour": 1}')):
        assert cli("pool", "change", "crew", *wrong)[0] == 2
    assert cli("pool", "delete", "crew")[0] == 4
    assert cli("pool", "delete", "crew", "--force")[0] == 0
    assert "crew" not in cli("pool", "list")[1]


def test_keys_are_shown_once_and_revoked(cli: Cli) -> None:
    key = cli("key", "create", "bot", "--scope", "read")[1].strip()
    listed = cli("key", "list")[1]
    assert ("bot" in listed, key in listed) == (True, False)
    assert cli("list", "--api-key", key)[0] == 0
    code, _, err = cli("spawn", "probe", "--api-key", key)
    assert (code, "operate" in err) == (5, True)
    assert cli("key", "revoke", key.split("_")[1])[0] == 0
    assert cli("list", "--api-key", key)[0] == 5


def test_a_key_has_pools_a_rate_and_an_end(cli: Cli) -> None:
    line = ("key", "create", "bound", "--pool", "a", "--pool", "b", "--expires", "60", "--rate", "7", "--json")
    made = json.loads(cli(*line)[1])
    assert (made["pools"], made["rate_per_min"], made["expires_at"] > made["created_at"]) == (["a", "b"], 7, True)
    assert cli("key", "create", "wrong", "--scope", "admin", "--pool", "a")[0] == 2


def test_a_users_password_is_a_line_of_stdin_and_never_an_argument(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def typed(line: str) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(line))

    typed("long enough by far\n")
    assert cli("user", "add", "ada", "--scope", "read", "--pool", "lab", "--rate", "50")[:2] == (0, "ada may log in\n")
    assert re.search(r'^ada +\["read"\] +\["lab"\] +no +50 ', cli("user", "list")[1], re.MULTILINE)
    typed("long enough by far\n")
    code, token, _ = cli("token", "create", "--user", "ada")
    assert code == 0
    assert cli("list", "--api-key", token.strip())[0] == 0
    typed(token)
    said = cli("token", "inspect")[1]
    assert re.search(r"^sub +user:ada$", said, re.MULTILINE)
    assert re.search(r"^exp +20\d\d-", said, re.MULTILINE)
    assert cli("user", "disable", "ada")[0] == 0
    assert cli("list", "--api-key", token.strip())[0] == 5
    assert cli("user", "enable", "ada")[0] == 0
    typed("another one by far\n")
    assert cli("user", "passwd", "ada")[0] == 0
    typed("long enough by far\n")
    assert cli("token", "create", "--user", "ada")[0] == 5
    typed("")
    assert cli("user", "passwd", "ada")[0] == 2
    assert cli("user", "remove", "ada")[0] == 0
    assert cli("user", "remove", "ada")[0] == 3


def test_a_key_is_exchanged_for_a_token_that_outlives_one_rotation(cli: Cli, daemon: Any) -> None:
    token = cli("token", "create")[1].strip()
    before = (daemon.state / "jwt.secret").read_text()
    code, said, _ = cli("token", "rotate")
    assert (code, said.endswith(" signs access tokens\n")) == (0, True)
    assert (daemon.state / "jwt.secret").read_text().splitlines()[1].split()[0] == before.strip()
    assert cli("list", "--api-key", token)[0] == 0
    assert json.loads(cli("token", "rotate", "--at-once", "--json")[1])["previous_until"] is None
    assert cli("list", "--api-key", token)[0] == 5


@pytest.mark.parametrize("line", ["", "x", "a.b.c", "e30", "e30.e30.", "bnVsbA.bnVsbA.x"])
def test_what_is_no_token_is_wrong_usage_or_says_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(line))
    code, out, _ = cli("token", "inspect")
    assert (code, out) in ((2, ""), (0, ""))


def test_logs_tell_what_an_engine_logged(cli: Cli, probe: str) -> None:
    assert cli("logs", probe)[0] == 0
    assert cli("logs", "no-such-engine")[0] == 3


def test_dead_letters_and_kinds(cli: Cli) -> None:
    assert cli("dead-letter", "list")[0] == 0
    assert cli("dead-letter", "redeliver", "nothing")[0] == 3
    assert {"probe", "shell", "process"} <= {kind["kind"] for kind in json.loads(cli("kinds", "--json")[1])}


@pytest.mark.parametrize("noun", ["pools", "dead-letters", "keys"])
def test_nouns_are_singular_and_what_they_were_called_at_first_still_works(cli: Cli, noun: str) -> None:
    assert cli(noun, "list")[1:] == cli(noun[:-1], "list")[1:]
    code, out, _ = cli("--help")
    assert (code, f" {noun} " in out, f" {noun[:-1]} " in out) == (0, False, True)


def test_an_error_is_one_line_for_people_and_json_for_programs(cli: Cli) -> None:
    code, out, err = cli("show", "nothing")
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert err.startswith("error: ")
    code, out, err = cli("show", "nothing", "--json")
    assert json.loads(err)["error"]["slug"] == "not-found"


@pytest.mark.parametrize("command", ["status", "list", "events"])
def test_nobody_there_is_69_and_says_what_to_do(cli: Cli, command: str) -> None:
    code, _, err = cli(command, "--url", "http://127.0.0.1:9")
    assert (code, "enginehouse serve" in err) == (69, True)
    code, _, err = cli(command, "--url", "http://127.0.0.1:9", "--json")
    assert (code, json.loads(err)["error"]["slug"]) == (69, "unreachable")


@pytest.mark.parametrize("command", ["status", "list"])
def test_a_state_folder_without_a_daemon_is_69_though_another_house_is_up(
    cli: Cli, tmp_path: Path, command: str
) -> None:
    code, out, err = cli(command, "--state-dir", str(tmp_path))
    assert (code, out) == (69, "")
    assert err == f"error: No daemon serves {tmp_path}; start one with `enginehouse serve`.\n"


def test_an_address_that_is_none_is_78(cli: Cli) -> None:
    code, _, err = cli("status", "--url", "127.0.0.1")
    assert (code, "http://host:port" in err) == (78, True)


def test_wrong_usage_is_2_and_help_tells_the_exit_codes(cli: Cli) -> None:
    assert cli("frobnicate")[0] == 2
    assert cli("run")[0] == 2
    code, out, _ = cli("--help")
    assert (code, "69: nobody answers" in out) == (0, True)
    assert "--api-key" in cli("pool", "create", "--help")[1]


def test_what_asks_no_house_is_not_asked_where_one_is(cli: Cli) -> None:
    for words in (("serve",), ("config", "check"), ("config", "show")):
        assert not re.search("--(url|api-key|embedded)", cli(*words, "--help")[1])
        assert cli(*words, "--embedded")[0] == 2


def test_config_shows_origins_and_checks(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("[server]\ngrace_s = 3")
    monkeypatch.setenv("ENGINEHOUSE_PROT", "1")
    code, out, err = cli("config", "show", "--config", str(tmp_path / "c.toml"))
    assert code == 0
    assert re.search(rf"^server\.grace_s +3 +{tmp_path / 'c.toml'}$", out, re.MULTILINE)
    assert "ENGINEHOUSE_PROT" in err
    assert cli("config", "check")[0] == 0
    (tmp_path / "c.toml").write_text("[server]\ngrace_s = -3")
    code, _, err = cli("config", "check", "--config", str(tmp_path / "c.toml"))
    assert (code, "server.grace_s: -3 is not allowed" in err) == (78, True)


@pytest.mark.parametrize(
    "settings, wrong",
    [
        ('tls_cert = "{here}/absent.pem"\ntls_key = "{here}/absent.key"', "absent.pem cannot be read"),
        ('jwt_secret_file = "{here}/c.toml"', "c.toml: others may read the secret that signs"),
        ('admin_key_file = "{here}/c.toml"', "c.toml: others may read the admin key"),
        ('unix_socket = "{here}/absent/house.sock"', "absent cannot be used (No such file or directory)"),
    ],
)
def test_config_check_looks_at_the_files_that_a_start_would_look_at(
    cli: Cli, tmp_path: Path, settings: str, wrong: str
) -> None:
    (tmp_path / "c.toml").write_text("[server]\n" + settings.format(here=tmp_path))
    (tmp_path / "c.toml").chmod(0o644)
    code, _, err = cli("config", "check", "--config", str(tmp_path / "c.toml"))
    assert (code, wrong in err) == (78, True), err


def test_config_check_makes_nothing(cli: Cli, tmp_path: Path) -> None:
    state = tmp_path / "never"
    assert cli("config", "check", "--state-dir", str(state))[0] == 0
    assert not state.exists()


def test_a_resume_that_leaves_other_holds_names_them(cli: Cli, probe: str) -> None:
    cli("pause", probe, "--holder", "deploy", "--reason", "until six", "--wait", "10")
    code, _, err = cli("resume", probe)
    assert (code, f"{probe} is still held by deploy (until six)" in err) == (0, True), err
    assert json.loads(cli("resume", probe, "--json")[1])["command_id"]
    code, _, err = cli("resume", probe, "--holder", "*")
    assert (code, err) == (0, "")


def test_a_restart_that_ends_in_failure_says_so_and_what_is_possible(cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "goes"
    folder.mkdir()
    assert cli("spawn", "shell", "--id", "goes", "--cwd", str(folder))[0] == 0
    folder.rmdir()
    code, _, err = cli("restart", "goes", "--wait", "20")
    assert code == 4
    assert "This restart is not to be reached any more: engine goes is failed. Possible now: start" in err
    cli("dispose", "goes")


def test_somebody_elses_supervisor_is_told_in_one_sentence(
    enginehouse: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "shadow/supervisor").mkdir(parents=True)
    (tmp_path / "shadow/supervisor/__init__.py").touch()
    tree = str(Path(__file__).parents[3])
    done = enginehouse(tmp_path, "list", PYTHONPATH=f"{tmp_path / 'shadow'}:{tree}")
    assert (done.returncode, done.stderr.count("\n")) == (78, 1)
    assert "somebody else's" in done.stderr


def test_status_imports_nothing_heavy(
    enginehouse: Callable[..., subprocess.CompletedProcess[str]], daemon: Any, tmp_path: Path
) -> None:
    names = {"ENGINEHOUSE_STATE_DIR": str(daemon.state), "PYTHONPROFILEIMPORTTIME": "1"}
    done = enginehouse(tmp_path, "status", **names)
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert (
        imported & {"protocol", "trio", "httpx2", "quart", "hypercorn", "apsw", "pydantic_settings", "rich.table"}
        == set()
    )


def test_events_that_were_are_printed_and_the_command_ends(cli: Cli, probe: str) -> None:
    cli("run", probe, "x")
    code, out, _ = cli("events", "--engine", probe, "--no-follow", "--types", "run")
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()] == ["run.queued", "run.started", "run.completed"]


def test_ctrl_c_leaves_the_command_and_not_the_run(cli: Cli, probe: str, daemon: Any, tmp_path: Path) -> None:
    line = [sys.executable, "-c", PROGRAM, "run", probe, "--input", '{"steps": 1000, "step_s": 0.05}']
    env = environment(tmp_path, ENGINEHOUSE_STATE_DIR=str(daemon.state), PYTHONUNBUFFERED="1")
    with subprocess.Popen([*line, "--follow"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        trio.run(started, daemon, probe)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, b"Traceback" in err) == (130, False), err
    (run,) = json.loads(cli("runs", "--engine", probe, "--json")[1])
    assert run["status"] == "running"
    assert cli("cancel", run["id"])[0] == 0


def test_the_audit_trail_is_listed_and_exported(cli: Cli, probe: str) -> None:
    assert cli("pause", probe)[0] == 0
    assert cli("spawn", "nobody")[0] != 0
    code, out, _ = cli("audit", "--engine", probe)
    assert code == 0
    assert re.search(rf"accepted +key:admin +send_command +pause +{probe}", out)
    refused = json.loads(cli("audit", "--outcome", "refused", "--limit", "1", "--json")[1])
    assert [(row["operation"], row["slug"]) for row in refused] == [("spawn_engine", "unknown-kind")]
    lines = cli("audit", "--all", "--engine", probe)[1].splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["pause", "spawn"]

"""The process kind: real programs, as they are and speaking JSON lines, driven through a real house."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from actors.children import ChildPolicy
from actors.secrets import Sources
from protocol.bodies import NewEngine, ReplyBody
from protocol.commands import Signal, Start
from protocol.errors import InvalidState, NotFound, UnsupportedCommand, ValidationFailed
from protocol.specs import OnInterrupt, PauseMode, Restart
from supervisor import EmbeddedHouse, Filter, open_supervisor
from tests.actors.engines.conftest import Driver

HELLO = """echo '{"type":"hello","protocol":1}'; """


def plain(script: str, **more: Any) -> dict[str, Any]:
    return {"argv": ["sh", "-c", script], "protocol": "none", **more}


def speaking(script: str, **more: Any) -> dict[str, Any]:
    return {"argv": ["sh", "-c", HELLO + script], **more}


@pytest.fixture(params=["examples/jsonl_engine.py", "tests/actors/engines/old_engine.py"])
async def counter(drive: Any, root: Path, request: pytest.FixtureRequest) -> str:
    """The example program in Python, as it is and as it was before programs could announce anything."""
    engine: str = await drive.spawn("process", {"argv": [sys.executable, str(root / request.param)]})
    return engine


@pytest.fixture
async def counting(drive: Any, root: Path) -> str:
    """The example program in Python, whose runs go on after a crash."""
    config = {"argv": [sys.executable, str(root / "examples/jsonl_engine.py")]}
    engine: str = await drive.spawn("process", config, restart=Restart(), on_interrupt=OnInterrupt.RESUME)
    return engine


# -- a program that speaks ------------------------------------------------------------------------------------------
async def test_a_run_is_sent_to_the_program_and_its_answer_is_the_result(drive: Any, counter: str) -> None:
    run = await drive.run(counter, {"count": 3})
    assert (run.status, run.result) == ("completed", {"counted": 3})
    assert await drive.house.output(run.id) == (b"1\n2\n3\n", 6)
    assert (await drive.house.slice(counter, "counted")).value == 3
    assert (await drive.run(counter, {"count": 1})).result == {"counted": 1}


async def test_the_program_may_fail_a_run(drive: Any, counter: str) -> None:
    run = await drive.run(counter, "what")
    assert (run.status, run.error) == ("failed", {"slug": "bad-input", "detail": 'Give {"count": <number>}.'})


@pytest.mark.parametrize("option, status", [("yes", "completed"), ("no", "failed")])
async def test_the_program_may_ask_a_human(drive: Any, counter: str, option: str, status: str) -> None:
    async with drive.seen(counter, "request.opened"):
        run = await drive.submit(counter, {"count": 1, "ask": True})
    [request] = (await drive.house.requests()).items
    assert (request.title, request.kind) == ("Shall I count?", "approval")
    async with drive.seen(counter, "run.completed", "run.failed"):
        await drive.house.reply(request.id, ReplyBody(option=option))
    assert (await drive.house.run(run)).status == status


async def test_a_cancelled_run_is_ended_by_the_program_which_lives_on(drive: Any, counter: str) -> None:
    async with drive.seen(counter, "run.output", holding="'1"):
        run = await drive.submit(counter, {"count": 10**9})
    async with drive.seen(counter, "run.cancelled", within_s=4):
        await drive.house.cancel(run)
    assert (await drive.run(counter, {"count": 1})).result == {"counted": 1}
    assert (await drive.house.get(counter)).incarnation == 1


async def test_a_frozen_run_can_be_cancelled_and_the_program_lives_on(drive: Any, counter: str) -> None:
    async with drive.seen(counter, "run.output", holding="'1"):
        run = await drive.submit(counter, {"count": 10**9})
    await drive.house.pause(counter, wait_s=5)
    async with drive.seen(counter, "run.cancelled", within_s=1):
        await drive.house.cancel(run)
    await drive.house.resume(counter, wait_s=5)
    assert (await drive.run(counter, {"count": 1})).result == {"counted": 1}
    assert (await drive.house.get(counter)).incarnation == 1


async def test_a_program_that_ignores_a_cancellation_is_killed(drive: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.engines.dialogue.CANCEL_S", 0.05)
    engine = await drive.spawn("process", speaking("cat >/dev/null"))
    async with drive.seen(engine, "run.started"):
        run = await drive.submit(engine, 1)
    async with drive.seen(engine, "engine.failed", holding="did not end a cancelled run within 0.05 s"):
        await drive.house.cancel(run)
    assert (await drive.house.run(run)).status == "cancelled"


async def test_a_frozen_run_goes_on_where_it_was(drive: Any, counter: str) -> None:
    async with drive.seen(counter, "run.output", holding="'1"):
        run = await drive.submit(counter, {"count": 50})
    await drive.house.pause(counter, wait_s=5)
    async with drive.seen(counter, "run.completed"):
        await drive.house.resume(counter)
    info = await drive.house.run(run)
    assert (info.attempts, info.result) == (1, {"counted": 50})


async def test_what_is_frozen_stays_so_while_somebody_else_holds_it(drive: Any, counter: str) -> None:
    async with drive.seen(counter, "run.output", holding="'1"):
        run = await drive.submit(counter, {"count": 10**9})
    await drive.house.pause(counter, holder="ice", wait_s=5)
    await drive.house.pause(counter, holder="else", mode=PauseMode.SOFT, wait_s=5)
    await drive.house.resume(counter, holder="ice", wait_s=5)
    [program] = await drive.house.processes(counter)
    assert (await drive.house.get(counter)).state == "paused"
    assert (await trio.Path(f"/proc/{program.pid}/stat").read_text()).rpartition(")")[2].split()[0] in "Tt"
    async with drive.seen(counter, "run.output"):
        await drive.house.resume(counter, holder="else", wait_s=5)
    await drive.house.cancel(run)


async def test_soft_waits_for_the_end_of_the_run_of_a_program_that_cannot_pause(drive: Any, root: Path) -> None:
    argv = [sys.executable, str(root / "tests/actors/engines/old_engine.py")]
    engine = await drive.spawn("process", {"argv": argv})
    async with drive.seen(engine, "run.output", holding="'1"):
        run = await drive.submit(engine, {"count": 50})
    await drive.house.pause(engine, mode=PauseMode.SOFT, wait_s=10)
    assert (await drive.house.run(run)).status == "completed"


async def test_soft_stands_still_in_the_middle_of_a_run(drive: Any, counting: str) -> None:
    async with drive.seen(counting, "run.output", holding="'1"):
        run = await drive.submit(counting, {"count": 200})
    await drive.house.pause(counting, mode=PauseMode.SOFT, wait_s=10)
    assert (await drive.house.get(counting)).state == "paused"
    done = (await drive.house.slice(counting, "counted")).value
    assert done < 200
    async with drive.seen(counting, "run.completed"):
        await drive.house.resume(counting)
    info = await drive.house.run(run)
    assert (info.result, info.attempts, info.usage) == ({"counted": 200}, 1, {"steps": 200})
    assert (await drive.house.output(run))[0].split() == [b"%d" % n for n in range(1, 201)]


async def test_a_run_goes_on_in_the_next_incarnation_of_a_program_that_can(drive: Any, counting: str) -> None:
    async with drive.seen(counting, "state.patched", holding="'slice': 'snapshot'"):
        run = await drive.submit(counting, {"count": 200})
    [program] = await drive.house.processes(counting)
    async with drive.seen(counting, "run.completed"), drive.seen(counting, "log.line", holding="Going on after"):
        os.kill(program.pid, signal.SIGKILL)
    info = await drive.house.run(run)
    assert (info.result, info.attempts) == ({"counted": 200}, 2)
    written = [int(line) for line in (await drive.house.output(run))[0].split()]
    assert sorted(set(written)) == [*range(1, 201)]
    assert len(written) <= 201  # a step whose snapshot did not come through is done again, and no other


@pytest.mark.parametrize("mode", [PauseMode.SOFT, PauseMode.INTERRUPT])
async def test_a_program_that_is_itself_the_work_can_only_be_frozen(drive: Any, mode: PauseMode) -> None:
    engine = await drive.spawn("process", {"argv": ["sleep", "1000"], "protocol": "none"})
    with pytest.raises(ValidationFailed, match=r"cannot pause by .*freeze"):
        await drive.house.pause(engine, mode=mode)
    assert (await drive.house.get(engine)).state == "running"
    await drive.house.pause(engine, wait_s=5)
    assert (await drive.house.get(engine)).state == "paused"


async def test_a_signal_reaches_the_program(drive: Any, counter: str) -> None:
    async with drive.seen(counter, "process.signalled", holding="{'name': 'x', 'payload': [1]}"):
        await drive.house.command(counter, Signal(name="x", payload=[1]))


async def test_stop_is_said_to_the_program_before_it_is_signalled(drive: Any, tmp_path: Path) -> None:
    script = "while read -r line; do case $line in *stop*) echo stopped > said; exit;; esac; done"
    engine = await drive.spawn("process", speaking(script, cwd=str(tmp_path)))
    await drive.house.dispose(engine)
    assert (tmp_path / "said").read_text() == "stopped\n"


async def test_a_run_may_use_the_grace_of_a_stop(drive: Any, root: Path) -> None:
    script = f"""
import json, sys
sys.path.insert(0, {str(root / "examples")!r})
from jsonl_engine import say
say("hello", protocol=1)
for line in sys.stdin:
    match json.loads(line):
        case {{"type": "run", "id": id}}: say("output", id=id, text="begun")
        case {{"type": "stop"}}: say("result", id=id, result="in time"); break
"""
    engine = await drive.spawn("process", {"argv": [sys.executable, "-c", script]})
    async with drive.seen(engine, "run.output"):
        run = await drive.submit(engine, 1)
    await drive.house.dispose(engine, force=True)
    assert (await drive.house.run(run)).result == "in time"


async def test_a_run_in_hand_at_a_stop_is_cancelled(drive: Any) -> None:
    engine = await drive.spawn("process", speaking("cat >/dev/null"))
    async with drive.seen(engine, "run.started"):
        run = await drive.submit(engine, 1)
    assert (await drive.house.dispose(engine, force=True, grace_s=0.2)).leaks == []
    assert (await drive.house.run(run)).status == "cancelled"


async def test_a_program_in_another_language(drive: Any, program: Callable[[str], str], root: Path) -> None:
    engine = await drive.spawn("process", {"argv": [program("node"), str(root / "examples/jsonl-engine.mjs")]})
    async with drive.seen(engine, "process.counted", holding="{'words': 3}"):
        assert (await drive.run(engine, "one two  three")).result == {"words": 3}
    assert (await drive.run(engine, 5)).error["slug"] == "bad-input"
    async with drive.seen(engine, "run.progress"):
        run = await drive.submit(engine, "word " * 100_000)
    await drive.house.pause(engine, mode=PauseMode.SOFT, wait_s=10)
    assert (await drive.house.run(run)).status == "running"
    async with drive.seen(engine, "run.completed"):
        await drive.house.resume(engine)
    assert (await drive.house.slice(engine, "snapshot")).value == {"run": run, "done": 100_000}
    before = trio.current_time()
    await drive.house.dispose(engine)
    assert trio.current_time() - before < 4


@pytest.mark.parametrize(
    "script, says",
    [
        ("echo junk", "is not JSON: 'junk'"),
        ("echo 5", "no message"),
        ("echo '{}'", "no message"),
        ("""echo '{"type":"hello"}'""", "message `hello` is wrong: protocol"),
        ("head -c 1100000 /dev/zero; sleep 9", "longer than 1048576 bytes"),
        ("printf '{'", "ended with exit status 0 in the middle of a line before it said hello"),
        ("exit 0", "ended with exit status 0 before it said hello"),
        ("exec sleep 9", "said no hello within 0.2 s"),
        (HELLO + 'echo \'{"type":"event","name":"UPPER"}\'; sleep 9', "message `event` is wrong: name"),
        (HELLO + 'echo \'{"type":"update","slice":"s","value":1e999}\'; sleep 9', "is not JSON"),
        (HELLO + 'echo \'{"type":"usage","id":"r","amounts":{"x":1e300}}\'; sleep 9', "`usage` is wrong: amounts.x"),
        (
            HELLO + 'printf \'{"type":"update","slice":"s","value":\'; head -c 195 /dev/zero | tr \'\\0\' \'[\'; '
            "head -c 195 /dev/zero | tr '\\0' ']'; echo '}'; sleep 9",
            "nested in more than 190 levels",
        ),
        (
            HELLO + 'printf \'{"type":"update","slice":"s","value":[\'; yes 0, | head -n 110000 | tr -d \'\\n\'; '
            "echo '0]}'; sleep 9",
            "holds more than 100000 values",
        ),
        (HELLO + "kill -9 $$", "ended with signal 9 (Killed)"),
        (HELLO + "exit 3", "ended with exit status 3"),
        (HELLO + "printf '{\"type'", "in the middle of a line"),
    ],
)
async def test_what_breaks_the_protocol_is_a_crash_with_a_sentence(drive: Any, script: str, says: str) -> None:
    argv = ["sh", "-c", f"echo last words >&2; {script}"]
    ended = await drive.last_exit("process", {"argv": argv}, boot_s=0.2 if "sleep 9" in script else 10)
    assert ended["cause"] == "crashed"
    assert says in ended["error"]
    assert ended["error"].endswith("Its last lines on standard error:\nlast words") or "within 0.2 s" in says
    assert len(ended["error"]) < 1000


async def test_the_sentence_ends_with_the_last_lines_of_standard_error(drive: Any) -> None:
    ended = await drive.last_exit("process", {"argv": ["sh", "-c", "seq 100 >&2; exit 3"]})
    assert ended["error"].endswith("Its last lines on standard error:\n" + "\n".join(map(str, range(81, 101))))


async def test_an_end_in_the_middle_of_a_run_is_a_crash_even_with_status_0(drive: Any) -> None:
    engine = await drive.spawn("process", speaking("read -r hello; read -r run"))
    async with drive.seen(engine, "engine.failed", holding="exit status 0 in the middle of a run"):
        run = await drive.submit(engine, 1)
    info = await drive.house.run(run)
    assert (info.status, info.error["slug"]) == ("failed", "interrupted")


async def test_unknown_members_and_messages_are_ignored(drive: Any) -> None:
    script = """echo '{"type":"new","x":1}'; echo '{"type":"log","text":"hi","new":1}'; cat >/dev/null"""
    engine, _ = await drive.house.spawn(NewEngine(kind="process", config=speaking(script), start=False))
    async with drive.seen(engine.id, "log.line", holding="does not know: new"):
        await drive.house.command(engine.id, Start(), wait_s=5)
    assert (await drive.house.get(engine.id)).state == "running"


async def test_a_program_that_does_not_read_is_a_crash(drive: Any) -> None:
    engine = await drive.spawn("process", speaking("exec sleep 1000"))
    async with drive.seen(engine, "engine.failed", holding="does not read its standard input"):
        with pytest.raises(InvalidState):  # some signals are on their way when it fails
            for _ in range(1000):
                await drive.house.command(engine, Signal(name="x", payload="y" * 10_000))


# -- a program as it is ---------------------------------------------------------------------------------------------
async def test_its_lines_are_logged(drive: Any) -> None:
    engine, _ = await drive.house.spawn(
        NewEngine(kind="process", config=plain("echo out; echo err >&2; exec sleep 1000"), start=False)
    )
    async with (
        drive.seen(engine.id, "log.line", holding="'text': 'out'"),
        drive.seen(engine.id, "log.line", holding="'text': 'err'"),
    ):
        await drive.house.start(engine.id)


async def test_exit_status_0_is_the_good_end_and_another_is_a_crash(drive: Any) -> None:
    assert (await drive.last_exit("process", plain("exit 0")))["cause"] == "finished"
    ended = await drive.last_exit("process", plain("echo oh no >&2; exit 3"))
    assert (ended["cause"], ended["error"]) == (
        "crashed",
        "`sh -c 'echo oh no >&2; exit 3'` ended with exit status 3. Its last lines on standard error:\noh no",
    )


async def test_other_exit_statuses_may_be_the_good_end(drive: Any) -> None:
    config = {"exit_codes": [0, 3]}
    assert (await drive.last_exit("process", plain("exit 3", **config)))["cause"] == "finished"
    assert (await drive.last_exit("process", plain("exit 4", **config)))["cause"] == "crashed"
    assert (await drive.last_exit("process", plain("kill $$", **config)))["cause"] == "crashed"


async def test_an_end_before_it_was_ready_is_no_good_end(drive: Any) -> None:
    ended = await drive.last_exit("process", plain("exit 0", ready={"delay_s": 20}))
    assert (ended["cause"], "exit status 0 before it was ready" in ended["error"]) == ("crashed", True)


async def test_a_last_line_without_an_end_is_logged_and_no_crash(drive: Any) -> None:
    engine, _ = await drive.house.spawn(NewEngine(kind="process", config=plain("printf half"), start=False))
    async with drive.seen(engine.id, "log.line", holding="'text': 'half'"):
        await drive.house.start(engine.id)


async def test_standard_error_may_go_where_the_output_goes(drive: Any) -> None:
    config = plain("echo oh >&2; exec sleep 1000", redirect_stderr=True)
    engine, _ = await drive.house.spawn(NewEngine(kind="process", config=config, start=False))
    async with drive.seen(engine.id, "log.line", holding="'text': 'oh', 'stream': 'stdout'"):
        await drive.house.start(engine.id)


async def test_it_takes_no_runs(drive: Any) -> None:
    engine = await drive.spawn("process", plain("exec sleep 1000"))
    with pytest.raises(UnsupportedCommand):
        await drive.submit(engine, 1)


@pytest.mark.parametrize("ready", [{"line": "ready [0-9]+"}, {"line": "y 5"}, {"delay_s": 0.01}])
async def test_readiness_is_waited_for(drive: Any, ready: dict[str, Any]) -> None:
    engine = await drive.spawn("process", plain("echo ready 5; exec sleep 1000", ready=ready))
    assert (await drive.house.get(engine)).state == "running"


async def test_a_port_that_accepts_is_readiness(drive: Any) -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    serve = f"import socket; s = socket.create_server(('127.0.0.1', {port})); [s.accept() for _ in iter(int, 1)]"
    engine = await drive.spawn(
        "process", {"argv": [sys.executable, "-c", serve], "protocol": "none", "ready": {"port": port}}
    )
    assert (await drive.house.get(engine)).state == "running"
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.aclose()


@pytest.mark.parametrize(
    "ready, missed",
    [
        ({"line": "yes"}, "no line matched 'yes'"),
        ({"port": 1}, "port 1 accepted no connection"),
        ({"delay_s": 9}, "it was to run for 9 s first"),
    ],
)
async def test_what_is_never_ready_is_a_crash(drive: Any, ready: dict[str, Any], missed: str) -> None:
    ended = await drive.last_exit("process", plain("echo no; exec sleep 9", ready=ready), boot_s=0.5)
    assert f"was not ready within 0.5 s: {missed}." in ended["error"]


async def test_a_program_is_named_by_its_command_line_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "canary-5f0a2b91")
    policy = ChildPolicy(secrets=Sources(env=frozenset({"CANARY"})))
    argv = ["sh", "-c", "exit 7", "canary-5f0a2b91", "x\n\x1b[1m", "y" * 100]
    config = {"argv": argv, "protocol": "none", "env": {"KEY": {"env": "CANARY"}}}
    async with open_supervisor(grace_s=1, children=policy) as house:
        ended = await Driver(house).last_exit("process", config)
    named = "`sh -c 'exit 7' '***' 'x  [1m' "
    assert ended["error"] == f"{named}{'y' * (81 - len(named))}...` ended with exit status 7."


async def test_it_is_stopped_with_its_own_signal(drive: Any, tmp_path: Path) -> None:
    script = "trap 'echo INT > got; exit' INT; echo ready; while :; do sleep 0.01; done"
    config = plain(script, stop_signal="SIGINT", cwd=str(tmp_path), ready={"line": "ready"})
    engine = await drive.spawn("process", config)
    await drive.house.dispose(engine)
    assert (tmp_path / "got").read_text() == "INT\n"


async def test_what_ignores_its_signal_is_killed_after_the_grace(drive: Any) -> None:
    engine = await drive.spawn(
        "process", plain("trap '' TERM; echo ready; while :; do sleep 1; done", ready={"line": "ready"})
    )
    before = trio.current_time()
    assert (await drive.house.dispose(engine, grace_s=0.2)).leaks == []
    assert 0.2 <= trio.current_time() - before < 2


async def test_a_frozen_program_is_disposed_of_at_once(drive: Any) -> None:
    engine = await drive.spawn("process", plain("exec sleep 1000"))
    await drive.house.pause(engine, wait_s=5)
    with trio.fail_after(3):
        assert (await drive.house.dispose(engine, grace_s=20)).leaks == []


# -- configs --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "config, says",
    [
        ({"argv": ["no-such-program"]}, "no program 'no-such-program'"),
        ({"argv": ["true"], "cwd": "/nowhere"}, "No such file or directory"),
        ({"argv": ["sh", "-c", """echo '{"type":"hello","protocol":2}'; sleep 9"""]}, "speaks version 2"),
    ],
)
async def test_what_no_retry_mends_is_failed_with_a_sentence(drive: Any, config: dict[str, Any], says: str) -> None:
    ended = await drive.last_exit("process", config)
    assert ended["cause"] == "unmendable"
    assert says in ended["error"]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"argv": []},
        {"argv": ["a\0b"]},
        {"argv": ["a"], "protocol": "xml"},
        {"argv": ["a"], "redirect_stderr": True},
        {"argv": ["a"], "exit_codes": [256]},
        {"argv": ["a"], "ready": {}},
        {"argv": ["a"], "ready": {"line": "(open"}},
        {"argv": ["a"], "ready": {"port": 1, "delay_s": 1}},
        {"argv": ["a"], "stop_signal": "STOP"},
    ],
)
async def test_a_config_that_cannot_be_meant_is_refused(house: EmbeddedHouse, config: dict[str, Any]) -> None:
    with pytest.raises(ValidationFailed):
        await house.spawn(NewEngine(kind="process", config=config))


# -- what is kept ---------------------------------------------------------------------------------------------------
async def test_all_that_it_writes_is_kept_in_files_of_its_own(drive: Any) -> None:
    script = "seq 1000; echo err >&2; printf half; exec sleep 1000"
    engine = await drive.spawn("process", plain(script, ready={"line": "err"}))
    text = await written(drive, engine, "stdout", "half")
    assert text == "".join(f"{n}\n" for n in range(1, 1001)) + "half"
    assert await written(drive, engine, "stderr", "err") == "err\n"
    uid = (await drive.house.get(engine)).uid
    folder = drive.house.supervisor.directory / "engines" / uid
    assert {path.name for path in await trio.to_thread.run_sync(lambda: list(folder.iterdir()))} == {
        "stdout.log",
        "stderr.log",
    }


async def written(drive: Any, engine: str, stream: str, until: str) -> str:
    """All of a log, once it holds this."""
    text, place = "", "0"
    with trio.fail_after(20):
        while until not in text:
            page = await drive.house.log(engine, stream, after=place, wait_s=20)
            text, place = text + page.text, page.next_after
    return text


async def test_a_log_may_be_elsewhere_and_be_no_event(drive: Any, tmp_path: Path) -> None:
    log = {"path": str(tmp_path / "my.log"), "max_bytes": 8, "backups": 1, "events": False}
    script = "echo one; echo two; echo three; echo up >&2; exec sleep 1000"
    engine = await drive.spawn("process", plain(script, ready={"line": "up"}, stdout_log=log))
    assert await written(drive, engine, "stdout", "three") == "one\ntwo\nthree\n"
    assert (tmp_path / "my.log").read_text() == "three\n"
    assert (tmp_path / "my.log.1").read_text() == "one\ntwo\n"
    lines = await drive.house.event_page(Filter(engine=engine, types=("log.line",)), after="0")
    assert [row["data"]["text"] for row in lines.items] == ["up"]


async def test_what_is_not_kept_cannot_be_read(drive: Any, counter: str) -> None:
    engine = await drive.spawn("process", plain("exec sleep 1000", stderr_log=None, redirect_stderr=True))
    for name, stream in ((engine, "stderr"), (counter, "stdout")):
        with pytest.raises(NotFound, match=f"no log of {stream}"):
            await drive.house.log(name, stream)


async def test_a_secret_is_not_in_a_log(drive: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "canary-5f0a2b91")
    policy = ChildPolicy(secrets=Sources(env=frozenset({"CANARY"})))
    async with open_supervisor(grace_s=1, children=policy) as house:
        own = Driver(house)
        script = "printf canary-; sleep 0.1; echo 5f0a2b91 $KEY; echo up >&2; exec sleep 1000"
        config = plain(script, env={"KEY": {"env": "CANARY"}}, ready={"line": "up"})
        engine = await own.spawn("process", config)
        assert await written(own, engine, "stdout", "\n") == "*** ***\n"


@pytest.mark.parametrize("path", ["/nowhere/log", "relative/log"])
async def test_a_log_that_cannot_be_written_is_refused(house: EmbeddedHouse, path: str) -> None:
    with pytest.raises(ValidationFailed, match="stdout_log"):
        await house.spawn(NewEngine(kind="process", config=plain("true", stdout_log={"path": path})))


async def test_no_line_takes_for_ever_to_be_looked_at(drive: Any) -> None:
    script = "head -c 8000 /dev/zero | tr '\\0' a; echo b; echo listening on 4711; exec sleep 99"
    engine = await drive.spawn("process", plain(script, ready={"line": r"^(a+)+$|listening on \d+$"}))
    assert (await drive.house.get(engine)).state == "running"
    for line, why in ((r"(?<=a)b", "look-around"), ("(", "unclosed group"), (r"(a)\1", "backreferences")):
        with pytest.raises(ValidationFailed, match=f"no regular expression: .*{why}"):
            await drive.spawn("process", plain("exec sleep 9", ready={"line": line}))

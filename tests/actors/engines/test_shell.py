"""The shell kind: one session on a real terminal, or in a real tmux, driven through a real house."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

from protocol.bodies import NewEngine
from protocol.errors import ValidationFailed
from protocol.specs import PauseMode
from supervisor import EmbeddedHouse


@pytest.fixture(params=["pty", "tmux"])
def backend(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def shell(drive: Any, tmp_path: Path, backend: str) -> str:
    config = {"cwd": str(tmp_path), "rows": 33, "cols": 111, "backend": backend}
    engine: str = await drive.spawn("shell", config)
    return engine


async def said(drive: Any, shell: str, command: Any) -> str:
    run = await drive.run(shell, command)
    assert run.status == "completed", run
    output: str = run.result["output"]
    return output


async def test_the_result_tells_all_about_a_command(drive: Any, shell: str) -> None:
    run = await drive.run(shell, "echo hi")
    assert run.status == "completed"
    assert run.result.pop("duration_s") >= 0
    assert run.result == {"exit_code": 0, "output": "hi\n", "output_bytes": 3, "truncated": False}
    assert await drive.house.output(run.id) == (b"hi\n", 3)


async def test_directory_variables_functions_and_jobs_persist(drive: Any, shell: str, tmp_path: Path) -> None:
    await said(drive, shell, "mkdir sub; cd sub; X='a  b'; export Y=2; f() { echo f $1; }; sleep 1000 &")
    assert await said(drive, shell, 'echo "$X" $Y; f 3; pwd') == f"a  b 2\nf 3\n{tmp_path}/sub\n"
    assert "sleep 1000" in await said(drive, shell, "jobs")


async def test_a_failing_command_fails_the_run_and_keeps_the_result(drive: Any, shell: str) -> None:
    run = await drive.run(shell, "echo out; (exit 7)")
    assert (run.status, run.error["slug"]) == ("failed", "exit-status")
    assert (run.result["exit_code"], run.result["output"]) == (7, "out\n")
    assert await said(drive, shell, "echo on") == "on\n"


async def test_a_failing_command_may_be_a_result_like_another(drive: Any, backend: str) -> None:
    shell = await drive.spawn("shell", {"fail_on_exit": False, "backend": backend})
    run = await drive.run(shell, "false")
    assert (run.status, run.result["exit_code"]) == ("completed", 1)


async def test_a_syntax_error_is_an_exit_status(drive: Any, shell: str) -> None:
    for broken in ("if then (", "echo 'open", "cat <<E\nnever ended", "}", '"'):
        run = await drive.run(shell, broken)
        assert run.finished_at
    assert await said(drive, shell, "echo on") == "on\n"


async def test_heredocs_and_many_lines_and_very_long_ones(drive: Any, shell: str) -> None:
    script = "cat <<'E'\n$not 'expanded'\nE\nfor i in 1 2; do\n  echo $i\ndone"
    assert await said(drive, shell, script) == "$not 'expanded'\n1\n2\n"
    long = "x" * 100_000
    assert await said(drive, shell, f"echo {long} | wc -c; echo '{long}'") == f"100001\n{long}\n"[-65536:]


async def test_output_comes_as_the_program_wrote_it(drive: Any, shell: str) -> None:
    run = await drive.run(shell, r"printf 'a\nb\r\n\000\377\036 \033[1m'")
    assert await drive.house.output(run.id) == (b"a\nb\r\n\0\xff\x1e \x1b[1m", 13)


async def test_the_result_holds_the_end_of_a_long_output_in_whole_characters(drive: Any, shell: str) -> None:
    run = await drive.run(shell, "for i in $(seq 30000); do printf '\u00e9%d\u20ac' $i; done")
    whole = "".join(f"\u00e9{i}\u20ac" for i in range(1, 30001))
    assert run.result["truncated"]
    assert run.result["output_bytes"] == len(whole.encode())
    assert whole.endswith(run.result["output"])
    assert 65_530 <= len(run.result["output"].encode()) <= 65_536
    kept, size = await drive.house.output(run.id)
    assert (kept.decode(), size) == (whole, len(whole.encode()))


async def test_a_command_reads_its_stdin_or_the_end_of_file(drive: Any, shell: str) -> None:
    assert await said(drive, shell, "cat; read x; echo $?") == "1\n"
    assert await said(drive, shell, {"command": "tr a-z A-Z", "stdin": "given\n"}) == "GIVEN\n"
    assert await said(drive, shell, {"command": "wc -c", "stdin": "x" * 300_000}) == "300000\n"


async def test_programs_see_a_terminal_of_the_size_that_was_asked_for(drive: Any, shell: str, backend: str) -> None:
    assert await said(drive, shell, "stty size; test -t 1 && test -t 2 && echo tty") == "33 111\ntty\n"
    size = "import os; print(*os.get_terminal_size())"
    assert await said(drive, shell, f'python3 -c "{size}"; echo $LINES $COLUMNS $TERM') == (
        f"111 33\n33 111 {backend.replace('pty', 'xterm')}-256color\n"
    )
    assert "\x1b[" in await said(drive, shell, "ls --color=auto -d /")


async def test_the_environment_is_harmless_and_what_the_config_says(
    drive: Any, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    env = {"GREETING": "hello there", "TERM": "dumb"}
    shell = await drive.spawn("shell", {"env": env, "backend": backend})
    assert await said(drive, shell, "echo $GREETING $TERM [$SECRET_TOKEN]") == "hello there dumb []\n"


async def test_exit_ends_the_session_with_its_status_and_the_next_run_has_a_new_one(drive: Any, shell: str) -> None:
    await said(drive, shell, "X=5")
    run = await drive.run(shell, "printf bye; exit 3")
    assert (run.status, run.result["exit_code"], run.result["output"]) == ("failed", 3, "bye")
    assert await said(drive, shell, "echo [$X]") == "[]\n"
    assert (await drive.house.get(shell)).incarnation == 1


@pytest.mark.parametrize("command, status", [("kill -9 $$", 137), ("exec sh -c 'exit 4'", 4), ("set -e; false", 1)])
async def test_a_command_that_kills_the_shell_ends(drive: Any, shell: str, command: str, status: int) -> None:
    run = await drive.run(shell, command)
    assert (run.status, run.result["exit_code"]) == ("failed", status)
    assert await said(drive, shell, "echo on") == "on\n"


async def test_what_a_command_does_to_its_descriptors_and_modes_ends_with_it(drive: Any, shell: str) -> None:
    assert await said(drive, shell, "exec >/dev/null 2>&1; stty sane; echo x") == ""
    assert await said(drive, shell, "echo back") == "back\n"
    await said(drive, shell, "PS1='$ '; PROMPT_COMMAND='echo noise'; alias printf=false; printf() { :; }")
    assert await said(drive, shell, "echo quiet") == "quiet\n"


@pytest.mark.parametrize(
    "command",
    ["sleep 1000; echo after", "while :; do sleep 0.01; done", "while :; do :; done", "f() { cat /dev/tty; }; f"],
)
async def test_cancel_interrupts_the_command_and_spares_the_session(drive: Any, shell: str, command: str) -> None:
    await said(drive, shell, "X=5")
    async with drive.seen(shell, "run.output", holding="begun"):
        run = await drive.submit(shell, f"echo begun; {command}")
    async with drive.seen(shell, "run.cancelled", within_s=1.9):
        await drive.house.cancel(run)
    assert await said(drive, shell, "echo $X") == "5\n"
    assert await drive.house.output(run) == (b"begun\n", 6)


async def test_a_command_that_ignores_the_interruption_is_terminated(
    drive: Any, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "actors.engines.session.LADDER", ((signal.SIGINT, 0.1), (signal.SIGTERM, 0.1), (signal.SIGKILL, 9))
    )
    await said(drive, shell, "X=5")
    for ignored in ("INT", "INT TERM"):
        async with drive.seen(shell, "run.output", holding="begun"):
            run = await drive.submit(shell, f"sh -c \"trap '' {ignored}; echo begun; while :; do sleep 1; done\"")
        async with drive.seen(shell, "run.cancelled", within_s=5):
            await drive.house.cancel(run)
    assert await said(drive, shell, "echo $X") == "5\n"


async def test_a_command_has_its_own_time_limit(drive: Any, shell: str) -> None:
    run = await drive.run(shell, {"command": "echo one; sleep 1000; echo two", "timeout_s": 0.05})
    assert (run.status, run.error["slug"]) == ("failed", "timeout")
    assert run.result["output"] == "one\n"
    assert await said(drive, shell, {"command": "echo in time", "timeout_s": 100}) == "in time\n"


async def test_freeze_stops_the_command_and_the_same_one_goes_on(drive: Any, shell: str, tmp_path: Path) -> None:
    async with drive.seen(shell, "run.output", holding="begun"):
        run = await drive.submit(shell, "echo begun; while ! test -e go; do (:); done; echo done")
    await drive.house.pause(shell, wait_s=5)
    assert (await drive.house.get(shell)).state == "paused"
    (tmp_path / "go").touch()
    stats = [Path(f"/proc/{row.pid}/stat") for row in await drive.house.processes(shell)]
    assert {stat.read_text().rpartition(")")[2].split()[0] for stat in stats} == {"T"}
    async with drive.seen(shell, "run.completed"):
        await drive.house.resume(shell)
    info = await drive.house.run(run)
    assert (info.attempts, info.result["output"]) == (1, "begun\ndone\n")


async def test_soft_waits_for_the_end_of_the_command(drive: Any, shell: str, tmp_path: Path) -> None:
    async with drive.seen(shell, "run.output", holding="begun"):
        run = await drive.submit(shell, "echo begun; while ! test -e go; do (:); done")
    async with drive.seen(shell, "engine.pausing"):
        await drive.house.pause(shell, mode=PauseMode.SOFT)
    async with drive.seen(shell, "engine.paused"):
        (tmp_path / "go").touch()
    assert (await drive.house.run(run)).status == "completed"


async def test_interrupt_begins_the_command_again_after_the_resume(drive: Any, shell: str, tmp_path: Path) -> None:
    async with drive.seen(shell, "run.output", holding="begun"):
        run = await drive.submit(shell, "echo begun; test -e go || sleep 1000")
    await drive.house.pause(shell, mode=PauseMode.INTERRUPT, wait_s=5)
    assert (await drive.house.run(run)).status == "queued"
    (tmp_path / "go").touch()
    async with drive.seen(shell, "run.completed"):
        await drive.house.resume(shell)
    info = await drive.house.run(run)
    assert (info.attempts, info.result["output"]) == (2, "begun\n")
    assert await drive.house.output(run) == (b"begun\nbegun\n", 12)


@pytest.mark.parametrize("work", ["sleep 1000", "while :; do :; done"])  # a program; and the shell itself
async def test_a_frozen_command_can_be_cancelled_and_the_session_lives_on(drive: Any, shell: str, work: str) -> None:
    await said(drive, shell, "X=5")
    async with drive.seen(shell, "run.output", holding="begun"):
        run = await drive.submit(shell, f"echo begun; {work}")
    await drive.house.pause(shell, wait_s=5)
    async with drive.seen(shell, "run.cancelled", within_s=1):
        await drive.house.cancel(run)
    await drive.house.resume(shell, wait_s=5)
    assert await said(drive, shell, "echo $X") == "5\n"


@pytest.mark.parametrize(
    "command",
    [
        "sh -c 'echo begun; exec sleep 1000'",
        "{ echo begun; while :; do :; done; } 9>>busy",
        "{ echo begun; while :; do sleep 0.01; done; } | cat",
    ],
)
async def test_the_command_of_a_cancelled_or_interrupted_run_has_ended(drive: Any, shell: str, command: str) -> None:
    alone = [row.pid for row in await drive.house.processes(shell)]
    async with drive.seen(shell, "run.output", holding="begun"):
        run = await drive.submit(shell, command)
    await drive.house.pause(shell, mode=PauseMode.INTERRUPT, wait_s=5)
    assert [row.pid for row in await drive.house.processes(shell)] == alone
    assert uses(alone[0], "busy") == 0
    async with drive.seen(shell, "run.output", holding="begun"):
        await drive.house.resume(shell)
    async with drive.seen(shell, "run.cancelled"):
        await drive.house.cancel(run)
    assert [row.pid for row in await drive.house.processes(shell)] == alone
    assert uses(alone[0], "busy") == 0


async def test_a_command_that_was_cancelled_while_frozen_does_not_go_on_after_the_resume(
    drive: Any, shell: str, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "fifo")
    async with trio.lowlevel.FdStream(os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)) as writers:
        async with drive.seen(shell, "run.output", holding="begun"):
            run = await drive.submit(shell, "while :; do echo begun; sleep 1000; done 9>fifo")
        await drive.house.pause(shell, wait_s=5)
        async with drive.seen(shell, "run.cancelled", within_s=1):
            await drive.house.cancel(run)
        await drive.house.resume(shell)
        with trio.fail_after(5):
            assert await writers.receive_some() == b""


@pytest.mark.parametrize("mode", [PauseMode.FREEZE, PauseMode.INTERRUPT])
async def test_what_was_given_up_while_held_takes_nothing_of_the_next_run(
    drive: Any, shell: str, mode: PauseMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep of the first goes on while something of it is there, and the next begins when it has ended."""
    async with drive.seen(shell, "run.output", holding="begun"):
        run = await drive.submit(
            shell,
            "(setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' &); echo begun; while :; do sleep 0.05; done",
        )
    await drive.house.pause(shell, mode=mode, wait_s=5)
    async with drive.seen(shell, "run.cancelled", within_s=5):
        await drive.house.cancel(run)
        if mode is PauseMode.INTERRUPT:
            await drive.house.resume(shell)
    await drive.house.resume(shell, wait_s=5)
    assert await said(drive, shell, "sh -c 'sleep 0.7; echo whole'") == "whole\n"


@pytest.mark.parametrize("frozen", [False, True])
async def test_dispose_ends_the_command_at_once_and_leaves_nothing(drive: Any, shell: str, frozen: bool) -> None:
    async with drive.seen(shell, "run.output", holding="begun"):
        run = await drive.submit(shell, "setsid sleep 1000 & sleep 1000 & echo begun; wait")
    with trio.fail_after(5):
        while len(pids := [row.pid for row in await drive.house.processes(shell)]) < 3:  # noqa: ASYNC110 - as said below
            await trio.sleep(0.01)  # they were started, and nobody is told when they are there
    if frozen:
        await drive.house.pause(shell, wait_s=5)
    with trio.fail_after(5):
        disposed = await drive.house.dispose(shell, force=True, grace_s=20)
    assert disposed.leaks == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)  # noqa: ASYNC240 - /proc does not block
    assert (await drive.house.run(run)).status == "cancelled"


def uses(pid: int, name: str) -> int:
    """How many descriptors of a process lead to a file of this name."""
    return sum(link.readlink().name == name for link in Path(f"/proc/{pid}/fd").iterdir())


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_descriptors_are_given_back(drive: Any, shell: str) -> None:
    await said(drive, shell, "true")
    before = descriptors()
    for command in ("echo a", {"command": "cat", "stdin": "b"}, "(exit 1)"):
        await drive.run(shell, command)
    await drive.run(shell, "exit 0")
    await said(drive, shell, "true")
    assert descriptors() == before


async def test_another_shell_will_do(drive: Any, backend: str) -> None:
    shell = await drive.spawn("shell", {"shell": "/bin/sh", "backend": backend})
    await said(drive, shell, "X=5")
    assert (await drive.run(shell, "if then (")).status == "failed"
    assert await said(drive, shell, "echo $X") in ("5\n", "\n")


@pytest.mark.parametrize(
    "config, says",
    [
        ({"cwd": "/nowhere/at/all"}, "No such file or directory"),
        ({"shell": "/bin/nothing"}, "no shell '/bin/nothing'"),
        ({"shell": "/bin/true"}, "does not take commands"),
    ],
)
async def test_what_no_retry_mends_is_failed_with_a_sentence(
    drive: Any, backend: str, config: dict[str, Any], says: str
) -> None:
    ended = await drive.last_exit("shell", {**config, "backend": backend})
    assert ended["cause"] == "unmendable"
    assert says in ended["error"]


@pytest.mark.parametrize(
    "config", [{"backend": "screen"}, {"rows": 0}, {"env": {"A=B": "c"}}, {"env": {"A": "\0"}}, {"cwd": ""}, {"no": 1}]
)
async def test_a_config_that_cannot_be_meant_is_refused(house: EmbeddedHouse, config: dict[str, Any]) -> None:
    with pytest.raises(ValidationFailed):
        await house.spawn(NewEngine(kind="shell", config=config))


@pytest.mark.parametrize("input", [1, None, {"command": "a\0b"}, "a\0b", {"command": "x", "timeout_s": 0}, {}])
async def test_an_input_that_cannot_be_meant_is_refused(drive: Any, shell: str, input: Any) -> None:
    with pytest.raises(ValidationFailed):
        await drive.submit(shell, input)

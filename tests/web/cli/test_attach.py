"""`enginehouse attach`: a person at a terminal, a daemon, and the session of an engine."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.actors.engines.tmux_people import somebody
from tests.e2e.daemons import running
from web.cli.attach import _socket
from web.places import Problem


async def enginehouse(state: Path, *words: str) -> tuple[int, str, str]:
    program = "import sys; from web.cli import main; sys.exit(main())"
    env = {name: value for name, value in os.environ.items() if not name.startswith("ENGINEHOUSE_")}
    done = await trio.run_process(
        [sys.executable, "-c", program, *words], env=env | {"ENGINEHOUSE_STATE_DIR": str(state)},
        stdin=subprocess.DEVNULL, capture_stdout=True, capture_stderr=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.decode(), done.stderr.decode()


async def test_somebody_attaches_and_types_in_the_engines_shell(tmp_path: Path, program: Callable[[str], str]) -> None:
    program("tmux")
    state = tmp_path / "s"
    async with running(state):
        assert (await enginehouse(state, "spawn", "shell", "--id", "sh", "--config", "backend=tmux"))[0] == 0
        assert (await enginehouse(state, "spawn", "shell", "--id", "plain"))[0] == 0
        code, out, _ = await enginehouse(state, "attach", "sh", "--json")
        told = json.loads(out)
        assert code == 0
        assert told["command"] == ["tmux", "-S", told["socket"], "attach", "-t", "=main"]
        code, out, _ = await enginehouse(state, "attach", "sh", "--print")
        assert (code, out) == (0, f"tmux -S {told['socket']} attach -t =main\n")
        line = [sys.executable, "-c", "from web.cli import main; main(['attach', 'sh'])", "-S", told["socket"]]
        home = ["env", f"ENGINEHOUSE_STATE_DIR={state}", f"PYTHONPATH={Path(__file__).parents[3]}", *line]
        with somebody(tmp_path / "desk", home) as person:
            await person.sees("bash-")
            person.types("echo typed $((40 + 2))")
            await person.sees("typed 42")
        code, _, err = await enginehouse(state, "attach", "plain")
        assert (code, "no session to attach to: " in err) == (2, True)
        assert (await enginehouse(state, "spawn", "probe", "--id", "other"))[0] == 0
        assert (await enginehouse(state, "attach", "other"))[0] == 2
        await enginehouse(state, "spawn", "shell", "--id", "down", "--config", "backend=tmux", "--no-start")
        code, _, err = await enginehouse(state, "attach", "down")
        assert (code, "no session to attach to now" in err) == (4, True)
        assert (await enginehouse(state, "attach", "nobody"))[0] == 3
        assert (await enginehouse(state, "dispose", "sh", "--force"))[0] == 0
        assert not Path(told["socket"]).exists()  # noqa: ASYNC240 - a moment


@pytest.mark.parametrize(
    "path, says",
    [
        ("/nowhere/at/all", "not on this machine"),
        ("/etc/passwd", "not a socket of yours"),
    ],
)
def test_what_is_no_socket_of_ours_is_not_attached_to(path: str, says: str) -> None:
    with pytest.raises(Problem, match=says):
        _socket("sh", path)

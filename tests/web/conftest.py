"""A real daemon in a process of its own, for what is about processes, sockets and files."""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.web.certificates import Certificate, make

PROGRAM = "import sys; from web.cli import main; sys.exit(main())"


@dataclass
class Daemon:
    """`said`: its output until it was ready, or ended."""

    process: subprocess.Popen[str]
    state: Path
    said: str

    @property
    def file(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.state / "daemon.json").read_text())
        return found

    @property
    def url(self) -> str:
        return str(self.file["url"])

    @property
    def key(self) -> str:
        return (self.state / "admin.key").read_text().strip()

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 15) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout_s)


def environment(home: Path, **names: str) -> dict[str, str]:
    """As of a user who has just logged in; nothing of ours but what is named."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "PYTHONPATH"}}
    return {**kept, "HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2]), **names}


@pytest.fixture(scope="session")
def enginehouse() -> Callable[..., subprocess.CompletedProcess[str]]:
    """`enginehouse(home, "list", NAME="value")` runs one command to its end."""

    def run(home: Path, *arguments: str, **names: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-c", PROGRAM, *arguments]
        return subprocess.run(
            line, cwd=home, env=environment(home, **names), capture_output=True, text=True, timeout=60, check=False
        )

    return run


@pytest.fixture(scope="session")
def serving() -> Iterator[Callable[..., Daemon]]:
    """`serving(home, "--port", "0")` starts a daemon and waits until it is ready; all are ended with the session."""
    started: list[subprocess.Popen[str]] = []

    def start(home: Path, *arguments: str, **names: str) -> Daemon:
        command = [sys.executable, "-c", PROGRAM, "serve", *(arguments or ("--port", "0"))]
        process = subprocess.Popen(
            command,
            cwd=home,
            env=environment(home, **names),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        said = ""
        while " is at " not in said and (line := process.stdout.readline()):
            said += line
        state = Path(names.get("ENGINEHOUSE_STATE_DIR", str(home / ".local/state/enginehouse")))
        return Daemon(process, state, said)

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.wait(15)
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture(scope="session")
def daemon(serving: Callable[..., Daemon], tmp_path_factory: pytest.TempPathFactory) -> Daemon:
    """One daemon that tests share; each uses engines of its own."""
    return serving(tmp_path_factory.mktemp("home"))


@pytest.fixture
def certificate(program: Callable[[str], str], tmp_path: Path) -> Callable[..., Certificate]:
    """`certificate()` makes one for localhost, 127.0.0.1 and ::1, signed by itself, each time another."""
    count = itertools.count()

    def made() -> Certificate:
        folder = tmp_path / f"certificate{next(count)}"
        folder.mkdir()
        return make(program("openssl"), folder)

    return made

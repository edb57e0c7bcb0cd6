"""The command line, in process, against the daemon that tests share."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from web.cli import main

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(daemon: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """`cli("list")` gives (exit code, stdout, stderr); the daemon is found by its state folder, as on a machine."""
    for name in (
        "ENGINEHOUSE_URL",
        "ENGINEHOUSE_API_KEY",
        "ENGINEHOUSE_HOST",
        "ENGINEHOUSE_PORT",
        "ENGINEHOUSE_CONFIG",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ENGINEHOUSE_STATE_DIR", str(daemon.state))

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def probe(cli: Cli, request: pytest.FixtureRequest) -> str:
    """A probe of this test alone."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:60].strip("-")
    assert cli("spawn", "probe", "--id", name)[:2] == (0, f"{name}\n")
    return name

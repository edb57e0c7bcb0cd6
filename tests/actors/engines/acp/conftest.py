"""Agents for the tests of the acp kind: the SDK's example, and one of our own that does what a test says."""

import json
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acp.sdk import installed

HERE = Path(__file__).parent
BEGIN = f"import sys; sys.path.insert(0, {str(HERE)!r}); sys.dont_write_bytecode = True\nfrom odd_agent import *\n"


@pytest.fixture(scope="session")
def sdk() -> Path:
    """Where the SDK is, as the preset `example` wants it."""
    return installed()


@pytest.fixture
def odd(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`odd(script)` is the config of an agent that does what the script says, in a directory of its own."""

    def config(script: str, **more: Any) -> dict[str, Any]:
        (tmp_path / "agent").mkdir(exist_ok=True)
        argv = [sys.executable, "-S", "-c", BEGIN + textwrap.dedent(script)]
        return {"argv": argv, "cwd": str(tmp_path / "agent"), **more}

    return config


@pytest.fixture
def told(tmp_path: Path) -> Callable[[str], list[dict[str, Any]]]:
    """`told("session/cancel")`: what the agent was told, by method; all of it for an empty one."""

    def read(method: str = "") -> list[dict[str, Any]]:
        path = tmp_path / "agent" / "heard.jsonl"
        whole = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""  # the last may be half written
        found = [json.loads(line) for line in whole.splitlines()]
        return [message for message in found if not method or message.get("method") == method]

    return read

"""The agents that are driven: how each is set up for the tests' model, and what its tools are called."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actors.engines.acp.presets import PRESETS
from tests.models.script import Call

__all__ = ["CAST", "Actor"]

MODEL = "test-model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """One agent.

    `env`, `files`: what its environment has beside the preset's, and what its home holds, by the model's address.
    `write`: the call that writes a text into a file; `shell`: the one that runs a command. `denied`: how the run ends
    when a permission is refused; `hangs_up`: whether a cancelled turn ends its request to the model at once, and not
    only when the model goes on.
    """

    preset: str
    env: Callable[[str], dict[str, str]]
    write: Callable[[Path, str], Call]
    shell: Callable[[str], Call]
    files: Callable[[str], dict[str, str]] = field(default=lambda url: {})
    denied: tuple[str, str] = ("completed", "end_turn")
    hangs_up: bool = True

    @property
    def program(self) -> str:
        return PRESETS[self.preset].argv[0]


def _opencode(url: str) -> dict[str, str]:
    provider: dict[str, Any] = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Tests",
        "options": {"baseURL": f"{url}/v1", "apiKey": "none"},
        "models": {MODEL: {"name": MODEL, "limit": {"context": 100_000, "output": 4096}}},
    }
    model = f"tests/{MODEL}"
    config = {"provider": {"tests": provider}, "model": model, "small_model": model, "share": "disabled"}
    return {"OPENCODE_CONFIG_CONTENT": json.dumps(config), "OPENCODE_DISABLE_MODELS_FETCH": "1"}


def _codex(url: str) -> dict[str, str]:
    """Everything is asked about; codex's own sandbox wants a home outside /tmp, and is left out."""
    return {
        ".codex/config.toml": f"""
model = "{MODEL}"
model_provider = "tests"
approval_policy = "untrusted"
sandbox_mode = "danger-full-access"
[analytics]
enabled = false
[model_providers.tests]
name = "Tests"
base_url = "{url}/v1"
wire_api = "responses"
"""
    }


QUIET = json.dumps({"privacy": {"usageStatisticsEnabled": False}, "general": {"enableAutoUpdate": False}})

CAST = {
    actor.preset: actor
    for actor in (
        Actor(
            preset="claude",
            env=lambda url: {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "none", "ANTHROPIC_MODEL": MODEL},
            write=lambda path, text: Call("Write", {"file_path": str(path), "content": text}),
            shell=lambda command: Call("Bash", {"command": command, "description": "As asked"}),
        ),
        Actor(
            preset="codex",
            env=lambda url: {},
            files=_codex,
            write=lambda path, text: Call("exec_command", {"cmd": f"printf %s '{text}' > {path}"}),
            shell=lambda command: Call("exec_command", {"cmd": command}),
            denied=("failed", "cancelled"),
            hangs_up=False,
        ),
        Actor(
            preset="opencode",
            env=_opencode,
            write=lambda path, text: Call("write", {"filePath": str(path), "content": text}),
            shell=lambda command: Call("bash", {"command": command, "description": "As asked"}),
        ),
        Actor(
            preset="qwen",
            env=lambda url: {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": "none", "OPENAI_MODEL": MODEL},
            files=lambda url: {".qwen/settings.json": QUIET},
            write=lambda path, text: Call("write_file", {"file_path": str(path), "content": text}),
            shell=lambda command: Call(
                "run_shell_command", {"command": command, "description": "As asked", "is_background": False}
            ),
        ),
    )
}
"""By preset."""

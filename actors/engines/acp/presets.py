"""How known agents are started: data, read by the kind's config and by `enginehouse doctor`.

What an agent needs besides, and what each of them does differently, is told in docs/agents.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["PRESETS", "Preset"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One agent. All but `name` and `argv` can be said otherwise by an engine's config.

    Args:
        name: What a config calls it.
        title: What people call it.
        argv: The program and its arguments.
        env: What its environment has besides.
        auth: The method by which it is authenticated; None: not at all.
        package: What to install, `npm:<name>` or `pypi:<name>`; None: see `notes`.
        needs: What has to be set or done before it can answer a prompt.
        script: Whether `argv` begins with an interpreter, whose first argument is a file in the engine's directory.
        notes: What has to be known before it is used, in a sentence or two.
        tested: Whether a test of ours drives it.
        tried: The version that was driven last, by a test or by hand; empty: none.
    """

    name: str
    argv: tuple[str, ...]
    title: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    auth: str | None = None
    package: str | None = None
    script: bool = False
    needs: str = ""
    notes: str = ""
    tested: bool = False
    tried: str = ""

    @property
    def remedy(self) -> str:
        """What to do where it is missing, as a sentence; empty: that is not known."""
        where = " in the engine's directory" if self.script else ""
        return f"Install {self.package}{where}." if self.package else self.notes


PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="claude",
            title="Claude Code, by its ACP adapter",
            argv=("claude-agent-acp",),
            env={"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"},
            package="npm:@agentclientprotocol/claude-agent-acp",
            needs="ANTHROPIC_API_KEY, or a login kept in HOME; ANTHROPIC_BASE_URL for another endpoint.",
            notes="As root it offers the mode bypassPermissions only with IS_SANDBOX=1.",
            tested=True,
            tried="0.49.0",
        ),
        Preset(
            name="codex",
            title="Codex, by its ACP adapter",
            argv=("codex-acp",),
            env={"NO_BROWSER": "1"},
            package="npm:@zed-industries/codex-acp",
            needs="A login or a model provider in CODEX_HOME; what it asks about is its approval_policy there.",
            notes="A refused permission ends its turn as cancelled. What a cancelled command started goes on running "
            "until the engine ends.",
            tested=True,
            tried="0.16.0",
        ),
        Preset(
            name="example",
            title="The protocol's own example agent",
            argv=("node", "node_modules/@agentclientprotocol/sdk/dist/examples/agent.js"),
            package="npm:@agentclientprotocol/sdk@1.9.0",
            script=True,
            notes="Installed in the engine's own directory; it acts as if it worked. Later versions ship no example.",
            tested=True,
            tried="1.9.0",
        ),
        Preset(
            name="gemini",
            title="Gemini CLI",
            argv=("gemini", "--acp"),
            env={"NO_BROWSER": "1"},
            package="npm:@google/gemini-cli",
            needs="GEMINI_API_KEY, or a login kept in HOME; GOOGLE_GEMINI_BASE_URL for another endpoint.",
            notes="It reports its use unless privacy.usageStatisticsEnabled is false in its settings.",
            tried="0.61.0",
        ),
        Preset(
            name="goose",
            title="Goose",
            argv=("goose", "acp"),
            needs="GOOSE_PROVIDER, GOOSE_MODEL and the provider's key, or what `goose configure` kept in HOME.",
            notes="Its program comes from its makers, not from a registry of packages.",
        ),
        Preset(
            name="opencode",
            title="opencode",
            argv=("opencode", "acp"),
            env={
                "OPENCODE_DISABLE_AUTOUPDATE": "1",
                "OPENCODE_PERMISSION": '{"edit":"ask","bash":"ask","webfetch":"ask"}',
            },
            package="npm:opencode-ai",
            needs="A provider: by `opencode auth login`, by the provider's own key, or in OPENCODE_CONFIG_CONTENT.",
            notes="By itself it asks for nothing; the preset's OPENCODE_PERMISSION makes it ask.",
            tested=True,
            tried="1.18.33",
        ),
        Preset(
            name="qwen",
            title="Qwen Code",
            argv=("qwen", "--acp"),
            package="npm:@qwen-code/qwen-code",
            needs="OPENAI_API_KEY, OPENAI_BASE_URL and OPENAI_MODEL, or a login kept in HOME.",
            notes="It says that it can resume a session and cannot; it is loaded in place of that. It reports its use "
            "unless privacy.usageStatisticsEnabled is false in its settings.",
            tested=True,
            tried="0.15.10",
        ),
    )
}
"""By name."""

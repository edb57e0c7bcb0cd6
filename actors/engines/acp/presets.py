"""How known agents are started: data, read by the kind's config and by `enginehouse doctor`."""

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
        notes: What has to be known before it is used, in a sentence or two.
        tested: Whether a test of ours drives it.
    """

    name: str
    argv: tuple[str, ...]
    title: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    auth: str | None = None
    package: str | None = None
    notes: str = ""
    tested: bool = False


PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="example",
            title="The protocol's own example agent",
            argv=("node", "node_modules/@agentclientprotocol/sdk/dist/examples/agent.js"),
            package="npm:@agentclientprotocol/sdk@1.9.0",
            notes="Installed in the engine's own directory; it acts as if it worked. Later versions ship no example.",
            tested=True,
        ),
    )
}
"""By name."""

"""Presets are data: what they say fits what a config takes, and no secret is among it."""

import pytest
from pydantic import TypeAdapter

from actors.engines.acp.config import AcpConfig
from actors.engines.acp.presets import PRESETS
from actors.engines.programs import Environment


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_config(name: str) -> None:
    preset = AcpConfig(agent=name).preset
    assert (preset.argv, preset.env, preset.auth) == (PRESETS[name].argv, PRESETS[name].env, PRESETS[name].auth)
    assert TypeAdapter(Environment).validate_python(dict(preset.env)) == preset.env


def test_the_agents_that_people_ask_for_have_one() -> None:
    assert {"opencode", "claude", "codex", "gemini", "qwen", "goose", "example"} <= set(PRESETS)


def test_what_no_test_drives_is_not_called_tested() -> None:
    from tests.agents.cast import CAST

    assert {name for name, preset in PRESETS.items() if preset.tested} == {*CAST, "example"}

"""Agents are looked for, greeted, and told as they are."""

import sys
from pathlib import Path
from typing import Any

from actors.engines.acp.presets import Preset
from web.doctor import agent

SPEAKS = """#!{python} -S
import json, sys
asked = json.loads(sys.stdin.readline())
info = {{"name": "made", "version": "7"}}
print(json.dumps({{"id": asked["id"], "result": {{"protocolVersion": {version}, "agentInfo": info}}}}), flush=True)
sys.stdin.read()
"""


def preset(name: str = "made-agent", **more: Any) -> Preset:
    return Preset(name="made", argv=(name, "--acp"), package="npm:made", needs="A key.", **more)


def installed(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "made-agent"
    file.write_text(text)
    file.chmod(0o755)
    return file


async def test_what_is_not_here_says_how_to_get_it(tmp_path: Path) -> None:
    found = await agent(preset(), {"PATH": str(tmp_path)}, tmp_path)
    assert (found.status, "Install npm:made." in found.detail) == ("absent", True)


async def test_what_is_on_the_path_is_greeted(tmp_path: Path) -> None:
    file = installed(tmp_path / "bin", SPEAKS.format(python=sys.executable, version=1))
    found = await agent(preset(tested=True), {"PATH": str(tmp_path / "bin")}, tmp_path)
    assert (found.status, found.facts["version"], found.facts["argv"]) == ("ok", "7", [str(file), "--acp"])
    assert "Needs: A key." in found.detail
    assert "Untested" not in found.detail


async def test_what_npm_put_beside_us_is_found_too_and_marked_when_untested(tmp_path: Path) -> None:
    installed(tmp_path / "node_modules" / ".bin", SPEAKS.format(python=sys.executable, version=1))
    found = await agent(preset(), {"PATH": "/nowhere"}, tmp_path)
    assert (found.status, found.facts["tested"], "Untested" in found.detail) == ("ok", False, True)


async def test_another_version_of_the_protocol_is_wrong(tmp_path: Path) -> None:
    installed(tmp_path, SPEAKS.format(python=sys.executable, version=2))
    found = await agent(preset(), {"PATH": str(tmp_path)}, tmp_path)
    assert (found.status, "version 2" in found.detail) == ("wrong", True)


async def test_what_does_not_greet_is_wrong_and_says_why(tmp_path: Path) -> None:
    installed(tmp_path, "#!/bin/sh\necho no key >&2; exit 5\n")
    found = await agent(preset(), {"PATH": str(tmp_path)}, tmp_path)
    assert (found.status, "exit status 5" in found.detail, "no key" in found.detail) == ("wrong", True, True)


async def test_a_script_of_nodes_is_looked_for_beside_us(tmp_path: Path) -> None:
    script = Preset(name="made", argv=("node", "node_modules/made/agent.js"), script=True, notes="It is small.")
    assert (await agent(script, {"PATH": "/usr/bin:/usr/local/bin"}, tmp_path)).status == "absent"

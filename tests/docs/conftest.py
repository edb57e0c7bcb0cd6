"""One daemon for every page whose commands need one."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from web.places import DaemonFile


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment in which `enginehouse` finds a running daemon, and a program its address and key."""
    state = tmp_path_factory.mktemp("docs") / "state"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ENGINEHOUSE_")}
    environ |= {"ENGINEHOUSE_STATE_DIR": str(state), "XDG_CONFIG_HOME": str(state)}
    environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
    daemon = subprocess.Popen(
        ["enginehouse", "serve"], env=environ | {"ENGINEHOUSE_PORT": "0"}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert daemon.stdout is not None
        assert "is at http" in daemon.stdout.readline()
        found = DaemonFile.read(state)
        assert found is not None
        key = (state / "admin.key").read_text().strip()
        yield environ | {"ENGINEHOUSE_URL": found.url, "ENGINEHOUSE_API_KEY": key}
    finally:
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 0
        assert daemon.stdout is not None
        daemon.stdout.close()
